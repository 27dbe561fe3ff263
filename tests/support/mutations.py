"""What senders said, changed: whole PDUs, their headers, elements of command sets, or any bytes.

A stream is made from its seed and number alone, so a finding can be made again.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

CORPUS: Final = Path(__file__).parents[1] / "receiver" / "corpus"
P_DATA: Final = 4
_CHANGES: Final = 3
_LONGEST: Final = 1 << 18
"""No stream is longer; repeating what is repeated would end elsewhere."""

_NUMBERS: Final = (0, 1, 2, 3, 4, 5, 6, 7, 8, 0x7F, 0x80, 0xFF, 0x101, 0x4000, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x20000)
_LARGE: Final = (2**24, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
_CONTROLS: Final = (0, 1, 2, 3, 4, 0x80, 0xFC, 0xFF)
_ODD_PDUS: Final = (
    b"\2\0\0\0\0\4\0\0\0\0",  # A-ASSOCIATE-AC
    b"\3\0\0\0\0\4\0\1\1\1",  # A-ASSOCIATE-RJ
    b"\5\0\0\0\0\4\0\0\0\0",  # A-RELEASE-RQ
    b"\6\0\0\0\0\4\0\0\0\0",  # A-RELEASE-RP
    b"\7\0\0\0\0\4\0\0\0\0",  # A-ABORT
    b"\x08\0\0\0\0\0",  # no type
    b"\1\0\xff\xff\xff\xff",
    b"\4\0\0\0\0\0",
    b"\4\0\0\0\0\6\0\0\0\2\1\0",  # an empty fragment of a data set
    b"\4\0\0\0\0\6\0\0\0\2\1\2",
    b"\4\0\0\0\0\6\0\0\0\2\1\1",  # and of a command set
    # C-CANCEL-RQ
    b"\4\0\0\0\0\x30\0\0\0\x2c\1\3\0\0\0\0\4\0\0\0\x1e\0\0\0\0\0\0\1\2\0\0\0\xff\x0f\0\0\x20\1\2\0\0\0\1\0\0\0\0\x08\2\0\0\0\1\1",
)


class Recording(NamedTuple):
    """One association of a real sender."""

    name: str
    request: bytes
    """The A-ASSOCIATE-RQ."""
    pdus: tuple[bytes, ...]
    """What came after it."""


class Stream(NamedTuple):
    """What a sender says that has gone astray."""

    recording: Recording
    number: int
    data: bytes


class Pdv(NamedTuple):
    """One PDV of a P-DATA-TF."""

    context_id: int
    control: int
    data: bytes


def corpus() -> list[Recording]:
    """All recordings, always in the same order."""
    return [_recording(path) for path in sorted(CORPUS.glob("*.bin"))]


def _recording(path: Path) -> Recording:
    data, pdus = path.read_bytes(), []
    while data:
        end = 6 + struct.unpack_from(">I", data, 2)[0]
        pdus.append(data[:end])
        data = data[end:]
    return Recording(path.stem, pdus[0], tuple(pdus[1:]))


def streams(recordings: Sequence[Recording], seed: int, first: int = 0) -> Iterator[Stream]:
    """Streams without end, from the given number on."""
    return (mutated(recordings, seed, number) for number in count(first))


def mutated(recordings: Sequence[Recording], seed: int, number: int) -> Stream:
    """The stream of a number: a recording, changed in one to a few places."""
    random = Random((seed << 64) + number)
    recording = random.choice(recordings)
    pdus = list(recording.pdus)
    changes = 1 + min(int(random.expovariate(1)), _CHANGES)
    tail: list[Callable[[Random, bytearray], None]] = []
    for _ in range(changes):
        what = random.random()
        if what < 0.35:
            random.choice(_OF_PDUS)(random, pdus, recordings)
        elif what < 0.8 and pdus:
            at = random.randrange(len(pdus))
            pdus[at] = _with_field(random, pdus[at])
        else:
            tail.append(random.choice(_OF_BYTES))
    data = bytearray(b"".join(pdus))
    for change in tail:
        if data:
            change(random, data)
    return Stream(recording, number, bytes(data[:_LONGEST]))


def mutate_request(random: Random, request: bytearray) -> None:
    """Change any bytes of an A-ASSOCIATE-RQ."""
    for _ in range(1 + min(int(random.expovariate(1)), _CHANGES)):
        if request:
            random.choice(_OF_BYTES)(random, request)


# ---- whole PDUs ----


def _drop(random: Random, pdus: list[bytes], _recordings: Sequence[Recording]) -> None:
    if pdus:
        del pdus[random.randrange(len(pdus))]


def _repeat(random: Random, pdus: list[bytes], _recordings: Sequence[Recording]) -> None:
    if pdus:
        at = random.randrange(len(pdus))
        pdus[at:at] = [pdus[at]] * random.choice((1, 1, 1, 2, 20))


def _swap(random: Random, pdus: list[bytes], _recordings: Sequence[Recording]) -> None:
    if pdus:
        one, other = random.randrange(len(pdus)), random.randrange(len(pdus))
        pdus[one], pdus[other] = pdus[other], pdus[one]


def _insert(random: Random, pdus: list[bytes], recordings: Sequence[Recording]) -> None:
    foreign = random.choice(_ODD_PDUS) if random.random() < 0.5 else random.choice(random.choice(recordings).pdus)
    pdus.insert(random.randint(0, len(pdus)), foreign)


def _reframe(random: Random, pdus: list[bytes], _recordings: Sequence[Recording]) -> None:
    """The same PDVs, cut into smaller ones and put into PDUs at will; nothing that would be wrong."""
    begin = random.randint(0, len(pdus))
    end = next((at for at in range(begin, len(pdus)) if pdus[at][0] != P_DATA), len(pdus))
    pieces: list[bytes] = []
    for pdv in (pdv for pdu in pdus[begin:end] for pdv in pdvs(pdu)):
        size = random.choice((1 + len(pdv.data) // 40, 100, 1000, 1 << 16))
        for at in range(0, max(len(pdv.data), 1), size):
            last = pdv.control & 2 if at + size >= len(pdv.data) else 0
            piece = pdv.data[at : at + size]
            pieces.append(struct.pack(">IBB", len(piece) + 2, pdv.context_id, pdv.control & 1 | last) + piece)
    framed = []
    while pieces:
        taken = random.choice((1, 1, 2, 5, 50))
        body, pieces = b"".join(pieces[:taken]), pieces[taken:]
        framed.append(struct.pack(">BxI", P_DATA, len(body)) + body)
    pdus[begin:end] = framed


_OF_PDUS: Final = (_drop, _repeat, _swap, _insert, _reframe)


# ---- headers and elements ----


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


class _Field(NamedTuple):
    """Place and layout of a number."""

    at: int
    layout: str


@lru_cache(maxsize=1024)
def _fields(pdu: bytes) -> tuple[_Field, ...]:
    """Every number that a reader of the PDU acts on."""
    found = [_Field(0, ">B"), _Field(2, ">I")]
    at = 6
    for pdv in pdvs(pdu):
        found += (_Field(at, ">I"), _Field(at + 4, ">B"), _Field(at + 5, ">B"))
        end = at + 6 + len(pdv.data)
        element = at + 6
        while pdv.control & 1 and element + 8 <= end:
            length = struct.unpack_from("<I", pdu, element + 4)[0]
            found += (_Field(element, "<H"), _Field(element + 2, "<H"), _Field(element + 4, "<I"))
            if length >= 2:
                found.append(_Field(element + 8, "<H"))
            element += 8 + length
        at = end
    return tuple(field for field in found if field.at + struct.calcsize(field.layout) <= len(pdu))


def _with_field(random: Random, pdu: bytes) -> bytes:
    fields = _fields(pdu)
    if not fields:
        return pdu
    at, layout = random.choice(fields)
    size = struct.calcsize(layout)
    old = int(struct.unpack_from(layout, pdu, at)[0])
    values = _CONTROLS if size == 1 and random.random() < 0.5 else _NUMBERS if size < 4 else _NUMBERS + _LARGE
    near = random.random() < 0.4
    new = old + random.choice((-2, -1, 1, 2)) if near else random.choice(values)
    return pdu[:at] + struct.pack(layout, new % (1 << 8 * size)) + pdu[at + size :]


# ---- any bytes ----


def _flip(random: Random, data: bytearray) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(random: Random, data: bytearray) -> None:
    at = random.randrange(len(data))
    data[at : at + random.choice((1, 2, 4))] = random.choice(
        (b"\0", b"\xff", b"\x7f\xff\xff\xff", b"\0\0", random.randbytes(4))
    )


def _cut(random: Random, data: bytearray) -> None:
    del data[random.randrange(len(data)) :]


def _remove(random: Random, data: bytearray) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.choice((1, 2, 4, 6, 100, 1000))]


def _double(random: Random, data: bytearray) -> None:
    begin, at = random.randrange(len(data)), random.randrange(len(data))
    data[at:at] = data[begin : begin + random.choice((1, 2, 6, 12, 200, 5000))]


_OF_BYTES: Final = (_flip, _set, _cut, _remove, _double)
