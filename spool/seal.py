"""The seal of an instance in a prepared file or a segment: what it is, how long, and a hash of its bytes.

It lies in the preamble of the DICOM file, whose 128 bytes are the implementation's (PS3.10 section 7.1), and is written
last. A file that agrees with its seal is complete, whatever its name: the name may be made after the flush.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

import xxhash

PREAMBLE_BYTES: Final = 128

_MAGIC: Final = b"ClaraSeal\x01"
_FIELDS: Final = struct.Struct("<10s16sQQQQ")  # magic, association, sequence, received, size, hash of the content
_OWN_HASH: Final = struct.Struct("<Q")
_PIECE: Final = 1 << 20

ContentHash = xxhash.xxh3_64


@dataclass(frozen=True, slots=True)
class Seal:
    """What a sealed file holds.

    Attributes:
        association_id: 32 hex digits.
        sequence: Of the instance in its association.
        received_ns: Nanoseconds since 1970.
        size: Bytes of the file, preamble included; what lies behind is not the instance's.
        content: XXH3 (64 bits) of everything behind the preamble.
    """

    association_id: str
    sequence: int
    received_ns: int
    size: int
    content: int

    def preamble(self, key: int = 0) -> bytes:
        """The 128 bytes at the head of the file, or, with the key of a lap, of a copy in a segment."""
        association = bytes.fromhex(self.association_id)
        fields = _FIELDS.pack(_MAGIC, association, self.sequence, self.received_ns, self.size, self.content)
        return (fields + _OWN_HASH.pack(ContentHash(fields, key).intdigest())).ljust(PREAMBLE_BYTES, b"\0")

    @classmethod
    def read(cls, preamble: bytes, key: int = 0) -> Self | None:
        """The seal in a preamble; None when there is none that is whole and has this key."""
        if len(preamble) < PREAMBLE_BYTES or not preamble.startswith(_MAGIC):
            return None
        fields = preamble[: _FIELDS.size]
        if _OWN_HASH.unpack_from(preamble, _FIELDS.size)[0] != ContentHash(fields, key).intdigest():
            return None
        _, association, sequence, received_ns, size, content = _FIELDS.unpack(fields)
        return cls(association.hex(), sequence, received_ns, size, content)

    def agrees_with(self, stream: BinaryIO) -> bool:
        """Whether a file holds what it was sealed with, to the last byte; OSError when it cannot be read."""
        stream.seek(PREAMBLE_BYTES)
        found, left = ContentHash(), self.size - PREAMBLE_BYTES
        while left > 0 and (piece := stream.read(min(_PIECE, left))):
            found.update(piece)
            left -= len(piece)
        return left == 0 and found.intdigest() == self.content


def seal_of(path: Path) -> Seal | None:
    """The seal of a file; None when it has none. OSError when it cannot be read."""
    with path.open("rb", buffering=0) as stream:
        return Seal.read(stream.read(PREAMBLE_BYTES))
