"""The associations that are open over all listener processes; nobody can have the last place twice.

How it works: a piece of memory without a name, shared by the receiver and its listeners, holds for each place which
listener has it, and a digest of who calls. Whoever takes a place locks that memory for a moment; the kernel takes the
lock from a process that dies. The receiver frees the places of a listener that has died.
"""

import fcntl
import hashlib
import mmap
import os
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Self

MOST: Final = 1000
"""Places that there can be."""
_HOLDER: Final = array("I").itemsize
"""Bytes of who has a place: the number of the listener plus 1, or 0 when it is free; those of all places come first."""
_CALLER: Final = 8
"""Bytes of the digest of a place's caller; behind the holders."""
_CALLERS_AT: Final = MOST * _HOLDER
_SIZE: Final = _CALLERS_AT + MOST * _CALLER


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
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._lock = threading.Lock()

    @classmethod
    def make(cls) -> Self:
        """All places free."""
        descriptor = os.memfd_create("places")
        os.ftruncate(descriptor, _SIZE)
        return cls(descriptor)

    def taken(self, caller: str = "") -> Taken:
        """Places that are taken over all listeners, and those of them that a calling AE title has."""
        holders = self._holders()
        of_caller = sum(1 for number in self._called_by(_digest(caller)) if holders[number])
        return Taken(MOST - holders.count(0), of_caller)

    def take(self, listener: int, caller: str, most: int, most_by_caller: int) -> bool:
        """Take a place for a caller of a listener; False when all are taken, or all that this caller may have."""
        digest = _digest(caller)
        with self._locked():
            taken = self.taken(caller)
            if taken.altogether >= most or taken.by_caller >= most_by_caller:
                return False
            number = self._holders().index(0)
            self._set_caller(number, digest)
            self._set_holder(number, listener + 1)
            return True

    def give_back(self, listener: int, caller: str) -> None:
        """Free a place that was taken."""
        with self._locked():
            holders = self._holders()
            for number in self._called_by(_digest(caller)):
                if holders[number] == listener + 1:
                    self._free(number)
                    return

    def clear(self, listener: int) -> None:
        """Free all places of a listener, which has died."""
        with self._locked():
            for number, holder in enumerate(self._holders()):
                if holder == listener + 1:
                    self._free(number)

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self.descriptor)

    def _holders(self) -> "array[int]":
        return array("I", self._memory[:_CALLERS_AT])

    def _called_by(self, digest: bytes) -> Iterator[int]:
        """Places with the digest of a caller; free ones may have kept theirs."""
        at = self._memory.find(digest, _CALLERS_AT)
        while at >= 0:
            number, within = divmod(at - _CALLERS_AT, _CALLER)
            if not within:
                yield number
            at = self._memory.find(digest, at + 1)

    def _free(self, number: int) -> None:
        self._set_holder(number, 0)
        self._set_caller(number, bytes(_CALLER))

    def _set_holder(self, number: int, holder: int) -> None:
        self._memory[number * _HOLDER : (number + 1) * _HOLDER] = array("I", [holder]).tobytes()

    def _set_caller(self, number: int, digest: bytes) -> None:
        at = _CALLERS_AT + number * _CALLER
        self._memory[at : at + _CALLER] = digest

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # a record lock keeps other processes out, but not the threads of this one
        with self._lock:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)


def _digest(caller: str) -> bytes:
    return hashlib.blake2b(caller.encode(), digest_size=_CALLER).digest()
