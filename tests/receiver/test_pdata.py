"""P-DATA-TF as events: every split of a stream tells the same, and nothing that a peer sends goes unanswered."""

import struct
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clara_dicom_adapter.receiver.commands import MAXIMUM_COMMAND_LENGTH
from clara_dicom_adapter.receiver.pdata import (
    AbortReason,
    Broken,
    CommandSet,
    Event,
    Fragment,
    OtherPdu,
    PDataParser,
)

LONGEST = 131072


def pdv(context_id: int, control: int, data: bytes, *, length: int | None = None) -> bytes:
    return struct.pack(">IBB", len(data) + 2 if length is None else length, context_id, control) + data


def p_data(*pdvs: bytes, length: int | None = None) -> bytes:
    body = b"".join(pdvs)
    return struct.pack(">BxI", 4, len(body) if length is None else length) + body


def feed(parser: PDataParser, data: bytes) -> list[Event]:
    """Receive as the kernel would: never more than there is room for. What is a view is copied, and views joined."""
    told: list[Event] = []
    while data:
        room = parser.free()
        size = min(len(room), len(data))
        room[:size] = data[:size]
        data = data[size:]
        parser.received(size)
        for event in parser.events():
            if isinstance(event, Fragment):
                told.append(Fragment(event.context_id, memoryview(bytes(event.data)), event.last))
            else:
                told.append(event)
            if isinstance(event, OtherPdu | Broken):
                return told
    return told


def feed_all(parser: PDataParser, pieces: Iterable[bytes]) -> list[Event]:
    """Feed piece after piece, up to what is not for this parser any more."""
    told: list[Event] = []
    for piece in pieces:
        told += feed(parser, piece)
        if told and isinstance(told[-1], OtherPdu | Broken):
            break
    return told


def joined(events: list[Event]) -> list[tuple[object, ...]]:
    """Fragments that belong together as one, so that it does not matter in how many pieces they came."""
    messages: list[tuple[object, ...]] = []
    data = b""
    for event in events:
        if isinstance(event, Fragment):
            data += event.data
            if event.last:
                messages.append(("data", event.context_id, data))
                data = b""
        else:
            messages.append(tuple(event))
    return [*messages, ("rest", data)]


STREAM = (
    p_data(pdv(1, 1, b"comm"))
    + p_data(pdv(1, 3, b"and"))
    + p_data(pdv(1, 0, b"first"), pdv(1, 0, b""), pdv(1, 0, b"second"))
    + p_data(pdv(1, 2, b"last"), pdv(3, 3, b"next"), pdv(3, 2, b""))
    + p_data(pdv(5, 0xFD | 3, b"odd bits"), pdv(5, 0xFE, b"are not looked at"))
    + b"\5\0\0\0\0\4\0\0\0\0"
)
TOLD = [
    (1, b"command"),
    ("data", 1, b"firstsecondlast"),
    (3, b"next"),
    ("data", 3, b""),
    (5, b"odd bits"),
    ("data", 5, b"are not looked at"),
    (5,),
    ("rest", b""),
]


def test_a_stream_tells_the_same_however_it_is_split_in_two() -> None:
    for at in range(len(STREAM) + 1):
        assert joined(feed_all(PDataParser(LONGEST), (STREAM[:at], STREAM[at:]))) == TOLD, at


def test_a_stream_tells_the_same_in_three_pieces() -> None:
    for first in range(len(STREAM)):
        for second in range(first, len(STREAM)):
            pieces = (STREAM[:first], STREAM[first:second], STREAM[second:])
            assert joined(feed_all(PDataParser(LONGEST), pieces)) == TOLD


@pytest.mark.parametrize("room", [7, 12, 13, 64])
def test_a_stream_tells_the_same_byte_by_byte_and_through_a_small_buffer(room: int) -> None:
    single = [bytes((byte,)) for byte in STREAM]
    assert joined(feed_all(PDataParser(LONGEST, buffer_bytes=room), single)) == TOLD
    assert joined(feed(PDataParser(LONGEST, buffer_bytes=room), STREAM)) == TOLD


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[tuple[object, ...]]]:
    """Messages in any number of PDVs, PDVs in any number of PDUs."""
    told: list[tuple[object, ...]] = []
    pdvs: list[bytes] = []
    for _ in range(draw(st.integers(0, 4))):
        context_id = draw(st.integers(0, 255))
        for control in (1, 0):
            pieces = draw(st.lists(st.binary(max_size=40), min_size=1, max_size=4))
            unchecked = draw(st.integers(0, 63)) << 2
            for number, piece in enumerate(pieces, start=1):
                last = 2 if number == len(pieces) else 0
                pdvs.append(pdv(context_id, control | last | unchecked, piece))
            told.append((context_id, b"".join(pieces)) if control else ("data", context_id, b"".join(pieces)))
    stream = b""
    while pdvs:
        count = draw(st.integers(1, len(pdvs)))
        stream += p_data(*pdvs[:count])
        pdvs = pdvs[count:]
    return stream, [*told, ("rest", b"")]


