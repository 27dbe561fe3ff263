"""Changed streams through the parser and the message layer, with a sink that only looks; no sockets and no files.

Each stream is played twice, as one piece and in pieces of any size through a buffer of any size. Both must tell the
same, and what they give to the sink must be what a reader of a few lines, which knows the whole stream, finds in it.
"""

import signal
import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle, repeat
from typing import Final, NamedTuple

from pynetdicom.pdu import A_ASSOCIATE_RQ

from clara_dicom_adapter.receiver.commands import SUCCESS, StoreRequest
from clara_dicom_adapter.receiver.dimse import AcceptedContext, Echo, Foreign, Senseless, StoreMessages
from clara_dicom_adapter.receiver.pdata import Broken, OtherPdu, PDataParser
from support.mutations import Arriving, Stream
from support.recordings import CORPUS, P_DATA, Recording

MAXIMUM_PDU: Final = 131072
HANG_SECONDS: Final = 5.0
"""Of processor time; most streams take a thousandth of a second, the dearest a tenth."""

Stored = tuple[str, bytes]


@dataclass
class Figures:
    """What a run has been."""

    streams: int = 0
    stored: int = 0
    endings: Counter[str] = field(default_factory=Counter)

    def count(self, ending: str, stored: int) -> None:
        """One more stream."""
        self.streams += 1
        self.stored += stored
        self.endings[ending] += 1


class Told(NamedTuple):
    """What was made of a stream."""

    ending: str
    stored: list[Stored]


class _Sink:
    """Takes everything, and holds whoever calls it to the order of the calls."""

    def __init__(self) -> None:
        self.stored: list[Stored] = []
        self._open: str | None = None
        self._data = bytearray()

    def begin(self, request: StoreRequest, abstract_syntax: str, transfer_syntax: str) -> None:
        assert self._open is None, "begun twice"
        assert abstract_syntax
        assert transfer_syntax
        self._open = request.sop_instance_uid
        self._data.clear()

    def write(self, fragments: list[memoryview]) -> None:
        assert self._open is not None, "written before it was begun"
        for fragment in fragments:
            self._data += fragment

    def complete(self) -> tuple[int, str]:
        assert self._open is not None, "completed before it was begun"
        self.stored.append((self._open, bytes(self._data)))
        self._open = None
        return SUCCESS, ""

    def answered(self) -> None:
        assert self._open is None, "answered before it was completed"


def accepted(recording: Recording) -> dict[int, AcceptedContext]:
    """Every context that was proposed, as the receiver accepts them."""
    request = A_ASSOCIATE_RQ()
    request.decode(recording.request)
    return {
        context.context_id: AcceptedContext(str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in request.presentation_context
        if context.context_id is not None
    }


_ACCEPTED: Final = {recording.name: accepted(recording) for recording in CORPUS}


def play(data: bytes, sizes: Iterable[int], contexts: dict[int, AcceptedContext], buffer_bytes: int) -> Told:
    """Give a stream to the receiver's parser and messages."""
    sink, replies = _Sink(), 0

    def send(reply: bytes) -> None:
        nonlocal replies
        assert struct.unpack_from(">BxI", reply) == (P_DATA, len(reply) - 6)
        replies += 1

    parser = PDataParser(MAXIMUM_PDU, buffer_bytes=buffer_bytes)
    messages = StoreMessages(contexts, sink, send, maximum_pdu_length=0)
    at, ending = 0, ""
    for size in sizes:
        free = parser.free()
        piece = data[at : at + min(size, len(free))]
        free[: len(piece)] = piece
        parser.received(len(piece))
        at += len(piece)
        foreign = messages.serve(parser.events())
        while isinstance(foreign, Echo):  # answered by whoever serves it
            foreign = messages.serve(parser.events())
        if foreign is not None:
            ending = _ending(foreign, parser, data[:at])
            break
        if at == len(data):
            ending = "within a PDU" if parser.within_pdu else "between PDUs"
            break
    assert replies == len(sink.stored), "an instance without its reply"
    return Told(ending, sink.stored)


def _ending(foreign: Foreign, parser: PDataParser, given: bytes) -> str:
    if isinstance(foreign, OtherPdu):
        rest = parser.take(len(given))
        assert rest[0] == foreign.kind
        assert given.endswith(rest), "bytes of another PDU are not intact"
        return f"PDU {foreign.kind}"
    if isinstance(foreign, Broken):
        return f"{foreign.reason.name}: {foreign.text}"
    assert isinstance(foreign, Senseless)
    return f"senseless: {foreign.text[:12]}"


def complete_in(data: bytes) -> list[Stored]:
    """The instances in a stream, up to where it makes no sense, or further: it is generous, the receiver is not."""
    found: list[Stored] = []
    command, body, uid, at = b"", b"", "", 0
    while at + 6 <= len(data) and data[at] == P_DATA:
        end = at + 6 + struct.unpack_from(">I", data, at + 2)[0]
        at += 6
        while at + 6 <= min(end, len(data)):
            length, _context, control = struct.unpack_from(">IBB", data, at)
            piece, at = data[at + 6 : at + 4 + length], at + 4 + length
            if length < 2 or at > end or at > len(data):
                return found
            if not control & 1:
                body += piece
                if control & 2:
                    found.append((uid, body))
                    body = b""
            else:
                command += piece
                if control & 2:
                    elements = _elements(command)
                    command = body = b""
                    uid = elements.get(0x1000, b"").strip(b"\0 ").decode("ascii", "replace")
                    if elements.get(0x0100) == b"\1\0" and elements.get(0x0800) == b"\1\1":
                        found.append((uid, b""))
        at = end
    return found


def _elements(command: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while len(command) >= 8:
        group, element, length = struct.unpack_from("<HHI", command)
        if group == 0:
            found[element] = command[8 : 8 + length]
        command = command[8 + length :]
    return found


def stand(arriving: Arriving, figures: Figures) -> None:
    """Play streams, in the main thread; raises AssertionError, or whatever the receiver raises."""
    for stream in arriving.streams:
        with _must_end():
            told = _stand(stream, arriving)
        figures.count(told.ending, len(told.stored))


def _stand(stream: Stream, arriving: Arriving) -> Told:
    data, contexts = stream.data, _ACCEPTED[stream.sender]
    told = play(data, repeat(len(data) + 1), contexts, 65536)
    in_pieces = play(data, cycle(arriving.pieces), contexts, arriving.buffer_bytes)
    assert in_pieces == told, "it depends on how the bytes arrive"
    there = complete_in(data)
    assert told.stored == there[: len(told.stored)], "what was stored is not what was sent"
    return told


@contextmanager
def _must_end() -> Iterator[None]:
    def hang(*_: object) -> None:
        raise TimeoutError

    hangs = False
    before = signal.signal(signal.SIGVTALRM, hang)
    signal.setitimer(signal.ITIMER_VIRTUAL, HANG_SECONDS)
    try:
        yield
    except TimeoutError:
        hangs = True
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
    assert not hangs, "it hangs"  # from one place, wherever it hangs, so that it is one finding
