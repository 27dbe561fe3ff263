"""Prepared files: on the disk already, of a known size, waiting to become instances.

To make a new file durable under its name costs two commits of the file system's journal. To overwrite one that is
there, blocks and all, costs none: a single flush of the data. So a receiver keeps files ready, and an instance is
written into one of them, sealed (:mod:`~clara_dicom_adapter.spool.seal`) and flushed; cutting it to its length and
giving it its name need no flush, because the seal says it all again if a power cut takes them back.

A listener takes a file by locking it, and the kernel lets go of the lock when the listener dies. What is sealed and not
locked is an instance whose name was never made: :func:`~clara_dicom_adapter.spool.sealed.place_sealed` makes it.
"""

import fcntl
import os
import random
import re
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clara_dicom_adapter.spool.seal import PREAMBLE_BYTES, Seal

PREPARED: Final = "prepared"
SIZES: Final[tuple[int, ...]] = (192 << 10, 576 << 10, 2304 << 10)
"""Bytes: of slices of 256, 512 and 1024 pixels square with 16 bits each. Flushed or not, a smaller instance costs less
in other ways; a larger one takes so long to write that the journal does not matter."""
_WORTHWHILE: Final = 64 << 10
"""Bytes, below which a new file costs less than one that has to be cut, where segments cannot be used."""
_USUAL: Final = 576 << 10
"""Size that is reckoned with while nothing is known of a SOP class."""
_HEADROOM: Final = 2048
"""Instances of one series differ in length by less."""
_LOOK_AGAIN_SECONDS: Final = 0.05
_NAME: Final = re.compile(r"(\d+)-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Taken:
    """A prepared file that is locked by this process.

    Attributes:
        folder: Descriptor of the folder of prepared files.
        size: Its bytes.
    """

    descriptor: int
    folder: int
    name: str
    size: int


class PreparedFiles:
    """Those of a spool, as a process takes them that receives. Every method may be called from any thread."""

    def __init__(self, root: Path) -> None:
        self.path = root / PREPARED
        self._lock = threading.Lock()
        self._folder: int | None = None
        self._free: dict[int, deque[str]] = {size: deque() for size in SIZES}
        self._looked_at = float("-inf")

    def take(self, last: int | None) -> Taken | None:
        """A file for an instance, by the bytes of the last one of its SOP class; None when there is none that fits."""
        wanted = last + _HEADROOM if last is not None else _USUAL
        if wanted < _WORTHWHILE:
            return None
        return next((self._take(size) for size in SIZES if size >= wanted), None)

    def _take(self, size: int) -> Taken | None:
        while (name := self._next(size)) is not None:
            folder = self._folder
            if folder is None:
                return None
            try:
                descriptor = os.open(name, os.O_RDWR | os.O_CLOEXEC, dir_fd=folder)
            except FileNotFoundError:
                continue  # another listener was faster
            if _lock_blank(descriptor, folder, name, size):
                return Taken(descriptor, folder, name, size)
            os.close(descriptor)
        return None

    def _next(self, size: int) -> str | None:
        with self._lock:
            if not self._free[size]:
                self._look()
            return self._free[size].popleft() if self._free[size] else None

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_AGAIN_SECONDS:
            return
        self._looked_at = now
        if self._folder is None:
            try:
                self._folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except FileNotFoundError:
                return
        found: dict[int, list[str]] = {each: [] for each in SIZES}
        for name in os.listdir(self._folder):  # noqa: PTH208 - by descriptor
            size = size_of(name)
            if size is not None:
                found[size].append(name)
        for size, names in found.items():
            random.shuffle(names)  # listeners that look at the same time seldom try the same
            self._free[size] = deque(names)

    def give_back(self, taken: Taken) -> None:
        """It was not sealed: whoever is next may have it."""
        os.close(taken.descriptor)
        with self._lock:
            self._free[taken.size].append(taken.name)

    def close(self) -> None:
        """Take no more."""
        with self._lock:
            if self._folder is not None:
                os.close(self._folder)
                self._folder = None
                self._free = {size: deque() for size in SIZES}
                self._looked_at = float("inf")


def _lock_blank(descriptor: int, folder: int, name: str, size: int) -> bool:
    """Lock a file, unless it is being written, is an instance by now, or holds one whose listener could not name it.

    One that is longer than its size belonged to a listener that died when an instance had outgrown it. It was never
    answered, and what is left of it must not get behind another instance: the file is deleted.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.stat(name, dir_fd=folder)
    except (BlockingIOError, FileNotFoundError):
        return False
    if Seal.read(os.pread(descriptor, PREAMBLE_BYTES, 0)) is not None:
        return False
    if os.fstat(descriptor).st_size != size:
        os.unlink(name, dir_fd=folder)
        return False
    return True


def size_of(name: str) -> int | None:
    """Of a prepared file, by its name; None when it is none, or not ready."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match and int(match[1]) in SIZES else None
