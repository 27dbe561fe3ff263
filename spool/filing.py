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
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

from clara_dicom_adapter.errors import SpoolUnusable
from clara_dicom_adapter.spool.durable import write_all
from clara_dicom_adapter.spool.models import ASSOCIATIONS, instance_name, part_name
from clara_dicom_adapter.spool.segment import SEGMENTS, content, copy_at, read_lap

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
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


class FileSystem:
    """One that is flushed as a whole; through each of these the kernel tells of every error once."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def flush(self) -> None:
        """Raises OSError when something is not durable that was written since the last time."""
        if _syncfs(self._root) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Safe to repeat."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)


class Filer:
    """Makes files in one spool. Every method may be called from any thread."""

    def __init__(self, root: Path, *, durable: bool) -> None:
        """Args:
        durable: False: nothing is flushed.
        """
        self._associations = f"{root / ASSOCIATIONS}"
        self._segments = root / SEGMENTS
        self._file_system = FileSystem(root) if durable else None
        self._lock = threading.Lock()  # else one flush would be told of what the other has written

    def make(self, wanted: Sequence[CopyAt]) -> dict[int, str]:
        """Make the files of copies whose lap goes on; gives the reasons of those that have none, by their place."""
        refused: dict[int, str] = {}
        written: dict[int, tuple[str, str]] = {}
        with self._lock, ExitStack() as stack:
            laps: dict[str, tuple[int, int]] = {}
            for number, copy in enumerate(wanted):
                try:
                    if copy.segment not in laps:
                        laps[copy.segment] = self._open(copy.segment, stack)
                    written[number] = self._write(copy, *laps[copy.segment])
                except (OSError, SpoolUnusable) as error:
                    refused[number] = str(error)
            try:
                if written and self._file_system is not None:
                    self._file_system.flush()
            except OSError as error:
                refused |= dict.fromkeys(written, str(error))
                return refused
            for number, (part, name) in written.items():
                try:
                    os.rename(part, name)  # noqa: PTH104 - thousands, and a Path for each costs as much
                except OSError as error:
                    refused[number] = str(error)
        return refused

    def _open(self, segment: str, stack: ExitStack) -> tuple[int, int]:
        """A segment's descriptor and the key of its lap."""
        descriptor = os.open(self._segments / segment, os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        lap = read_lap(descriptor)
        if lap is None:
            raise OSError(errno.ESTALE, "the segment is blank")
        return descriptor, lap.key

    def _write(self, wanted: CopyAt, descriptor: int, key: int) -> tuple[str, str]:
        """Write the file of a copy; its name now, and its final one."""
        copy = copy_at(descriptor, wanted.at, key) if key == wanted.key else None
        instance = content(descriptor, copy) if copy is not None else b""
        if copy is None or not copy.agrees_with(instance):
            raise OSError(errno.EIO, "the segment does not hold the copy")
        seal = copy.seal
        folder = f"{self._associations}/{seal.association_id}"
        part = f"{folder}/{part_name(seal.sequence)}"
        file = os.open(part, _FLAGS, 0o640)
        try:
            write_all(file, instance)
        finally:
            os.close(file)
        return part, f"{folder}/{instance_name(seal.sequence, seal.received_ns)}"

    def close(self) -> None:
        """Make no more; safe to repeat."""
        with self._lock:
            if self._file_system is not None:
                self._file_system.close()


def is_supported() -> bool:
    """Whether the kernel has what this relies upon."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) >= (5, 8)