@given(streams(), st.lists(st.integers(1, 60), max_size=40), st.integers(16, 300))
def test_any_stream_in_any_pieces(
    given_stream: tuple[bytes, list[tuple[object, ...]]], sizes: list[int], room: int
) -> None:
    stream, told = given_stream
    parser = PDataParser(LONGEST, buffer_bytes=room)
    pieces = []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]
    assert joined(feed_all(parser, (*pieces, stream))) == told
    assert not parser.within_pdu


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_end_in_an_event_or_in_waiting_for_more(data: bytes, at: int) -> None:
    assert joined(feed(PDataParser(200), data)) == joined(feed_all(PDataParser(200), (data[:at], data[at:])))


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x99\0\0\0\0\4", AbortReason.UNRECOGNIZED_PDU),
        (b"\0\0\0\0\0\4", AbortReason.UNRECOGNIZED_PDU),
        (p_data(length=0), AbortReason.INVALID_PDU_PARAMETER_VALUE),
        (p_data(length=1), AbortReason.INVALID_PDU_PARAMETER_VALUE),
        (p_data(length=5), AbortReason.INVALID_PDU_PARAMETER_VALUE),
        (p_data(length=LONGEST + 1), AbortReason.INVALID_PDU_PARAMETER_VALUE),
        (p_data(length=2**32 - 1), AbortReason.INVALID_PDU_PARAMETER_VALUE),
        (p_data(pdv(1, 3, b"abcd", length=0)), AbortReason.INVALID_PDU_PARAMETER_VALUE),
        (p_data(pdv(1, 3, b"abcd", length=1)), AbortReason.INVALID_PDU_PARAMETER_VALUE),
        (p_data(pdv(1, 3, b"abcd", length=7)), AbortReason.INVALID_PDU_PARAMETER_VALUE),
        (p_data(pdv(1, 3, b"abcd", length=2**32 - 1)), AbortReason.INVALID_PDU_PARAMETER_VALUE),
        (p_data(pdv(1, 3, b"abcd"), b"12345"), AbortReason.INVALID_PDU_PARAMETER_VALUE),
        (p_data(pdv(1, 1, b"abcd"), pdv(1, 0, b"data")), AbortReason.UNEXPECTED_PDU_PARAMETER),
        (p_data(pdv(1, 1, b"abcd"), pdv(3, 3, b"efgh")), AbortReason.UNEXPECTED_PDU_PARAMETER),
        (p_data(*[pdv(1, 1, bytes(8192))] * 9), AbortReason.INVALID_PDU_PARAMETER_VALUE),
    ],
)
def test_what_breaks_the_protocol_is_told_with_its_reason(sent: bytes, reason: AbortReason) -> None:
    parser = PDataParser(LONGEST)
    broken = feed(parser, sent)[-1]
    assert isinstance(broken, Broken)
    assert broken.reason is reason
    assert list(parser.events()) == [], "nothing follows"


def test_what_is_not_p_data_is_left_intact() -> None:
    release = b"\5\0\0\0\0\4\1\2\3\4"
    parser = PDataParser(LONGEST)
    told = feed(parser, p_data(pdv(1, 2, b"x")) + release + b"more")
    assert told[-1] == OtherPdu(5)
    assert list(parser.events()) == [OtherPdu(5)], "as long as nobody has taken it"
    assert (parser.take(6), parser.take(4), parser.take(100)) == (release[:6], release[6:], b"more")


def test_a_fragment_is_told_as_it_arrives_and_a_command_set_is_bounded() -> None:
    parser = PDataParser(2**32 - 1)
    start = struct.pack(">BxIIBB", 4, 2**32 - 1, 2**32 - 5, 1, 0)
    assert feed(parser, start) == []
    for _ in range(3):
        (event,) = feed(parser, b"x" * 1000)
        assert isinstance(event, Fragment)
        assert (len(event.data), event.last) == (1000, False)
    whole = feed(PDataParser(LONGEST), p_data(pdv(1, 3, bytes(MAXIMUM_COMMAND_LENGTH))))
    assert whole == [CommandSet(1, bytes(MAXIMUM_COMMAND_LENGTH))]


def test_it_knows_whether_a_pdu_has_ended() -> None:
    parser = PDataParser(LONGEST)
    message = p_data(pdv(1, 2, b"abc"))
    seen = []
    for byte in message:
        feed(parser, bytes((byte,)))
        seen.append(parser.within_pdu)
    assert seen == [True] * (len(message) - 1) + [False]
    assert parser.pdus == 1
