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
from collections.abc import Iterator
from dataclasses import dataclass
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
    fields = _LAP.pack(_MAGIC, *lap)
    pwrite_all(descriptor, (fields + _HASH.pack(ContentHash(fields).intdigest())).ljust(PAGE, b"\0"), 0)
    return lap


def end_lap(descriptor: int) -> None:
    """Make a segment blank. Durable when this returns: what may be deleted from now on must not come back from it."""
    pwrite_all(descriptor, _BLANK, 0)
    os.fdatasync(descriptor)


def copies(descriptor: int, lap: Lap) -> Iterator[Copy]:
    """What is in a segment, in order; a seal tells nothing of the content yet."""
    at, end = PAGE, os.fstat(descriptor).st_size
    while at < end:
        seal = Seal.read(os.pread(descriptor, PREAMBLE_BYTES, at), lap.key)
        if seal is not None and seal.size <= MOST_BYTES:
            yield Copy(at, seal)
        # where a power cut has torn one, nothing says how long it is, and the next begins on some page behind it
        at += pages(seal.size) if seal is not None else PAGE


def content(descriptor: int, copy: Copy) -> bytes:
    """The instance as its own file holds it, sealed without a key."""
    return copy.seal.preamble() + os.pread(descriptor, copy.seal.size - PREAMBLE_BYTES, copy.at + PREAMBLE_BYTES)
