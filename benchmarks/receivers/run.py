"""One run: a receiver is started in a fresh folder, sent a set, looked at, and ended."""

import json
import mmap
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from clara_dicom_adapter.dicom.part10 import read_meta
from receivers.floors import Sample
from receivers.peers import Load, Peer
from receivers.process import Failed, Receiver
from receivers.sender import CALLED, LONGEST_PDU, Association
from receivers.sets import InstanceSet

_SENDER: Final = Path(__file__).with_name("sender.py")
_IDLE_ASSOCIATIONS: Final = 20
_IDLE_LOOKS: Final = 3
_AT_ONCE: Final = 4
_MORE_MEMORY: Final = 256 << 20


@dataclass(frozen=True)
class Bench:
    """Where the runs happen.

    Attributes:
        root: Folder on the disk that is measured; every run gets a folder of its own, and none is deleted.
    """

    root: Path

    def folder(self, name: str) -> Path:
        """A fresh folder; nothing of the run before is left to be written, or in memory."""
        runs = self.root / "runs"
        runs.mkdir(exist_ok=True)
        earlier = sorted(runs.iterdir())
        os.sync()
        if earlier:
            _forget(earlier[-1])
        folder = runs / f"{len(earlier):05d}-{name}"
        folder.mkdir()
        return folder

    def sample(self, peer: Peer, program: Path, sent: InstanceSet, associations: int) -> tuple[Sample, Path]:
        """Send a set once; returns what was measured and the folder with what was received.

        Raises:
            Failed: The receiver did not take every instance.
        """
        folder = self.folder(f"{sent.name}-{associations}-{peer.name}")
        receiver = peer.run(program, folder, Load(associations, each=sent.kind.each))
        try:
            return _measured(receiver, peer, sent, associations), folder
        finally:
            receiver.end()

    def with_storescu(self, peer: Peer, program: Path, sent: InstanceSet, storescu: Path) -> float:
        """Instances per second with dcmtk's sender, its start and its reading of the files included."""
        folder = self.folder(f"storescu-{peer.name}")
        receiver = peer.run(program, folder, Load(1))
        try:
            begun = time.monotonic()
            options = ["-aec", CALLED, "--max-send-pdu", str(LONGEST_PDU), "-xe", "+sd"]
            ended = subprocess.run(
                [storescu, *options, "127.0.0.1", str(receiver.port), sent.folder],
                check=False,
                env={**os.environ, "TCP_NODELAY": "1"},
                capture_output=True,
                text=True,
            )
            seconds = time.monotonic() - begun
        finally:
            receiver.end()
        if ended.returncode:
            raise Failed(f"storescu ended with {ended.returncode}: {ended.stderr[-500:]}")
        if not (found := sent.compare(peer.files(folder))).all_same_bytes:
            raise Failed(f"of what storescu sent, {found.words} arrived as it was")
        return sent.instances / seconds

    def idle_share(self, peer: Peer, program: Path, sent: InstanceSet, seconds: float) -> float:
        """Share of one core that is used while associations are open and nothing is sent; the median of some looks."""
        receiver = peer.run(program, self.folder(f"idle-{peer.name}"), Load(_IDLE_ASSOCIATIONS))
        try:
            meta = read_meta(next(sent.folder.iterdir()))
            with ExitStack() as stack:
                for _ in range(_IDLE_ASSOCIATIONS):
                    association = _association(receiver.port, meta.sop_class_uid, meta.transfer_syntax_uid)
                    stack.callback(association.connection.close)
                time.sleep(1)  # what starting an association leaves to be done is not its idling
                shares: list[float] = []
                for _ in range(_IDLE_LOOKS):
                    before, begun = receiver.cpu_seconds(), time.monotonic()
                    time.sleep(seconds)
                    shares.append((receiver.cpu_seconds() - before) / (time.monotonic() - begun))
                return statistics.median(shares)
        finally:
            receiver.end()

    def associations_per_second(self, peer: Peer, program: Path, sent: InstanceSet, count: int) -> float:
        """Associations that are opened and released, and store nothing; four at a time."""
        receiver = peer.run(program, self.folder(f"associations-{peer.name}"), Load(_AT_ONCE, each=True))
        try:
            meta = read_meta(next(sent.folder.iterdir()))

            def one(_number: int) -> None:
                _association(receiver.port, meta.sop_class_uid, meta.transfer_syntax_uid).release()

            with ThreadPoolExecutor(_AT_ONCE) as threads:
                list(threads.map(one, range(_AT_ONCE)))  # what only the first ones cost
                begun = time.monotonic()
                list(threads.map(one, range(count)))
                return count / (time.monotonic() - begun)
        except OSError as error:
            raise Failed(f"no association: {error}") from error
        finally:
            receiver.end()


def _forget(folder: Path) -> None:
    """Have the kernel give up its copies of what was written."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _warm(size: int) -> None:
    """Have the kernel hold so many bytes of free memory.

    A virtual machine gives free memory back to its host after a few seconds, and gets it again page by page: up to five
    times the processor time was seen, of whichever receiver takes longer to start.
    """
    mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE).close()


def _association(port: int, sop_class_uid: str, transfer_syntax_uid: str) -> Association:
    try:
        return Association(port, sop_class_uid, transfer_syntax_uid)
    except OSError as error:
        raise Failed(f"no association: {error}") from error


def _measured(receiver: Receiver, peer: Peer, sent: InstanceSet, associations: int) -> Sample:
    senders = [_Sender(receiver.port, sent, f"{number}/{associations}", raw=peer.raw) for number in range(associations)]
    try:
        for sender in senders:
            sender.expect_ready()
        _warm(2 * sent.bytes + _MORE_MEMORY)
        before = receiver.cpu_seconds()
        for sender in senders:
            sender.go_on()
        reports = [sender.report() for sender in senders]
        # now, with the associations open: a process that has gone cannot be asked any more
        used, peaks = receiver.cpu_seconds() - before, receiver.peaks_mb()
        for sender in senders:
            sender.go_on()
        for sender in senders:
            sender.expect_end()
    except Failed as error:
        raise Failed(f"{error}; the receiver says: {receiver.tail()[-500:]}") from error
    finally:
        for sender in senders:
            sender.stop()
    responses = [wait for report in reports for wait in report["responses"]]
    return Sample(
        instances=len(responses),
        bytes=sent.bytes,
        seconds=max(report["ended"] for report in reports) - min(report["begun"] for report in reports),
        cpu_seconds=used,
        memory_mb=sum(peaks),
        receiving_process_mb=max(peaks[1:] or peaks),  # a parent that has children does not receive itself
        responses=responses,
    )


class _Sender:
    """A sender's process."""

    def __init__(self, port: int, sent: InstanceSet, share: str, *, raw: bool) -> None:
        options = [*(["--raw"] if raw else []), *(["--each"] if sent.kind.each else [])]
        self._process = subprocess.Popen(
            [sys.executable, "-S", _SENDER, str(port), sent.folder, "--share", share, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def expect_ready(self) -> None:
        self._line()

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._line())
        return found

    def go_on(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Failed(f"the sender ended: {self._words()}") from error

    def expect_end(self) -> None:
        """It releases; raises Failed when that went wrong."""
        if self._process.wait(60):
            raise Failed(f"the sender ended: {self._words()}")

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"the sender ended: {self._words()}")
        return line

    def _words(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.read().strip().rpartition("\n")[2]
