"""Changed streams through the parser and the message layer, with a sink that only looks; no sockets and no files.

Each stream is played twice, as one piece and in pieces of any size through a buffer of any size. Both must tell the
same, and what they give to the sink must be what a reader of a few lines, which knows the whole stream, finds in it.
"""

import signal
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from pynetdicom.pdu import A_ASSOCIATE_RQ

from clara_dicom_adapter.receiver.commands import SUCCESS, StoreRequest
from clara_dicom_adapter.receiver.dimse import AcceptedContext, Echo, Foreign, Senseless, StoreMessages
from clara_dicom_adapter.receiver.pdata import Broken, OtherPdu, PDataParser
from support.mutations import P_DATA, Recording, Stream, mutated

MAXIMUM_PDU: Final = 131072
_HANG_SECONDS: Final = 10.0
"""Of processor time; a stream takes less than a thousandth."""
_SETTLED: Final = 5000
"""Streams after which the memory is looked at for the first time."""

Stored = tuple[str, bytes]


class Finding(AssertionError):
    """A stream that the receiver did not stand, with what is needed to play it again."""


@dataclass
class Figures:
    """What a run has been."""

    streams: int = 0
    stored: int = 0
    grown_bytes: int = 0
    endings: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, more: "Figures") -> "Figures":
        self.streams += more.streams
        self.stored += more.stored
        self.grown_bytes += more.grown_bytes
        self.endings += more.endings
        return self


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


def check(stream: Stream, contexts: dict[int, AcceptedContext], random: Random) -> Told:
    """Play a stream both ways; raises AssertionError when they differ, or anything that the receiver raises."""
    data = stream.data
    told = play(data, repeat(len(data) + 1), contexts, 65536)
    buffer_bytes = random.choice((6, 7, 64)) if random.random() < 0.02 else 4096
    pieces = _pieces(random)
    assert play(data, pieces, contexts, buffer_bytes) == told, "it depends on how the bytes arrive"
    there = complete_in(data)
    assert told.stored == there[: len(told.stored)], "what was stored is not what was sent"
    return told


def _pieces(random: Random) -> Iterator[int]:
    """Short ones now and then, for headers to be cut; only short ones would take too long."""
    while True:
        yield int(random.random() * 12) + 1 if random.random() < 0.5 else int(random.random() * 3000) + 1


def run(recordings: Sequence[Recording], seed: int, numbers: Iterable[int], findings: Path) -> Figures:
    """Play streams, in the main thread.

    Args:
        findings: Folder for the bytes of a stream that was not stood.

    Raises:
        Finding: Says which stream, and how it is played again.
    """
    figures, first = Figures(), 0
    contexts = {recording.name: accepted(recording) for recording in recordings}
    with _watched():
        for number in numbers:
            stream = mutated(recordings, seed, number)
            signal.setitimer(signal.ITIMER_VIRTUAL, _HANG_SECONDS)
            try:
                told = check(stream, contexts[stream.recording.name], Random(number))
            except Exception as error:
                findings.mkdir(parents=True, exist_ok=True)
                (findings / f"{seed}-{number}.bin").write_bytes(stream.data)
                raise Finding(f"SEED={seed} FIRST={number} ({stream.recording.name}): {error!r}") from error
            figures.streams += 1
            figures.stored += len(told.stored)
            figures.endings[told.ending] += 1
            if figures.streams == _SETTLED:
                first = resident_bytes()
    figures.grown_bytes = resident_bytes() - first if first else 0
    return figures


@contextmanager
def _watched() -> Iterator[None]:
    def hang(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGVTALRM, hang)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def resident_bytes(pid: int | str = "self") -> int:
    """What a process has resident."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
