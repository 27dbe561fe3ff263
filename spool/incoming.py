"""One instance on its way from the wire to the disk: the hot path.

Fragments go straight to the file. :meth:`IncomingInstance.commit` makes it durable; only then may 0000 be answered.
Nothing incomplete ever has a final name, and what could not be made durable has none either.
"""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clara_dicom_adapter.dicom import part10
from clara_dicom_adapter.spool.durable import write_all
from clara_dicom_adapter.spool.models import StoredInstance, instance_name, part_name

MOST_AT_ONCE = 512
"""Fragments per system call; Linux takes 1024, and below a few hundred bytes each copying them is cheaper."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Arriving:
    """What is known of an instance when its first fragment comes.

    Attributes:
        folder_descriptor: Of the open folder of its association.
    """

    association_id: str
    folder: Path
    folder_descriptor: int
    sequence: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    calling_ae_title: str

    def header(self) -> bytes:
        """What goes in front of the dataset."""
        return part10.header(self.sop_class_uid, self.sop_instance_uid, self.transfer_syntax_uid, self.calling_ae_title)

    def stored(self, received_ns: int, size: int) -> StoredInstance:
        """It, as it is on the disk."""
        return StoredInstance(
            association_id=self.association_id,
            sequence=self.sequence,
            received_ns=received_ns,
            bytes=size,
            folder=self.folder,
            name=instance_name(self.sequence, received_ns),
            sop_class_uid=self.sop_class_uid,
            sop_instance_uid=self.sop_instance_uid,
            transfer_syntax_uid=self.transfer_syntax_uid,
        )


Named = Callable[[OSError | None], None]
"""Called once, from whichever thread: the instance has its name, or why it has not."""


class IncomingInstance(ABC):
    """An instance that is arriving; used by one thread at a time."""

    flush_seconds: float | None = None
    """What the flushes of :meth:`commit` took; None when nothing was flushed."""
    path: Path | None
    """The file that it arrives in; None while it is in none."""
    waits_for_the_journal = False
    """Whether :meth:`name` may take as long as the file system's journal is kept busy."""

    @abstractmethod
    def write(self, *fragments: bytes | memoryview) -> None:
        """Write some fragments of the dataset, in this order; OSError when the disk does not take them."""

    @abstractmethod
    def commit(self) -> StoredInstance:
        """Make the instance durable.

        Raises:
            OSError: It is not durable. Call :meth:`discard`; the caller may then say that it has not stored it.
        """

    @abstractmethod
    def name(self, done: Named) -> None:
        """Give what is durable its final name, if it has none, now or soon; the reply need not wait for this.

        Args:
            done: When it is told an error, the instance has no name. It is safe all the same. Try again, or call
                :meth:`discard`: then it gets its name when the receiver looks through its spool.
        """

    @abstractmethod
    def discard(self) -> None:
        """Let go of it; safe to repeat. What has been written is removed, unless it is committed."""


class NewFile(IncomingInstance):
    """An instance in a file of its own from the beginning: data flushed, named, and the folder flushed."""

    def __init__(self, arriving: Arriving, *, durable: bool, stored: Callable[[StoredInstance], None]) -> None:
        """Args:
        durable: False: nothing is flushed.
        stored: Called when it is.
        """
        self._arriving = arriving
        self._durable = durable
        self._stored = stored
        self._folder = arriving.folder_descriptor
        self._name = part_name(arriving.sequence)
        self.path = arriving.folder / self._name
        self._header = arriving.header()
        self._size = 0
        self._descriptor = os.open(self._name, _FLAGS, 0o640, dir_fd=self._folder)
        self._open = True
        self._committed = False

    def write(self, *fragments: bytes | memoryview) -> None:
        if self._header:
            header, self._header = self._header, b""
            fragments = (header, *fragments)
        if len(fragments) > MOST_AT_ONCE:
            fragments = (b"".join(fragments),)
        length = sum(map(len, fragments))
        written = os.writev(self._descriptor, fragments)
        self._size += written
        if written < length:  # a nearly full disk takes a part and refuses the next
            rest = memoryview(b"".join(fragments))[written:]
            write_all(self._descriptor, rest)
            self._size += len(rest)

    def commit(self) -> StoredInstance:
        if self._header:
            self.write()
        seconds = self._flush(os.fdatasync, self._descriptor)
        self._close()
        instance = self._arriving.stored(time.time_ns(), self._size)
        os.rename(self._name, instance.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        self._name = instance.name
        seconds += self._flush(os.fsync, self._folder)
        self.flush_seconds = seconds if self._durable else None
        self._committed = True
        self._stored(instance)
        return instance

    def name(self, done: Named) -> None:
        """It has it since it is durable."""
        done(None)

    def discard(self) -> None:
        if self._committed:
            return
        with suppress(OSError):  # an error of close tells of data that is given up anyway
            self._close()
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._folder)

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
