"""What senders said, changed: whole PDUs, their headers, elements of command sets, or any bytes.

Hypothesis draws the changes, so it also makes a finding small and plays it again. Each choice is drawn where it is
needed, from what the stream has become by then; simpler choices stand first.
"""

import struct
from collections.abc import Iterator, Sized
from dataclasses import dataclass, field
from itertools import count, cycle
from typing import Final

from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter

from support.recordings import CORPUS, P_DATA, Pdv, Recording, fields, pdvs

_LONGEST: Final = 1 << 18
"""No stream is longer; repeating what is repeated would end elsewhere."""
_CALLING_AE_TITLE: Final = slice(26, 42)  # PS3.8 table 9-11


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


class _Told:
    """Hypothesis tells of it without its bytes; by itself it would show every field of a dataclass."""

    def _repr_pretty_(self, printer: RepresentationPrinter, _cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(frozen=True)
class Stream(_Told):
    """What a sender says after its request, gone astray.

    Attributes:
        sender: Name of the recording.
        changes: What was changed, one after the other.
    """

    sender: str
    changes: tuple[str, ...]
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Arriving(_Told):
    """Streams for the parser, each on its own, and how they come.

    Attributes:
        pieces: Sizes of what comes at once; they begin anew after the last one.
    """

    pieces: tuple[int, ...]
    buffer_bytes: int
    streams: list[Stream]


@dataclass(frozen=True)
class Association(_Told):
    """A stream for a listener.

    Attributes:
        of_request: What was changed in its A-ASSOCIATE-RQ.
        ahead: It does not wait for the answer to the request, which breaks the protocol.
    """

    of_request: tuple[str, ...]
    request: bytes = field(repr=False)
    stream: Stream
    ahead: bool


def _sizes(drawn: bytes) -> tuple[int, ...]:
    """Half of them short, for headers to be cut; only short ones would take too long, so they are not the simplest."""
    return tuple((128 - byte) * 24 if byte < 128 else 1 + (255 - byte) // 11 for byte in drawn)


_SIZES: Final = st.binary(min_size=6, max_size=12).map(_sizes)
_BUFFERS: Final = st.sampled_from((*[4096] * 97, 64, 7, 6))
_HOW_OFTEN: Final = st.sampled_from((0, *[1] * 6, 2, 2, 3, 4))


@st.composite
def _streams(draw: st.DrawFn, recording: Recording) -> Stream:
    pdus = list(recording.pdus)
    changes = [draw(_OF_PDUS)(draw, pdus) for _ in range(draw(_HOW_OFTEN)) if pdus]
    return Stream(recording.name, tuple(changes), b"".join(pdus)[:_LONGEST])


_STREAMS: Final = {recording.name: _streams(recording) for recording in CORPUS}
_SEVERAL: Final = {sender: st.lists(streams, min_size=1) for sender, streams in _STREAMS.items()}
_SENDERS: Final = st.sampled_from(CORPUS)


@st.composite
def arriving(draw: st.DrawFn) -> Arriving:
    """A recording, changed in a few places, in pieces of any size through a buffer of any size.

    There are several such streams in one example, because an example costs hypothesis more than a stream the receiver.
    """
    recording = draw(_SENDERS)
    return Arriving(draw(_SIZES), draw(_BUFFERS), draw(_SEVERAL[recording.name]))


_TITLES: Final = count()


@st.composite
def associations(draw: st.DrawFn) -> Association:
    """A recording with its request, both changed; the calling AE title is another one every time it is made."""
    recording = draw(_SENDERS)
    request, changes = bytearray(recording.request), []
    request[_CALLING_AE_TITLE] = b"N%-15d" % next(_TITLES)
    data = bytes(request)
    for _ in range(draw(st.sampled_from((*[0] * 9, 1, 2, 3)))):
        data, change = draw(st.sampled_from((_overwritten, _doubled, _cut)))(draw, data)
        changes.append(change)
    return Association(tuple(changes), data, draw(_STREAMS[recording.name]), ahead=draw(st.integers(0, 9)) == 9)


def calling_ae_title(request: bytes) -> str:
    """What the reports call who has sent a request."""
    return request[_CALLING_AE_TITLE].decode("ascii", "replace").strip(" \0")


def _index(draw: st.DrawFn, these: Sized) -> int:
    return draw(st.integers(0, max(len(these) - 1, 0)))


# ---- whole PDUs ----


def _dropped(draw: st.DrawFn, pdus: list[bytes]) -> str:
    at = _index(draw, pdus)
    del pdus[at]
    return f"PDU {at} dropped"


def _repeated(draw: st.DrawFn, pdus: list[bytes]) -> str:
    at, times = _index(draw, pdus), draw(st.sampled_from((1, 1, 1, 2, 20)))
    pdus[at:at] = [pdus[at]] * times
    return f"PDU {at} {times} times more"


def _swapped(draw: st.DrawFn, pdus: list[bytes]) -> str:
    one, other = _index(draw, pdus), _index(draw, pdus)
    pdus[one], pdus[other] = pdus[other], pdus[one]
    return f"PDUs {one} and {other} swapped"


_FOREIGN: Final = st.sampled_from(_ODD_PDUS) | st.sampled_from([pdu for recording in CORPUS for pdu in recording.pdus])


def _inserted(draw: st.DrawFn, pdus: list[bytes]) -> str:
    at, foreign = _index(draw, pdus), draw(_FOREIGN)
    pdus.insert(at, foreign)
    return f"PDU inserted at {at}: {foreign[:60].hex()} ({len(foreign)} bytes)"


def _reframed(draw: st.DrawFn, pdus: list[bytes]) -> str:
    """The same PDVs, cut into smaller ones and put into PDUs at will; nothing that would be wrong."""
    begin, sizes, together = _index(draw, pdus), draw(_SIZES), draw(st.sampled_from((1, 2, 5, 50)))
    end = next((at for at in range(begin, len(pdus)) if pdus[at][:1] != bytes([P_DATA])), len(pdus))
    pieces = [piece for pdu in pdus[begin:end] for pdv in pdvs(pdu) for piece in _cut_smaller(pdv, cycle(sizes))]
    bodies = (b"".join(pieces[at : at + together]) for at in range(0, len(pieces), together))
    pdus[begin:end] = [struct.pack(">BxI", P_DATA, len(body)) + body for body in bodies]
    return f"PDUs {begin} to {end} reframed as PDVs of {sizes}, {together} in a PDU"


def _cut_smaller(pdv: Pdv, sizes: Iterator[int]) -> Iterator[bytes]:
    at = 0
    while True:
        piece = pdv.data[at : at + max(next(sizes), 1 + len(pdv.data) // 40)]
        at += len(piece)
        last = pdv.control & 2 if at == len(pdv.data) else 0
        yield struct.pack(">IBB", len(piece) + 2, pdv.context_id, pdv.control & 1 | last) + piece
        if at == len(pdv.data):
            return


def _ended(draw: st.DrawFn, pdus: list[bytes]) -> str:
    at = _index(draw, pdus)
    length = _index(draw, pdus[at])
    pdus[at:] = [pdus[at][:length]] if length else []
    return f"ends with {length} bytes of PDU {at}"


# ---- headers and elements ----


def _numbers(size: int) -> st.SearchStrategy[int]:
    """Numbers of so many bytes: at the limits of what fits into fewer bits, or any."""
    limits = [limit for bits in range(8 * size) for limit in ((1 << bits) - 1, 1 << bits)]
    return st.sampled_from([*limits, (1 << 8 * size) - 1]) | st.integers(0, (1 << 8 * size) - 1)


_NUMBERS: Final = {size: _numbers(size) for size in (1, 2, 4)}
_NEAR: Final = st.sampled_from((-1, 1, -2, 2, None, None, None, None))


def _renumbered(draw: st.DrawFn, pdus: list[bytes]) -> str:
    at = _index(draw, pdus)
    pdu = pdus[at]
    numbers = fields(pdu)
    if not numbers:
        return f"PDU {at} left as it was"
    place, layout = numbers[_index(draw, numbers)]
    size = struct.calcsize(layout)
    old = int(struct.unpack_from(layout, pdu, place)[0])
    near = draw(_NEAR)
    new = draw(_NUMBERS[size]) if near is None else (old + near) % (1 << 8 * size)
    pdus[at] = pdu[:place] + struct.pack(layout, new) + pdu[place + size :]
    return f"PDU {at}: number of {size} bytes at {place} is {new}, was {old}"


# ---- any bytes ----


def _overwritten(draw: st.DrawFn, data: bytes) -> tuple[bytes, str]:
    at, removed = _index(draw, data), draw(st.sampled_from((1, 1, 2, 4, 0, 6, 100, 1000)))
    new = draw(st.binary(max_size=4))
    return data[:at] + new + data[at + removed :], f"{removed} bytes at {at} are {new!r}"


def _doubled(draw: st.DrawFn, data: bytes) -> tuple[bytes, str]:
    begin, at, size = _index(draw, data), _index(draw, data), draw(st.sampled_from((1, 2, 6, 12, 200, 5000)))
    return data[:at] + data[begin : begin + size] + data[at:], f"{size} bytes at {begin} also at {at}"


def _cut(draw: st.DrawFn, data: bytes) -> tuple[bytes, str]:
    length = _index(draw, data)
    return data[:length], f"ends after {length} bytes"


def _bytes_changed(draw: st.DrawFn, pdus: list[bytes]) -> str:
    at = _index(draw, pdus)
    changed, text = draw(st.sampled_from((_overwritten, _overwritten, _doubled)))(draw, pdus[at])
    pdus[at : at + 1] = [changed] if changed else []
    return f"PDU {at}: {text}"


_OF_PDUS: Final = st.sampled_from(
    (_dropped, _ended, _repeated, _swapped, _inserted, _reframed, *[_bytes_changed] * 2, *[_renumbered] * 6)
)
