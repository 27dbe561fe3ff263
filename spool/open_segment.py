"""A segment in one lap, as the process that has it writes into it: places for copies, one flush for all who wait."""

import errno
import os
import threading
import time
from pathlib import Path

from clara_dicom_adapter.spool.segment import PAGE, begin_lap, end_lap


class OpenSegment:
    """A segment that is locked by this process, in one lap."""

    def __init__(self, path: Path, descriptor: int, *, durable: bool) -> None:
        """Args:
            durable: False: what is written is not flushed.

        Raises:
            OSError: The disk refuses.
        """
        self.path = path
        self.durable = durable
        self.descriptor = descriptor
        self.lap = begin_lap(descriptor)
        self._size = os.fstat(descriptor).st_size
        self._at = PAGE
        self._changed = threading.Condition()
        self._written = self._durable = 0
        self._flushing = False
        self._error: OSError | None = None
        self._unnamed = 0
        self._left = False
        self.written_at = time.monotonic()
        """When a place in it was last taken."""

    def take(self, size: int) -> int | None:
        """A place for so many bytes, whole pages; None when there is none."""
        with self._changed:
            if self._at + size > self._size or self._error is not None:
                return None
            at, self._at = self._at, self._at + size
            self._unnamed += 1
            self.written_at = time.monotonic()
            return at

    def write(self, vector: list[bytes], at: int) -> None:
        """Write a copy; if it is to be durable, return when it is: whoever finds nobody flushing flushes for all.

        Raises:
            OSError: It may not be. Nobody takes it for an instance, unless a power cut takes that back.
        """
        try:
            written = os.pwritev(self.descriptor, vector, at)
            if written != sum(map(len, vector)):  # its blocks are there: a disk that takes a part takes nothing more
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            if self.durable:
                self._flush()
        except OSError as error:
            with self._changed:
                self._error = self._error or error
            os.pwrite(self.descriptor, bytes(PAGE), at)
            raise

    def _flush(self) -> None:
        with self._changed:
            self._written += 1
            mine = self._written
            self._changed.wait_for(lambda: self._durable >= mine or not self._flushing)
            if self._error is not None:  # a second flush may say that all is well when nothing is
                raise self._error
            if self._durable >= mine:
                return
            self._flushing, group = True, self._written
        error = None
        try:
            os.fdatasync(self.descriptor)
        except OSError as failure:
            error = failure
        with self._changed:
            self._flushing = False
            if error is None:
                self._durable = group
            else:
                self._error = error
            self._changed.notify_all()
        if error is not None:
            raise error

    def settled(self) -> None:
        """The file of a copy has its name, or what was to be one has been withdrawn."""
        with self._changed:
            self._unnamed -= 1

    def leave(self) -> None:
        """Somebody else is to make the file of a copy, once this process has let go of the segment."""
        with self._changed:
            self._unnamed -= 1
            self._left = True

    def leave_all(self) -> None:
        """Somebody else is to look after all copies, although they have their files."""
        with self._changed:
            self._left = True

    @property
    def begun(self) -> bool:
        """Whether a place was ever taken in it."""
        return self._at > PAGE

    @property
    def all_named(self) -> bool:
        """Whether every copy has its file, except those that are left."""
        with self._changed:
            return self._unnamed == 0

    def end(self) -> bool:
        """End the lap, once the files are durable under their names; whether the segment can be used again.

        Raises:
            OSError: The disk refuses.
        """
        if self._left:
            return False
        end_lap(self.descriptor, self.lap)
        if self._error is None:
            return True
        self.path.unlink(missing_ok=True)  # a part of the disk that refuses; another one is made elsewhere
        return False
