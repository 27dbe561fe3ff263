"""Changed associations against a listener in its own process, which has to stand all of them and stay as it was.

A listener that flushes stores into prepared files, and into new ones when there are none left; one that leaves flushing
to the operating system always into new ones.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Final
from unittest import mock

from clara_dicom_adapter.configuration.settings import Durability, ScpSettings, StorageSettings
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.log import LogSetup
from clara_dicom_adapter.receiver import accepting
from clara_dicom_adapter.receiver.known import KnownCopy
from clara_dicom_adapter.receiver.listeners import listen
from clara_dicom_adapter.receiver.places import Places
from clara_dicom_adapter.receiver.reports import REPORTS, Ended, ListenerSetup, Listening, Report, Stop
from clara_dicom_adapter.spool import AssociationFolder, Preparer, Spool, SpoolRole, preparing
from clara_dicom_adapter.spool.prepared import PREPARED
from clara_dicom_adapter.spool.seal import seal_of
from support.fuzzed_messages import Figures, Finding, Stored, complete_in, resident_bytes
from support.mutations import P_DATA, Recording, Stream, mutate_request, mutated
from support.receiver_wire import association_request, store_message
from support.receiving import LOOPBACK, Configured

_ANSWER_SECONDS: Final = 20.0
"""Much longer than anything takes; the listener's own limits are longer."""
_BETWEEN_LOOKS: Final = 200
_BETWEEN_PREPARATIONS: Final = 10
_PREPARED_BYTES: Final = 20_000_000
_SETTLED: Final = 400
"""Streams after which the memory is looked at for the first time."""
_GROWTH: Final = 32 << 20
_CALLING_AE_TITLE: Final = slice(26, 42)  # PS3.8 table 9-11


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
        self.in_place = 0
        """Instances so far that were received into prepared files."""
        self._preparer = preparer
        self._channel = channel
        self._lines = channel.makefile("rb")
        self._spool = spool
        self.log = spool.root.parent / "listener.log"

    def begun(self) -> None:
        """Wait until it listens."""
        self._report(lambda report: isinstance(report, Listening))

    def ended(self, request: bytes | bytearray) -> Ended:
        """How the association ended that was asked for; its calling AE title tells it from others."""
        title = bytes(request)[_CALLING_AE_TITLE].decode("ascii", "replace").strip(" \0")
        ended = self._report(lambda one: isinstance(one, Ended) and one.association.calling_ae_title == title)
        assert isinstance(ended, Ended)
        return ended

    def _report(self, wanted: Callable[[Report], bool]) -> Report:
        while line := self._lines.readline():
            report = REPORTS.validate_json(line)
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
            self.in_place += _has_seal(path / name)
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
        """What is left of the prepared files holds nothing."""
        left = [path.name for path in (self._spool.root / PREPARED).iterdir() if seal_of(path) is not None]
        assert left == [], "an instance without a name"

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
        return self.process.wait(_ANSWER_SECONDS)


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
        space = _PREPARED_BYTES if durability is Durability.FLUSH else 0
        preparer = spool.preparer(space, room=lambda: 10 * _PREPARED_BYTES)
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
            ours.settimeout(_ANSWER_SECONDS)
            ours.sendall(setup.model_dump_json(by_alias=True).encode() + b"\n")
            listener = ListenerUnderTest(process, port, ours, spool, preparer)
            listener.begun()
            listener.prepare()
            yield listener
        finally:
            process.kill()
            process.wait()
            places.close()


def run(listener: ListenerUnderTest, recordings: Sequence[Recording], seed: int, numbers: Iterable[int]) -> Figures:
    """Play associations one after the other, and look at the process now and then.

    Raises:
        Finding: Says which stream, and how it is played again.
    """
    figures, first = Figures(), 0
    _good_association(listener)
    listener.must_not_have_complained()
    idle = listener.threads_and_files()
    number = -1
    try:
        for number in numbers:
            ending, stored = _play(listener, mutated(recordings, seed, number), Random(number))
            figures.streams += 1
            figures.stored += stored
            figures.endings[ending] += 1
            if figures.streams % _BETWEEN_PREPARATIONS == 0:
                listener.prepare()
            if figures.streams % _BETWEEN_LOOKS == 0:
                _look(listener, idle)
            if figures.streams == _SETTLED:
                first = resident_bytes(listener.process.pid)
        _look(listener, idle)
        figures.grown_bytes = resident_bytes(listener.process.pid) - first if first else 0
        assert figures.grown_bytes < _GROWTH, f"it has grown by {figures.grown_bytes} bytes"
    except Exception as error:
        raise Finding(f"SEED={seed} FIRST={number}, or up to {_BETWEEN_LOOKS} before it: {error!r}") from error
    return figures


