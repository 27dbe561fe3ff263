"""A listener in its own process, which has to stand changed associations and stay as it was.

It stores into segments and prepared files, and into new ones when there are none left.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from unittest import mock

from clara_dicom_adapter.configuration.settings import Durability, ScpSettings, StorageSettings
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.log import LogSetup
from clara_dicom_adapter.receiver.known import KnownCopy
from clara_dicom_adapter.receiver.listeners import listen
from clara_dicom_adapter.receiver.places import Places
from clara_dicom_adapter.receiver.reports import (
    REPORTS,
    Ended,
    FilesMade,
    FilesWanted,
    ListenerSetup,
    Listening,
    Report,
    Stop,
)
from clara_dicom_adapter.spool import AssociationFolder, Preparer, Spool, SpoolRole, preparing
from clara_dicom_adapter.spool.models import ASSOCIATIONS
from clara_dicom_adapter.spool.prepared import PREPARED
from clara_dicom_adapter.spool.replay import copies_without_file
from clara_dicom_adapter.spool.seal import seal_of
from support.fuzzed_messages import Stored
from support.mutations import calling_ae_title
from support.receiving import LOOPBACK, Configured

ANSWER_SECONDS: Final = 20.0
"""Much longer than anything takes; the listener's own limits are longer."""
_PREPARED_BYTES: Final = 70_000_000


class ListenerUnderTest:
    """A listener, what it reports, and what it leaves."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        port: int,
        channel: socket.socket,
        spool: Spool,
        preparer: Preparer,
    ) -> None:
        self.process = process
        self.port = port
        self.sealed = 0
        """Instances so far that were received into segments and prepared files."""
        self._preparer = preparer
        self._channel = channel
        self._lines = channel.makefile("rb")
        self._spool = spool
        self._filer = spool.filer()
        self.log = spool.root.parent / "listener.log"

    def begun(self) -> None:
        """Wait until it listens."""
        self._report(lambda report: isinstance(report, Listening))

    def ended(self, request: bytes) -> Ended:
        """How the association ended that was asked for; its calling AE title tells it from others."""
        title = calling_ae_title(request)
        ended = self._report(lambda one: isinstance(one, Ended) and one.association.calling_ae_title == title)
        assert isinstance(ended, Ended)
        return ended

    def _report(self, wanted: Callable[[Report], bool]) -> Report:
        while line := self._lines.readline():
            report = REPORTS.validate_json(line)
            if isinstance(report, FilesWanted):
                made = FilesMade(number=report.number, refused=self._filer.make(report.copies))
                self._channel.sendall(made.model_dump_json().encode() + b"\n")
            if wanted(report):
                return report
        raise AssertionError("the listener has ended")

    def taken(self, association_id: str) -> list[Stored]:
        """SOP instance and data set of everything that it has stored in an association, which is then forgotten."""
        path = self._spool.root / "associations" / association_id
        if not path.exists():
            return []
        folder = AssociationFolder.read(path, durable=False)
        stored = []
        for _, name in folder.files().values():
            meta = read_meta(path / name)
            stored.append((meta.sop_instance_uid, (path / name).read_bytes()[meta.dataset_offset :]))
            self.sealed += _has_seal(path / name)
        assert folder.outcome is not None, "an association without an outcome"
        assert list(path.glob("*.part")) == [], "a part was left"
        shutil.rmtree(path)
        return stored

    def prepare(self) -> None:
        """Replace the prepared files that were taken."""
        self._preparer.step()  # the first one notices only how many were
        while self._preparer.step():
            pass

    def must_have_named_everything(self) -> None:
        """What is left of the prepared files holds nothing, and the segments nothing that has no file."""
        root = self._spool.root
        left = [path.name for path in (root / PREPARED).iterdir() if seal_of(path) is not None]
        copies = [
            copy for _, copy in copies_without_file(root) if (root / ASSOCIATIONS / copy.seal.association_id).exists()
        ]
        assert (left, copies) == ([], []), "an instance without a name"

    def must_not_have_complained(self) -> None:
        """No error of ours and no exception in its log since it was looked at last."""
        lines = self.log.read_text().splitlines()
        os.truncate(self.log, 0)
        for line in lines:
            said = json.loads(line) if line.startswith("{") else {"level": "error", "logger": ""}
            of_pynetdicom = said["logger"].startswith("pynetdicom")  # an error to it is what a peer does wrong
            in_our_handler = said["logger"] == "pynetdicom.events" and "exception" in said
            if said["level"] not in {"debug", "info", "warning"} and (in_our_handler or not of_pynetdicom):
                raise AssertionError(line)

    def threads_and_files(self) -> tuple[int, int]:
        """How many it has."""
        proc = Path(f"/proc/{self.process.pid}")
        return len(list((proc / "task").iterdir())), len(list((proc / "fd").iterdir()))

    def stop(self) -> int:
        """Have it end in order; its exit status."""
        self._channel.sendall(Stop(grace_seconds=1).model_dump_json().encode() + b"\n")
        return self.process.wait(ANSWER_SECONDS)


@contextmanager
def listener_under_test(root: Path, durability: Durability) -> Iterator[ListenerUnderTest]:
    """A listener as the receiver starts it, on a spool of its own; whoever comes may send."""
    root.mkdir(parents=True, exist_ok=True)
    given = {"host": LOOPBACK, "port": 0, "receivers": 1, "reject_unknown_sources": False}
    settings = ScpSettings.model_validate(given)
    entity, pinned = Configured().ae_titles()[0]
    places = Places.make()
    ours, theirs = socket.socketpair()
    with (
        # what is asked here holds on every file system, but for a power cut
        mock.patch.object(preparing, "file_system", return_value="ext4"),
        Spool.open(root / "spool", SpoolRole.RECEIVER) as spool,
        ours,
        theirs,
    ):
        preparer = spool.preparer(_PREPARED_BYTES, room=lambda: 10 * _PREPARED_BYTES)
        preparer.start()
        setup = ListenerSetup(
            scp=settings,
            storage=StorageSettings(durability=durability, watermark_percent=100, reserve_space_gb=0),
            spool=spool.root,
            number=0,
            listeners=1,
            log=LogSetup(json=True),
            known=KnownCopy.model_validate({"ae_titles": [{"entity": entity, "pinned": pinned}]}),
        )
        (only,) = listen([LOOPBACK], 0)
        with only as listening, (root / "listener.log").open("ab") as log:
            port = int(listening.getsockname()[1])
            descriptors = (theirs.fileno(), places.descriptor, listening.fileno())
            command = [sys.executable, "-m", "clara_dicom_adapter.receiver.listener_process", *map(str, descriptors)]
            process = subprocess.Popen(command, pass_fds=descriptors, stdout=log, stderr=log)
        theirs.close()
        try:
            ours.settimeout(ANSWER_SECONDS)
            ours.sendall(setup.model_dump_json(by_alias=True).encode() + b"\n")
            listener = ListenerUnderTest(process, port, ours, spool, preparer)
            listener.begun()
            listener.prepare()
            yield listener
        finally:
            process.kill()
            process.wait()
            places.close()


def _has_seal(path: Path) -> bool:
    """Whether it was received into a prepared file or a segment; what is sealed must agree with its seal."""
    seal = seal_of(path)
    if seal is None:
        return False
    with path.open("rb") as stream:
        assert seal.size == path.stat().st_size, "not cut to its length"
        assert seal.agrees_with(stream), "not what was sealed"
    return True
