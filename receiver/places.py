"""The associations that are open over all listener processes; nobody can have the last place twice.

How it works: a piece of memory without a name, shared by the receiver and its listeners, holds for each place which
listener has it, and a digest of who calls. Whoever takes a place locks that memory for a moment; the kernel takes the
lock from a process that dies. The receiver frees the places of a listener that has died.
"""

import fcntl
import hashlib
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

MOST: Final = 1000
"""Places that there can be."""
_PLACE: Final = struct.Struct("=I8s")  # number of the listener plus 1, or 0 when it is free; digest of the caller
_FREE: Final = bytes(_PLACE.size)


class Taken(NamedTuple):
    """How many places are taken."""

    altogether: int
    by_caller: int


class Places:
    """The places of one receiver."""

    def __init__(self, descriptor: int) -> None:
        """Args:
        descriptor: Of the shared memory, which this object owns from now on.
        """
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, MOST * _PLACE.size)
        self._lock = threading.Lock()

    @classmethod
    def make(cls) -> Self:
        """All places free."""
        descriptor = os.memfd_create("places")
        os.ftruncate(descriptor, MOST * _PLACE.size)
        return cls(descriptor)

    def taken(self, caller: str = "") -> Taken:
        """Places that are taken over all listeners, and those of them that a calling AE title has."""
        digest = _digest(caller)
        held = [who for listener, who in self._all() if listener]
        return Taken(len(held), held.count(digest))

    def take(self, listener: int, caller: str, most: int, most_by_caller: int) -> bool:
        """Take a place for a caller of a listener; False when all are taken, or all that this caller may have."""
        digest = _digest(caller)
        with self._locked():
            taken = self.taken(caller)
            if taken.altogether >= most or taken.by_caller >= most_by_caller:
                return False
            number = next(number for number, (holder, _) in enumerate(self._all()) if not holder)
            _PLACE.pack_into(self._memory, number * _PLACE.size, listener + 1, digest)
            return True

    def give_back(self, listener: int, caller: str) -> None:
        """Free a place that was taken."""
        self._free((listener + 1, _digest(caller)), only_one=True)

    def clear(self, listener: int) -> None:
        """Free all places of a listener, which has died."""
        self._free((listener + 1, None), only_one=False)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self.descriptor)

    def _free(self, wanted: tuple[int, bytes | None], *, only_one: bool) -> None:
        with self._locked():
            for number, (holder, who) in enumerate(self._all()):
                if holder == wanted[0] and wanted[1] in (who, None):
                    self._memory[number * _PLACE.size : (number + 1) * _PLACE.size] = _FREE
                    if only_one:
                        return

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # a record lock keeps other processes out, but not the threads of this one
        with self._lock:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def _all(self) -> list[tuple[int, bytes]]:
        return list(_PLACE.iter_unpack(self._memory[:]))


def _digest(caller: str) -> bytes:
    return hashlib.blake2b(caller.encode(), digest_size=8).digest()