def _play(listener: ListenerUnderTest, stream: Stream, random: Random) -> tuple[str, int]:
    """How the association ended, and how many instances were stored."""
    request = bytearray(stream.recording.request)
    request[_CALLING_AE_TITLE] = b"N%-15d" % stream.number
    if random.random() < 0.25:
        mutate_request(random, request)
    answer = _answer(listener.port, request, stream.data, ahead=random.random() < 0.1)
    assert listener.process.poll() is None, "the process has ended"
    if answer[:1] != b"\2":
        return {b"\3": "rejected", b"\7": "aborted at once", b"": "closed at once"}[answer[:1]], 0
    ended = listener.ended(request)
    stored = listener.taken(ended.association.association_id)
    assert ended.association.instances == len(stored)
    sent = iter(complete_in(stream.data))
    assert all(one in sent for one in stored), "what was stored is not what was sent, in its order"
    missing = Counter(_successes(answer)) - Counter(uid for uid, _ in stored)
    assert not missing, "Success for what is not there"
    return ended.outcome.value, len(stored)


def _has_seal(path: Path) -> bool:
    """Whether it was received into a prepared file; what is sealed must agree with its seal."""
    seal = seal_of(path)
    if seal is None:
        return False
    with path.open("rb") as stream:
        assert seal.size == path.stat().st_size, "not cut to its length"
        assert seal.agrees_with(stream), "not what was sealed"
    return True


def _answer(port: int, request: bytes | bytearray, data: bytes, *, ahead: bool = False) -> bytes:
    """Everything that comes back until the listener lets go of the connection.

    Args:
        ahead: Do not wait for the answer to the request, which breaks the protocol.
    """
    answer = b""
    with socket.create_connection((LOOPBACK, port), _ANSWER_SECONDS) as peer, suppress(ConnectionError):
        with suppress(ConnectionError):
            peer.sendall(request)
            if _is_one_pdu(request) and not ahead:
                answer = peer.recv(65536)
            peer.sendall(data)
            peer.shutdown(socket.SHUT_WR)
        while came := peer.recv(65536):
            answer += came
    return answer


def _is_one_pdu(request: bytes | bytearray) -> bool:
    """Whether there will be an answer to the request alone; one that lacks bytes, or has some more, is waited with."""
    return len(request) >= 6 and 6 + struct.unpack_from(">I", request, 2)[0] == len(request)


def _successes(answer: bytes) -> Iterator[str]:
    """SOP instance of every C-STORE-RSP with status 0000."""
    at = 0
    while at + 6 <= len(answer):
        kind, length = struct.unpack_from(">BxI", answer, at)
        body, at = answer[at + 12 : at + 6 + length], at + 6 + length
        elements: dict[int, bytes] = {}
        while kind == P_DATA and len(body) >= 8:
            _, element, size = struct.unpack_from("<HHI", body)
            elements[element], body = body[8 : 8 + size], body[8 + size :]
        if elements.get(0x0100) == b"\1\x80" and elements.get(0x0900) == b"\0\0":
            yield elements[0x1000].rstrip(b"\0").decode()


def _look(listener: ListenerUnderTest, idle: tuple[int, int]) -> None:
    """It serves whoever is good, has complained of nothing, and has let go of everything."""
    _good_association(listener)
    listener.must_not_have_complained()
    listener.must_have_named_everything()

    def has_let_go() -> bool:
        threads, files = listener.threads_and_files()
        return threads < idle[0] + accepting._MOST_WAITING and files <= idle[1]  # one waited from the beginning

    _until(has_let_go, "it keeps threads or files")


def _good_association(listener: ListenerUnderTest) -> None:
    request = association_request(b"CT1")
    answer = _answer(listener.port, request, store_message("1.2.3", 20_000) + b"\5\0\0\0\0\4\0\0\0\0")
    assert list(_successes(answer)) == ["1.2.3"]
    assert answer[-10:-9] == b"\6", "not released"
    assert listener.taken(listener.ended(request).association.association_id) == [("1.2.3", bytes(20_000))]


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
