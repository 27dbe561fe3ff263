"""One instance on its way from the wire to the disk: the hot path.

Fragments go straight to the file. :meth:`IncomingInstance.commit` flushes the data, gives the file its final name and
flushes the folder, in this order; only then may 0000 be answered. Nothing incomplete ever has a final name, and what
could not be made durable has none either.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clara_dicom_adapter.spool.durable import write_all
from clara_dicom_adapter.spool.models import StoredInstance

_MOST_AT_ONCE = 512
"""Fragments per system call; Linux takes 1024, and below a few hundred bytes each copying them is cheaper."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class IncomingInstance:
    """An instance that is arriving; used by one thread at a time."""

    def __init__(
        self,
        *,
        association_id: str,
        folder: Path,
        folder_descriptor: int,
        sequence: int,
        header: bytes,
        uids: tuple[str, str, str],
        durable: bool,
    ) -> None:
        self._association_id = association_id
        self._folder = folder
        self._folder_descriptor = folder_descriptor
        self._sequence = sequence
        self._uids = uids
        self._durable = durable
        self._name = f"{sequence:08d}.part"
        self._header = header
        self._size = 0
        self._descriptor = os.open(self._name, _FLAGS, 0o640, dir_fd=folder_descriptor)
        self._open = True
        self._committed = False
        self.flush_seconds: float | None = None
        """What the flushes of :meth:`commit` took; None when nothing was flushed."""

    def write(self, *fragments: bytes | memoryview) -> None:
        """Write some fragments of the dataset, in this order; OSError when the disk does not take them."""
        if self._header:
            header, self._header = self._header, b""
            fragments = (header, *fragments)
        if len(fragments) > _MOST_AT_ONCE:
            fragments = (b"".join(fragments),)
        length = sum(map(len, fragments))
        written = os.writev(self._descriptor, fragments)
        self._size += written
        if written < length:  # a nearly full disk takes a part and refuses the next
            rest = memoryview(b"".join(fragments))[written:]
            write_all(self._descriptor, rest)
            self._size += len(rest)

    def commit(self) -> StoredInstance:
        """Make the instance durable under its final name.

        Raises:
            OSError: It is not durable. Call :meth:`discard`; the caller may then say that it has not stored it.
        """
        if self._header:
            self.write()
        seconds = self._flush(os.fdatasync, self._descriptor)
        self._close()
        received_ns = time.time_ns()
        final = f"{self._sequence:08d}-{received_ns}.dcm"
        os.rename(self._name, final, src_dir_fd=self._folder_descriptor, dst_dir_fd=self._folder_descriptor)
        self._name = final
        seconds += self._flush(os.fsync, self._folder_descriptor)
        self.flush_seconds = seconds if self._durable else None
        self._committed = True
        sop_class_uid, sop_instance_uid, transfer_syntax_uid = self._uids
        return StoredInstance(
            association_id=self._association_id,
            sequence=self._sequence,
            received_ns=received_ns,
            bytes=self._size,
            folder=self._folder,
            name=final,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
        )

    def discard(self) -> None:
        """Remove what has been written, under whichever name it has; safe to repeat, and nothing after a commit."""
        if self._committed:
            return
        with suppress(OSError):  # an error of close tells of data that is given up anyway
            self._close()
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._folder_descriptor)

    def _flush(self, flush: Callable[[int], None], descriptor: int) -> float:
        """Flush, unless the operating system is trusted; returns the seconds that it took."""
        if not self._durable:
            return 0.0
        before = time.perf_counter()
        flush(descriptor)
        return time.perf_counter() - before

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self._descriptor)
