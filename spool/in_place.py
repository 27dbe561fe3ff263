"""One instance on its way into a prepared file: the hot path when there is one.

The file is overwritten from its beginning and in whole pages, for the kernel would have to read a page first of which
it gets a part. :meth:`InPlace.commit` seals it and flushes its data, which is all that 0000 promises. The name comes
afterwards, with :meth:`InPlace.name`. An instance that outgrows its file is made durable like one in a new file.
"""

import os
import time
from collections.abc import Callable
from typing import Final

from clara_dicom_adapter.spool.incoming import MOST_AT_ONCE, Arriving, IncomingInstance, Named
from clara_dicom_adapter.spool.models import StoredInstance
from clara_dicom_adapter.spool.prepared import PreparedFiles, Taken
from clara_dicom_adapter.spool.seal import PREAMBLE_BYTES, ContentHash, Seal

_PAGE: Final = 4096


class InPlace(IncomingInstance):
    """An instance in a prepared file."""

    waits_for_the_journal = True

    def __init__(
        self,
        arriving: Arriving,
        taken: Taken,
        files: PreparedFiles,
        *,
        durable: bool,
        stored: Callable[[StoredInstance], None],
    ) -> None:
        """Args:
        durable: False: nothing is flushed; the seal still tells what is whole when the process dies.
        stored: Called when it is.
        """
        self._arriving = arriving
        self._taken = taken
        self._files = files
        self.path = files.path / taken.name
        self._durable = durable
        self._stored = stored
        header = arriving.header()
        self._tail = header  # what has come and does not fill a page yet
        self._at = 0  # of the file, where the tail goes
        self._content = ContentHash(header[PREAMBLE_BYTES:])
        self._sealed = False
        self._named = ""
        self._committed: StoredInstance | None = None
        self._closed = False

    def write(self, *fragments: bytes | memoryview) -> None:
        for fragment in fragments:
            self._content.update(fragment)
        length = len(self._tail) + sum(map(len, fragments))
        whole = length - length % _PAGE
        if not whole or len(fragments) > MOST_AT_ONCE:
            fragments = (b"".join(fragments),)
        if not whole:
            self._tail += fragments[0]
            return
        vector = [self._tail, *fragments]
        surplus = length - whole
        left = surplus
        while left >= len(vector[-1]):
            left -= len(vector.pop())
        tail: list[bytes | memoryview] = [*fragments[len(vector) - 1 :]]
        if left:
            last = memoryview(vector[-1])
            vector[-1] = last[:-left]
            tail = [last[-left:], *tail]
        self._write(vector, whole)
        self._tail = b"".join(tail)

    def _write(self, vector: list[bytes | memoryview], length: int) -> None:
        written = os.pwritev(self._taken.descriptor, vector, self._at)
        if written < length:  # outgrown on a nearly full disk
            rest = memoryview(b"".join(vector))[written:]
            while rest:
                count = os.pwrite(self._taken.descriptor, rest, self._at + written)
                written, rest = written + count, rest[count:]
        self._at += length

    def commit(self) -> StoredInstance:
        size = self._at + len(self._tail)
        instance = self._arriving.stored(time.time_ns(), size)
        outgrown = size > self._taken.size
        if outgrown:
            self._write([self._tail], len(self._tail))
        else:
            self._seal(instance)
        before = time.perf_counter()
        if self._durable:
            os.fdatasync(self._taken.descriptor)
        if outgrown:
            self._rename(instance)
        if self._durable:
            if outgrown:
                os.fsync(self._arriving.folder_descriptor)
            self.flush_seconds = time.perf_counter() - before
        self._committed = instance
        self._stored(instance)
        return instance

    def name(self, done: Named) -> None:
        instance = self._committed
        if instance is None or self._closed:
            return
        try:
            if not self._named:
                os.ftruncate(self._taken.descriptor, instance.bytes)
                self._rename(instance)
            self._close()
        except OSError as error:
            done(error)
        else:
            done(None)

    def _close(self) -> None:
        self._closed = True
        os.close(self._taken.descriptor)

    def _rename(self, instance: StoredInstance) -> None:
        folder = self._arriving.folder_descriptor
        os.rename(self._taken.name, instance.name, src_dir_fd=self._taken.folder, dst_dir_fd=folder)
        self._named = instance.name

    def _seal(self, instance: StoredInstance) -> None:
        arriving = self._arriving
        seal = Seal(
            arriving.association_id,
            arriving.sequence,
            instance.received_ns,
            instance.bytes,
            self._content.intdigest(),
        ).preamble()
        self._sealed = True
        padding = bytes(-len(self._tail) % _PAGE)
        if self._at == 0:
            self._write([seal, self._tail[PREAMBLE_BYTES:], padding], len(self._tail) + len(padding))
            return
        if self._tail:
            self._write([self._tail, padding], len(self._tail) + len(padding))
        os.pwrite(self._taken.descriptor, seal, 0)

    def discard(self) -> None:
        if self._closed:
            return
        if self._committed is not None:
            self._close()
            return
        self._closed = True
        if not self._sealed and self._at <= self._taken.size:
            self._files.give_back(self._taken)
            return
        try:  # as long as it is locked nobody takes it for an instance
            if self._named:
                os.unlink(self._named, dir_fd=self._arriving.folder_descriptor)
            else:
                os.unlink(self._taken.name, dir_fd=self._taken.folder)
        finally:
            os.close(self._taken.descriptor)
