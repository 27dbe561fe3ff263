"""A whole site for fault tests: the adapter as its user starts it, a PACS, senders, and accounts that must match."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from machine import descendants
from pynetdicom import AE
from pynetdicom.association import Association

from clara_dicom_adapter.clara.model import JobState, PlatformJob
from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.cli.running import AdapterState, AdapterStatus, read_status
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import Peer, SendSettings, TimeLimits, Verdict, send
from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.resent import came_too_late
from clara_dicom_adapter.spool import Spool, SpoolRole, SpoolUsage
from support.far_ends import Modality, Pacs

PIPELINE = Path(__file__).with_name("copy_pipeline")
HOLD_SECONDS = 15
"""Longer than everything takes to come back on a busy machine, so that interrupted associations are merged."""
SLACK = timedelta(seconds=3)
"""From an instance to its batch, and from a group's closing to its submission, on a busy machine."""
EVERY_STATE = (JobState.PENDING, JobState.RUNNING, JobState.STOPPED)


def wait_until(what: str, condition: Callable[[], bool], seconds: float = 90) -> None:
    """Wait for a condition; its absence after so long is the failure, told in words."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


class Site:
    """One data folder and the adapter on it."""

    def __init__(self, root: Path, pacs: Pacs) -> None:
        self.data = DataFolder(root / "data")
        self.pacs = pacs
        self.acknowledged: dict[str, set[str]] = {}
        """AE title to the SOP instance UIDs that were answered 0000."""
        self.unanswered: dict[str, set[str]] = {}
        """AE title to those that were sent whole and got no answer, so that they were sent again."""
        self._payloads: dict[str, list[str]] = {}
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._config = root / "appsettings.json"
        self._log = (root / "adapter.log").open("ab")
        self.data.root.mkdir(parents=True)
        shutil.copytree(PIPELINE, self.data.pipelines / "copy")

    # ---- the adapter ----

    def configure(
        self,
        scp: Mapping[str, Any] | None = None,
        *,
        database: str = "",
        services: Mapping[str, Any] | None = None,
        **platform: Any,
    ) -> None:
        """Write settings that suit a test: any free port, short delays, a disk that may be nearly full.

        Args:
            services: Those that run elsewhere.
        """
        self._config.write_text(
            json.dumps(
                {
                    "ConnectionStrings": {"DicomAdapterDatabase": database},
                    "DicomAdapter": {
                        "dicom": {
                            "scp": {
                                "port": 0,
                                "host": "127.0.0.1",
                                "interruptedHoldSeconds": HOLD_SECONDS,
                                **(scp or {}),
                            },
                            "scu": {"export": {"pollFrequencyMs": 100, "connectRetryDelaySeconds": 1}},
                        },
                        "services": {
                            "platform": {
                                "retryDelaySeconds": 1,
                                "callTimeoutSeconds": 5,
                                "embeddedPort": 0,
                                "embeddedResultsPort": 0,
                                **platform,
                            },
                            "temporal": {"embeddedPort": 0, "embeddedUiPort": 0},
                            **(services or {}),
                        },
                        "storage": {
                            "watermarkPercent": 100,
                            "reserveSpaceGB": 0.1,
                            "reconcileIntervalSeconds": 3,
                            "preparedSpaceMB": 70,
                        },
                        "api": {"port": 0},
                    },
                }
            )
        )

    def configure_as(self, text: str) -> None:
        """Write a settings file of any version as it is."""
        self._config.write_text(text)

    def start(self) -> None:
        if not self._config.exists():
            self.configure()
        command = [sys.executable, "-m", "clara_dicom_adapter.cli", "dicom", "start"]
        self._process = subprocess.Popen(
            [*command, "--config", str(self._config), "--data-dir", str(self.data.root)],
            stdout=self._log,
            stderr=self._log,
        )
        self.wait_ready()

    def configure_entities(self) -> None:
        """One AE title per association, one window, a source, and where results go; the adapter need not run."""
        self.clara("create", "aetitle", "-a", "ASSOC", "pipeline-copy=copy", "timeout=0")
        self.clara("create", "aetitle", "-a", "WINDOW", "pipeline-copy=copy", "timeout=2")
        self.clara("create", "src", "-a", "CT1", "-i", "127.0.0.1")
        self.clara("create", "dest", "-n", "PACS", "-a", "PACS", "-i", "127.0.0.1", "-p", str(self.pacs.port))

    def wait_ready(self) -> None:
        def running() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"the adapter ended with {self._process.returncode}"
            status = read_status(self.data)
            return (
                status is not None
                and status.pid == self._process.pid
                and status.state is AdapterState.RUNNING
                and all(part.pid for part in status.parts)
                and all(part.state == "ready" for part in status.parts)
            )

        wait_until("every part is ready", running, 120)

    @property
    def status(self) -> AdapterStatus:
        status = read_status(self.data)
        assert status is not None
        return status

    def kill(self, part: str) -> None:
        """SIGKILL to one part; the supervisor starts it again."""
        pid = self.status.part("receiver" if part == "listener" else part).pid
        victims = [pid] if pid is not None else []
        if part == "listener" and pid is not None:
            victims = descendants(pid)[:1]
        for victim in victims:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)

    def kill_everything(self) -> None:
        """SIGKILL to the supervisor; every part has to die with it."""
        assert self._process is not None
        pids = [part.pid for part in self.status.parts if part.pid]
        self._process.kill()
        self._process.wait()
        wait_until("every part is gone", lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 60)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)
        self._log.close()

    @contextmanager
    def frozen(self, part: str) -> Iterator[None]:
        """A part that is there and answers nothing, with everything it has started."""
        pid = self.status.part(part).pid
        assert pid
        family = [pid, *descendants(pid)]
        for member in family:
            os.kill(member, signal.SIGSTOP)
        try:
            yield
        finally:
            for member in family:
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGCONT)

    def clara(self, *arguments: str) -> str:
        """Run a command of the command line on this data folder."""
        done = subprocess.run(
            [sys.executable, "-m", "clara_dicom_adapter.cli", "dicom", *arguments, "--data-dir", str(self.data.root)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    # ---- senders ----

    @property
    def dicom_port(self) -> int:
        return int(self.status.addresses["dicom"].rpartition(":")[2])

    def send(self, ae_title: str, files: Sequence[Path], *, patience: float = 90) -> None:
        """Send until everything is acknowledged, as a modality does: what had no answer is sent again."""
        missing = {read_meta(path).sop_instance_uid: path for path in files}
        deadline = time.monotonic() + patience
        settings = SendSettings("CT1", TimeLimits(connect=5, association=10, response=20), retries=0, retry_delay=0)
        while missing:
            assert time.monotonic() < deadline, f"{len(missing)} instances were not acknowledged in {patience:.0f} s"
            paths = list(missing.values())

            def note(result: Any, paths: list[Path] = paths) -> None:
                uid = read_meta(paths[result.index]).sop_instance_uid
                if result.delivered:
                    missing.pop(uid, None)
                    self._acknowledge(ae_title, uid)
                elif result.verdict is Verdict.UNKNOWN:
                    self._leave_unanswered(ae_title, uid)

            with suppress(AdapterError, KeyError):  # the receiver is being started again
                send(paths, Peer(ae_title, "127.0.0.1", self.dicom_port), settings, note)
            if missing:
                time.sleep(0.1)

    @contextmanager
    def modality(self, ae_title: str, files: Sequence[Path]) -> Iterator[Modality]:
        """An association of which every step is the test's; aborted when it is left open."""
        ae = AE("CT1")
        ae.dimse_timeout = ae.network_timeout = 30
        for sop_class, transfer_syntax in {
            (meta.sop_class_uid, meta.transfer_syntax_uid) for meta in map(read_meta, files)
        }:
            ae.add_requested_context(sop_class, transfer_syntax)
        attempts: list[Association] = []

        def established() -> bool:  # not before the receiver has read what was just configured
            attempts.append(ae.associate("127.0.0.1", self.dicom_port, ae_title=ae_title))
            return attempts[-1].is_established

        wait_until("the association is accepted", established, 30)
        association = attempts[-1]
        try:
            yield Modality(association, partial(self._acknowledge, ae_title), partial(self._leave_unanswered, ae_title))
        finally:
            if association.is_established:
                association.abort()

    def _doubled(self, ae_title: str, in_two_jobs: set[str]) -> set[str]:
        """Those that should not be: all whose reply was not lost, and that did not come again too late."""
        unanswered = in_two_jobs & self.unanswered.get(ae_title, set())
        if not unanswered:
            return in_two_jobs
        engine = open_engine("", self.data)
        try:
            return in_two_jobs - came_too_late(engine, ae_title, unanswered, SLACK)
        finally:
            engine.dispose()

    def _leave_unanswered(self, ae_title: str, sop_instance_uid: str) -> None:
        with self._lock:
            self.unanswered.setdefault(ae_title, set()).add(sop_instance_uid)

    def _acknowledge(self, ae_title: str, sop_instance_uid: str) -> None:
        with self._lock:
            self.acknowledged.setdefault(ae_title, set()).add(sop_instance_uid)

    def count(self, ae_title: str) -> int:
        """How many instances an AE title has acknowledged."""
        return len(self.acknowledged.get(ae_title, ()))

    def send_aside(self, ae_title: str, files: Sequence[Path]) -> threading.Thread:
        """Send from a thread; join it to see its failure."""
        thread = _Thread(lambda: self.send(ae_title, files))
        thread.start()
        return thread

    # ---- the accounts ----

    def jobs(self) -> list[PlatformJob]:
        with PlatformClient(self.status.addresses["platform"]) as platform:
            return platform.find_jobs(EVERY_STATE)

    def payload(self, job: PlatformJob) -> list[str]:
        """SOP instance UIDs in a job's input; asked once of a job that is over, because it does not change any more."""
        if job.job_id in self._payloads:
            return self._payloads[job.job_id]
        with PlatformClient(self.status.addresses["platform"]) as platform:
            names = [file.name for file in platform.payload_files(job.payload_id)]
        found = [Path(name).stem for name in names if name.startswith("input/")]
        if job.state is JobState.STOPPED:
            self._payloads[job.job_id] = found
        return found

    @property
    def spool(self) -> Path:
        return self.data.payloads / "spool"

    def associations(self) -> set[Path]:
        """Folders of associations in the spool."""
        return {path for path in (self.spool / "associations").iterdir() if len(path.name) == 32}

    def usage(self) -> SpoolUsage:
        """The spool's index in figures."""
        spool = Spool.open(self.spool, SpoolRole.TOOL)
        try:
            return spool.usage()
        finally:
            spool.close()

    def accounts(self) -> "Accounts":
        """What has become of everything, as the platform, the PACS and the spool tell it."""
        jobs = self.jobs()
        done = [job for job in jobs if job.state is JobState.STOPPED]
        places: dict[str, Counter[str]] = {}
        for job in jobs:
            ae_title = job.metadata["Source"].split(" ")[0]
            places.setdefault(ae_title, Counter()).update(self.payload(job))
        in_spool = self.usage().instances
        expected = {result_uid(job.job_id, uid) for job in done for uid in self.payload(job)}
        return Accounts(
            missing={ae_title: uids - set(places.get(ae_title, ())) for ae_title, uids in self.acknowledged.items()},
            doubled={
                ae_title: self._doubled(ae_title, {uid for uid, n in found.items() if n > 1})
                for ae_title, found in places.items()
            },
            unfinished=len(jobs) - len(done),
            faulted=[job.job_id for job in done if job.status.name != "HEALTHY"],
            not_exported=expected - set(self.pacs.received),
            unexpected=set(self.pacs.received) - expected,
            in_spool=in_spool,
            jobs=len(jobs),
        )

    def settle(self, seconds: float = 120, *, never_started: int = 0) -> "Accounts":
        """Wait until everything has gone its way, and check that all accounts match.

        Args:
            never_started: Jobs that were created and given up.
        """
        latest: list[Accounts] = []

        def balanced() -> bool:
            try:
                if self.usage().instances:
                    return False  # nor is the rest asked: those who still work need the processor
                latest[:] = [self.accounts()]
            except (AdapterError, KeyError, AssertionError):
                return False  # a part is being started again
            return latest[0].balanced(never_started)

        try:
            wait_until("the accounts match", balanced, seconds)
        except AssertionError as error:
            with suppress(AdapterError, KeyError, AssertionError):
                latest[:] = [self.accounts()]
            raise AssertionError(f"{error}: {latest}") from None
        assert not any(latest[0].doubled.values()), latest[0].doubled
        return latest[0]


@dataclass
class Accounts:
    """Balanced when nothing is on its way and nothing is lost."""

    missing: dict[str, set[str]]
    doubled: dict[str, set[str]]
    unfinished: int
    faulted: list[str]
    not_exported: set[str]
    unexpected: set[str]
    in_spool: int
    jobs: int

    def balanced(self, never_started: int) -> bool:
        return not (
            any(self.missing.values())
            or self.unfinished != never_started
            or self.faulted
            or self.not_exported
            or self.unexpected
            or self.in_spool
        )


def result_uid(job_id: str, sop_instance_uid: str) -> str:
    """UID of what the test pipeline makes of an instance; copy_pipeline/copy_instances.py makes the same."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{job_id}/{sop_instance_uid}').int}"


class _Thread(threading.Thread):
    """A thread whose exception comes out of ``join``."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error

    def join(self, timeout: float | None = None) -> None:
        super().join(timeout)
        if self._error is not None:
            raise self._error
