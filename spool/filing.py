"""Makes the files of copies in segments: all are written, one ``syncfs`` makes them durable, then they get their names.

So a file with a final name is complete and durable. Their names are durable with the next ``syncfs``, which is for
whoever wants to use a segment again. It needs Linux 5.8, from which on ``syncfs`` tells when a disk has not taken
something since a descriptor was opened.

To make a file takes as long as to receive a small instance. So a listener leaves that to the receiver's own process
where there is much of it (:mod:`~clara_dicom_adapter.spool.settling`), and goes on receiving meanwhile.
"""

import ctypes
import errno
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, NamedTuple

from clara_dicom_adapter.errors import SpoolUnusable
from clara_dicom_adapter.spool.durable import write_all
from clara_dicom_adapter.spool.models import ASSOCIATIONS, instance_name, part_name
from clara_dicom_adapter.spool.segment import SEGMENTS, content, copy_at, read_lap

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_CLOSE_SECONDS: Final = 5.0
_syncfs: Final = ctypes.CDLL(None, use_errno=True).syncfs


class CopyAt(NamedTuple):
    """Where a copy lies.

    Attributes:
        segment: Name of its file.
        key: Of the lap that it belongs to.
        at: Where in the file.
    """

    segment: str
    key: int
    at: int


MakeFiles = Callable[[Sequence[CopyAt]], Mapping[int, str]]
"""Makes the files of copies; gives the reasons of those, by their place in the sequence, that have none."""


class MakerGone(Exception):
    """Another process was to make files. It answers no more, and may still be at it."""


class FileSystem:
    """One that is flushed as a whole; through each of these the kernel tells of every error once."""

    def __init__(self, root: Path) -> None:
        self._path = root
        self._root: int | None = None

    def watch(self) -> None:
        """Hear of errors from now on, if not already; raises OSError when it cannot be opened."""
        if self._root is None:
            self._root = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def flush(self) -> None:
        """Raises OSError when something is not durable that was written since it is watched, or since the last time."""
        self.watch()
        if _syncfs(self._root) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Safe to repeat."""
        root, self._root = self._root, None
        if root is not None:
            os.close(root)


class SegmentsInHand:
    """Which segments somebody in this process makes files of: two would write them at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def of(self, segment: str) -> threading.Lock:
        """Who holds this makes the files of a segment."""
        with self._lock:
            return self._locks.setdefault(segment, threading.Lock())


class Filer:
    """Makes files in one spool. Every method may be called from any thread."""

    def __init__(self, root: Path, *, durable: bool, in_hand: SegmentsInHand | None = None) -> None:
        """Args:
        durable: False: nothing is flushed.
        in_hand: Shared with whoever makes the files of what dead listeners have left; none: nobody does, in here.
        """
        self._associations = f"{root / ASSOCIATIONS}"
        self._segments = root / SEGMENTS
        self._file_system = FileSystem(root) if durable else None
        self._in_hand = in_hand or SegmentsInHand()
        self._lock = threading.Lock()  # else one flush would be told of what the other has written

    def make(self, wanted: Sequence[CopyAt]) -> dict[int, str]:
        """Make the files of copies whose lap goes on; gives the reasons of those that have none, by their place.

        None is made of what a dead listener has left, once somebody looks after that: its files may have been used,
        released and deleted by then.
        """
        with self._lock, ExitStack() as stack:
            try:
                if self._file_system is not None:
                    self._file_system.watch()
            except OSError as error:
                return dict.fromkeys(range(len(wanted)), _reason(error))
            refused: dict[int, str] = {}
            written: dict[int, tuple[str, str]] = {}
            laps: dict[str, _Lap | str] = {}
            for number, copy in enumerate(wanted):
                if copy.segment not in laps:
                    laps[copy.segment] = self._open(copy.segment, stack)
                lap = laps[copy.segment]
                if isinstance(lap, str):
                    refused[number] = lap
                    continue
                try:
                    written[number] = self._write(copy, lap)
                except OSError as error:
                    refused[number] = _reason(error)
            return refused | self._name(written)

    def _open(self, segment: str, stack: ExitStack) -> "_Lap | str":
        """A segment that nobody else has in hand, until the stack is left; or why there is nothing to be had of it."""
        lock = self._in_hand.of(segment)
        if not lock.acquire(blocking=False):
            return "its listener has died"
        stack.callback(lock.release)
        try:
            descriptor = os.open(self._segments / segment, os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            lap = read_lap(descriptor)
        except (OSError, SpoolUnusable) as error:
            return _reason(error)
        return "the segment is blank" if lap is None else _Lap(descriptor, lap.key)

    def _write(self, wanted: CopyAt, lap: "_Lap") -> tuple[str, str]:
        """Write the file of a copy; its name now, and its final one."""
        copy = copy_at(lap.descriptor, wanted.at, lap.key) if lap.key == wanted.key else None
        instance = content(lap.descriptor, copy) if copy is not None else b""
        if copy is None or not copy.agrees_with(instance):
            raise OSError(errno.EIO, "the segment does not hold the copy")
        seal = copy.seal
        folder = f"{self._associations}/{seal.association_id}"
        # a name of this process's: what another one does with the same instance must not show in this file
        part = f"{folder}/{part_name(seal.sequence, os.getpid())}"
        file = os.open(part, _FLAGS, 0o640)
        try:
            write_all(file, instance)
        except OSError:
            with suppress(OSError):
                Path(part).unlink()
            raise
        finally:
            os.close(file)
        return part, f"{folder}/{instance_name(seal.sequence, seal.received_ns)}"

    def _name(self, written: dict[int, tuple[str, str]]) -> dict[int, str]:
        """Flush what is written, and give it its names."""
        refused: dict[int, str] = {}
        try:
            if written and self._file_system is not None:
                self._file_system.flush()
        except OSError as error:
            refused = dict.fromkeys(written, _reason(error))
        for number, (part, name) in written.items():
            try:
                if number not in refused:
                    os.rename(part, name)  # noqa: PTH104 - thousands, and a Path for each costs as much
            except OSError as error:
                refused[number] = _reason(error)
            if number in refused:
                with suppress(OSError):
                    Path(part).unlink()
        return refused

    def close(self) -> None:
        """Make no more; safe to repeat. A disk that does not answer is not waited for: this process ends anyway."""
        if self._file_system is not None and self._lock.acquire(timeout=_CLOSE_SECONDS):
            self._file_system.close()
            self._lock.release()


class _Lap(NamedTuple):
    descriptor: int
    key: int


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def is_supported() -> bool:
    """Whether the kernel has what this relies upon."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) >= (5, 8)
