"""How many associations are open over all listener processes; nobody can have the last place twice.

How it works: a piece of memory without a name, shared by the receiver and its listeners, holds one number for each
listener. Whoever takes a place locks that memory for a moment; the kernel takes the lock from a process that dies.
Each listener writes its own number alone, and the receiver sets it back to 0 when that listener has died.
"""

import fcntl
import mmap
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Self

_NUMBER: Final = struct.Struct("=I")


class Places:
    """The places of one receiver."""

    def __init__(self, descriptor: int, listeners: int) -> None:
        """Args:
        descriptor: Of the shared memory, which this object owns from now on.
        listeners: How many listeners share it.
        """
        self.descriptor = descriptor
        self._listeners = listeners
        self._memory = mmap.mmap(descriptor, listeners * _NUMBER.size)
        self._lock = threading.Lock()

    @classmethod
    def make(cls, listeners: int) -> Self:
        """All places free."""
        descriptor = os.memfd_create("places")
        os.ftruncate(descriptor, listeners * _NUMBER.size)
        return cls(descriptor, listeners)

    def take(self, listener: int, maximum: int) -> bool:
        """Take a place for a listener; False when all are taken."""
        with self._locked():
            if self.taken >= maximum:
                return False
            self._write(listener, self._read(listener) + 1)
            return True

    def give_back(self, listener: int) -> None:
        """Free a place that was taken."""
        with self._locked():
            self._write(listener, max(self._read(listener) - 1, 0))

    def clear(self, listener: int) -> None:
        """Free all places of a listener, which has died."""
        with self._locked():
            self._write(listener, 0)

    @property
    def taken(self) -> int:
        """Places that are taken over all listeners."""
        return sum(self._read(listener) for listener in range(self._listeners))

    def close(self) -> None:
        """Let go of the memory."""
        self._memory.close()
        os.close(self.descriptor)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # a record lock keeps other processes out, but not the threads of this one
        with self._lock:
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN)

    def _read(self, listener: int) -> int:
        (number,) = _NUMBER.unpack_from(self._memory, listener * _NUMBER.size)
        return int(number)

    def _write(self, listener: int, number: int) -> None:
        _NUMBER.pack_into(self._memory, listener * _NUMBER.size, number)
