"""A segment: a file on the disk already, into which small instances of all associations are written one after another.

A page at its head names the lap, one use of the segment from its beginning to its end. Behind it lie copies of
instances, each from the beginning of a page: a DICOM file with a seal (:mod:`~clara_dicom_adapter.spool.seal`) that
carries the key of the lap. So what an earlier lap has left is not taken for a copy of this one, nor is anything that a
sender writes into a dataset, for nobody outside knows the key.
"""

import os
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from clara_dicom_adapter.errors import SpoolUnusable
from clara_dicom_adapter.spool.durable import pwrite_all
from clara_dicom_adapter.spool.models import InstanceKey
from clara_dicom_adapter.spool.seal import PREAMBLE_BYTES, ContentHash, Seal

SEGMENTS: Final = "segments"
SEGMENT_BYTES: Final = 16 << 20
PAGE: Final = 4096
MOST_BYTES: Final = 64 << 10
"""Of an instance that goes into a segment. A larger one is written once only: twice costs more than is saved."""
_MAGIC: Final = b"ClaraSegm\x01"
_LAP: Final = struct.Struct("<10sQQ")  # magic, key, begun; a hash of them follows
_HASH: Final = struct.Struct("<Q")
_BLANK: Final = bytes(PAGE)


class Lap(NamedTuple):
    """One use of a segment.

    Attributes:
        key: Of the seals in it.
        begun_ns: Nanoseconds since 1970.
    """

    key: int
    begun_ns: int


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of an instance in a segment.

    Attributes:
        at: Where in the file.
        seal: As it will be in the preamble of its own file.
    """

    at: int
    seal: Seal

    @property
    def instance(self) -> InstanceKey:
        return InstanceKey(self.seal.association_id, self.seal.sequence)

    def agrees_with(self, instance: bytes) -> bool:
        """Whether bytes are those that it was sealed with."""
        return (
            len(instance) == self.seal.size and ContentHash(instance[PREAMBLE_BYTES:]).intdigest() == self.seal.content
        )


def pages(size: int) -> int:
    """Bytes that a copy of so many takes."""
    return size + -size % PAGE


def read_lap(descriptor: int) -> Lap | None:
    """The lap of a segment; None when it is blank. SpoolUnusable when its head is damaged, OSError when unreadable."""
    head = os.pread(descriptor, _LAP.size + _HASH.size, 0)
    if not any(head) and len(head) == _LAP.size + _HASH.size:
        return None
    fields = head[: _LAP.size]
    if not head.startswith(_MAGIC) or head[_LAP.size :] != _HASH.pack(ContentHash(fields).intdigest()):
        raise SpoolUnusable("the head of the segment is damaged")
    _, key, begun_ns = _LAP.unpack(fields)
    return Lap(key, begun_ns)


def begin_lap(descriptor: int) -> Lap:
    """Begin to use a blank segment; durable together with the first copy, for nothing is in it before."""
    lap = Lap(secrets.randbits(64), time.time_ns())
    _write_head(descriptor, lap)
    return lap


def _write_head(descriptor: int, lap: Lap) -> None:
    fields = _LAP.pack(_MAGIC, *lap)
    pwrite_all(descriptor, (fields + _HASH.pack(ContentHash(fields).intdigest())).ljust(PAGE, b"\0"), 0)


def end_lap(descriptor: int, lap: Lap) -> None:
    """Make a segment blank. Durable when this returns: what may be deleted from now on must not come back from it.

    Raises:
        OSError: It may not be durable. The segment shows its lap, so that everybody goes by what may come back.
    """
    try:
        pwrite_all(descriptor, _BLANK, 0)
        os.fdatasync(descriptor)
    except OSError:
        _write_head(descriptor, lap)
        raise


def segments_in(root: Path) -> list[Path]:
    """The segments of a spool; none that is still being made. OSError when the disk refuses."""
    folder = root / SEGMENTS
    return sorted(path for path in folder.iterdir() if not path.suffix) if folder.is_dir() else []


def copies(descriptor: int, lap: Lap, unreadable: Callable[[OSError], None]) -> Iterator[Copy]:
    """What is in a segment, in order; a seal tells nothing of the content yet.

    Args:
        unreadable: Told of pages that the disk refuses; the others are looked at all the same.
    """
    at, end = PAGE, os.fstat(descriptor).st_size
    while at < end:
        copy = None
        try:
            copy = copy_at(descriptor, at, lap.key)
        except OSError as error:
            unreadable(error)
        if copy is not None:
            yield copy
        # where a power cut has torn one, nothing says how long it is, and the next begins on some page behind it
        at += pages(copy.seal.size) if copy is not None else PAGE


def copy_at(descriptor: int, at: int, key: int) -> Copy | None:
    """The copy that begins at a place of a segment in the lap of a key; None when none does."""
    seal = Seal.read(os.pread(descriptor, PREAMBLE_BYTES, at), key)
    return Copy(at, seal) if seal is not None and seal.size <= MOST_BYTES else None


def content(descriptor: int, copy: Copy) -> bytes:
    """The instance as its own file holds it, sealed without a key."""
    return copy.seal.preamble() + os.pread(descriptor, copy.seal.size - PREAMBLE_BYTES, copy.at + PREAMBLE_BYTES)
