"""What real senders said to the receiver, and what a reader of it acts on."""

import struct
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

P_DATA: Final = 4


class Recording(NamedTuple):
    """One association of a real sender."""

    name: str
    request: bytes
    """The A-ASSOCIATE-RQ."""
    pdus: tuple[bytes, ...]
    """What came after it."""


class Pdv(NamedTuple):
    """One PDV of a P-DATA-TF."""

    context_id: int
    control: int
    data: bytes


def _recording(path: Path) -> Recording:
    data, pdus = path.read_bytes(), []
    while data:
        end = 6 + struct.unpack_from(">I", data, 2)[0]
        pdus.append(data[:end])
        data = data[end:]
    return Recording(path.stem, pdus[0], tuple(pdus[1:]))


CORPUS: Final = sorted(
    (_recording(path) for path in (Path(__file__).parents[1] / "receiver" / "corpus").glob("*.bin")),
    key=lambda recording: (sum(map(len, recording.pdus)), recording.name),
)
"""All recordings, the shortest first."""


def pdvs(pdu: bytes) -> list[Pdv]:
    """The PDVs of a PDU as far as they make sense."""
    found, at = [], 6
    while pdu[0] == P_DATA and at + 6 <= len(pdu):
        length, context_id, control = struct.unpack_from(">IBB", pdu, at)
        if length < 2 or at + 4 + length > len(pdu):
            break
        found.append(Pdv(context_id, control, pdu[at + 6 : at + 4 + length]))
        at += 4 + length
    return found


class Field(NamedTuple):
    """Place and layout of a number."""

    at: int
    layout: str


@lru_cache(maxsize=256)
def fields(pdu: bytes) -> tuple[Field, ...]:
    """Every number that a reader of the PDU acts on."""
    found = [Field(0, ">B"), Field(2, ">I")]
    at = 6
    for pdv in pdvs(pdu):
        found += (Field(at, ">I"), Field(at + 4, ">B"), Field(at + 5, ">B"))
        end = at + 6 + len(pdv.data)
        element = at + 6
        while pdv.control & 1 and element + 8 <= end:
            length = struct.unpack_from("<I", pdu, element + 4)[0]
            found += (Field(element, "<H"), Field(element + 2, "<H"), Field(element + 4, "<I"))
            if length >= 2:
                found.append(Field(element + 8, "<H"))
            element += 8 + length
        at = end
    return tuple(each for each in found if each.at + struct.calcsize(each.layout) <= len(pdu))
