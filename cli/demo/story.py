"""What happens in the demo, in order."""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.cli.demo.accounts import EVERY_STATE, Accounts, Auditor
from clara_dicom_adapter.cli.demo.modality import CALLING_AE_TITLE, Modality, Sent, Stack
from clara_dicom_adapter.cli.demo.pacs import AE_TITLE as PACS_AE_TITLE
from clara_dicom_adapter.cli.demo.pacs import HOST
from clara_dicom_adapter.cli.demo.site import Site, wait_until
from clara_dicom_adapter.configuration import reader
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.errors import InvalidInstance, TransientError
from clara_dicom_adapter.records.database import open_engine

SLICES: Final = 120
SIZE: Final = 512
DESTINATION: Final = "MYPACS"
"""Where the example pipelines send their results to."""
PIPELINES: Final[Mapping[str, Sequence[str]]] = {"MIP": ("mip",), "CT": ("mip", "bone-seg")}
"""Per AE title; MIP makes a group of each association, CT of each study that rests for some seconds."""
WINDOW_SECONDS: Final = 4
RESULTS_SECONDS: Final = 120.0
KILL_SECONDS: Final = 60.0
"""How long a moment to kill a part is waited for."""
LOOK_SECONDS: Final = 0.25
MEDIA_STORAGE_DIRECTORY: Final = "1.2.840.10008.1.3.10"

Tell = Callable[[str], None]


@dataclass
class Story:
    """What has happened.

    Attributes:
        killed: Parts that were killed, and that came back.
    """

    sent: list[Sent] = field(default_factory=list[Sent])
    accounts: Accounts = field(default_factory=Accounts)
    killed: list[str] = field(default_factory=list[str])
    ready_seconds: float = 0.0
    results_seconds: float = 0.0


class Stage:
    """The demo on a site.

    Args:
        examples: The ``examples`` folder of a checkout.
        tell: Shows progress.
    """

    def __init__(self, site: Site, examples: Path, tell: Tell) -> None:
        self._site = site
        self._examples = examples
        self._tell = tell
        self.study = site.root / "study"

    def play(self) -> Story:
        """Everything; what does not match is in the accounts, what cannot go on raises an AdapterError."""
        story = Story()
        begun = time.monotonic()
        self._tell(f"starting the adapter and {self._site.pacs.product} as the PACS")
        self._site.begin(self._examples / "pipelines")
        script = self._examples / "studies" / "make_ct.py"
        self._site.begin_study(script, self.study, "--slices", str(SLICES), "--size", str(SIZE))
        self._site.begin_pacs()
        self._configure()
        self._site.wait_study()
        self._site.wait_ready()
        story.ready_seconds = time.monotonic() - begun
        self._tell("sending pydicom's files, and a CT study over four associations at once")
        begun = time.monotonic()
        self._send(story)
        self._tell("everything is acknowledged; waiting for the results at the PACS")
        story.accounts = self._settle(story.sent)
        story.results_seconds = time.monotonic() - begun
        return story

    # ---- before ----

    def _configure(self) -> None:
        """As a user does; the adapter is still starting, which makes no difference."""
        for ae_title, pipelines in PIPELINES.items():
            timeout = 0 if ae_title == "MIP" else WINDOW_SECONDS
            words = [f"pipeline-{name}={name}" for name in pipelines]
            self._site.clara("create", "aetitle", "-a", ae_title, *words, f"timeout={timeout}")
        self._site.clara("create", "src", "-a", CALLING_AE_TITLE, "-i", HOST)
        port = str(self._site.pacs.dicom_port)
        self._site.clara("create", "dest", "-n", DESTINATION, "-a", PACS_AE_TITLE, "-i", HOST, "-p", port)

    # ---- sending, with parts killed in the middle ----

    def _send(self, story: Story) -> None:
        slices = sorted(self.study.glob("*.dcm"))
        files = Sent(Stack("MIP", "pydicom's files", real_files()))
        whole = Sent(Stack("MIP", "CT study", slices))
        parts = [Sent(Stack("CT", f"CT study, part {part + 1} of 3", slices[part::3])) for part in range(3)]
        story.sent += [files, whole, *parts]
        with PlatformClient(self._site.status.addresses["platform"]) as platform:
            modality = Modality(self._site.receiver)
            with modality.sending([files]):
                self._kill(story, "worker", lambda: _has_begun(platform))
            restarts = self._site.restarts("receiver")
            with modality.sending([whole, *parts]):
                if modality.wait_for(lambda: whole.instances >= len(slices) // 2, KILL_SECONDS):
                    self._kill(story, "receiver", lambda: True, restarts)

    def _kill(self, story: Story, part: str, moment: Callable[[], bool], restarts: int | None = None) -> None:
        """``kill -9`` at a moment; :meth:`_settle` sees to it that the part is back."""
        before = self._site.restarts(part) if restarts is None else restarts
        wait_until(f"a moment to kill the {part}", moment, KILL_SECONDS)
        self._site.kill(part)
        self._tell(f"killed the {part} with kill -9")
        wait_until(f"the {part} is back", lambda: self._site.back_again(part, before), KILL_SECONDS)
        story.killed.append(part)

    # ---- after ----

    def _settle(self, sent: Sequence[Sent]) -> Accounts:
        """Wait until the accounts match; when they do not in time, return them as they are."""
        settings = reader.load(self._site.root / "appsettings.json", self._site.data, os.environ)
        engine = open_engine(settings, self._site.data)
        accounts = Accounts()
        try:
            with PlatformClient(self._site.status.addresses["platform"]) as platform:
                auditor = Auditor(
                    platform=platform,
                    engine=engine,
                    pacs=self._site.pacs,
                    spool=self._site.data.payloads / "spool",
                    scratch=self._site.root,
                    pipelines=PIPELINES,
                )
                deadline = time.monotonic() + RESULTS_SECONDS
                pause = threading.Event()
                while not accounts.ok and time.monotonic() < deadline:
                    with suppress(TransientError):  # asked again
                        accounts = auditor.take(sent)
                    pause.wait(0 if accounts.ok else LOOK_SECONDS)
        finally:
            engine.dispose()
        return accounts


def _has_begun(platform: PlatformClient) -> bool:
    """Whether the worker has made a job, whose files it is about to upload."""
    try:
        return bool(platform.find_jobs(EVERY_STATE))
    except TransientError:
        return False


def real_files() -> list[Path]:
    """The DICOM files that come with pydicom and can be sent: part 10, with class, instance and transfer syntax."""
    import pydicom.data

    folder = Path(pydicom.data.__file__).parent / "test_files"
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file() and read_meta(path).sop_class_uid != MEDIA_STORAGE_DIRECTORY:
                found.append(path)
        except InvalidInstance:
            continue
    return found
