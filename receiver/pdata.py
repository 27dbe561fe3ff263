"""P-DATA-TF PDUs as events: bytes in, commands and fragments out. No sockets, no files, no pynetdicom.

How it works: the parser owns one buffer that is used again and again. The caller receives into its free part,
says how much came, and takes the events. A fragment of a data set is given as it arrives, as a view of the buffer,
so neither a PDU nor a data set is ever gathered and the largest PDU costs what the smallest does; only command sets,
which are short, are put together. What is not P-DATA stays in the buffer, whole, for whoever reads other PDUs.

The rules are those of PS3.8 section 9.3.5 and annex E.2; what a command says, and which data set may follow it, is
nothing to this module.
"""

import struct
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from clara_dicom_adapter.receiver import commands

P_DATA_TF: Final = 0x04
# PS3.8 section 9.3.1: A-ASSOCIATE-RQ to A-ABORT
PDU_TYPES: Final = range(0x01, 0x08)
PDU_HEADER: Final = struct.Struct(">BxI")
PDV_HEADER: Final = struct.Struct(">IBB")  # length, presentation context, message control header
_CONTEXT_AND_CONTROL: Final = 2  # they count as a part of the PDV's length, PS3.8 table 9-23

BUFFER_BYTES: Final = 256 * 1024


class AbortReason(IntEnum):
    """Reasons of an A-ABORT whose source is the service provider, PS3.8 table 9-26."""

    NOT_SPECIFIED = 0
    UNRECOGNIZED_PDU = 1
    UNEXPECTED_PDU = 2
    UNRECOGNIZED_PDU_PARAMETER = 4
    UNEXPECTED_PDU_PARAMETER = 5
    INVALID_PDU_PARAMETER_VALUE = 6


class CommandSet(NamedTuple):
    """A command set is complete."""

    context_id: int
    encoded: bytes


class Fragment(NamedTuple):
    """Some bytes of a data set; valid until the next :meth:`PDataParser.free`."""

    context_id: int
    data: memoryview
    last: bool


class OtherPdu(NamedTuple):
    """The next PDU is not P-DATA; all of it is still to be had from :meth:`PDataParser.take`."""

    kind: int


class Broken(NamedTuple):
    """What came breaks PS3.8; nothing follows this event."""

    reason: AbortReason
    text: str


Event = CommandSet | Fragment | OtherPdu | Broken


class PDataParser:
    """Parses what one peer sends in an established association."""

    def __init__(self, maximum_pdu_length: int, *, buffer_bytes: int = BUFFER_BYTES) -> None:
        """Args:
        maximum_pdu_length: What was offered to the peer; a longer PDU breaks the protocol.
        """
        self._maximum_pdu_length = maximum_pdu_length
        self._buffer = bytearray(buffer_bytes)
        self._view = memoryview(self._buffer)
        self._at = 0  # up to here it is parsed
        self._end = 0  # up to here it is received
        self._pdu_left = 0  # bytes of the current PDU behind the current fragment
        self._fragment_left = 0
        self._context_id = 0
        self._control = 0
        self._command = bytearray()
        self._commanding: int | None = None  # context of a command set that is not complete
        self._broken = False
        self.told: Callable[[int], None] | None = None
        """Told the length of each P-DATA-TF PDU that begins, behind its header."""
        self.pdus = 0
        """PDUs begun so far: when it does not change for long, a PDU does not end."""

    @property
    def within_pdu(self) -> bool:
        """Whether a PDU has begun and not ended."""
        return self._at != self._end or self._pdu_left > 0 or self._fragment_left > 0

    def free(self) -> memoryview:
        """Where to receive the next bytes; views given before become invalid. Take all events first."""
        left = self._end - self._at
        if left and self._at:  # a part of a header
            self._buffer[:left] = self._buffer[self._at : self._end]
        self._at, self._end = 0, left
        return self._view[left:]

    def received(self, count: int) -> None:
        """So many bytes have been received into :meth:`free`."""
        self._end += count

    def take(self, count: int) -> bytes:
        """Up to so many of the bytes that are not parsed, for whoever reads what is not P-DATA."""
        taken = bytes(self._view[self._at : min(self._at + count, self._end)])
        self._at += len(taken)
        return taken

    def events(self) -> Iterator[Event]:
        """What can be told of the bytes so far. It may be left at any event, and asked again."""
        while not self._broken:
            if self._fragment_left:
                if self._at == self._end:
                    return
                event = self._some_of_fragment()
            elif self._pdu_left:
                if self._end - self._at < PDV_HEADER.size and self._pdu_left >= PDV_HEADER.size:
                    return
                event = self._pdv()
            else:
                if self._end - self._at < PDU_HEADER.size:
                    return
                event = self._pdu()
                if isinstance(event, OtherPdu):
                    yield event
                    return
            if event is not None:
                yield event

    def _pdu(self) -> Event | None:
        kind, length = PDU_HEADER.unpack_from(self._buffer, self._at)
        if kind != P_DATA_TF:
            if kind not in PDU_TYPES:
                return self._break(AbortReason.UNRECOGNIZED_PDU, "unknown PDU type")
            return OtherPdu(kind)
        if length > self._maximum_pdu_length:
            return self._break(AbortReason.INVALID_PDU_PARAMETER_VALUE, "PDU longer than was agreed")
        if length < PDV_HEADER.size:  # PS3.8 table 9-22: one PDV at least
            return self._break(AbortReason.INVALID_PDU_PARAMETER_VALUE, "PDU without a PDV")
        self._at += PDU_HEADER.size
        self._pdu_left = length
        self.pdus += 1
        if self.told is not None:
            self.told(length)
        return None

    def _pdv(self) -> Event | None:
        if self._pdu_left < PDV_HEADER.size:
            return self._break(AbortReason.INVALID_PDU_PARAMETER_VALUE, "bytes behind the last PDV")
        length, context_id, control = PDV_HEADER.unpack_from(self._buffer, self._at)
        fragment = length - _CONTEXT_AND_CONTROL
        left = self._pdu_left - PDV_HEADER.size
        if not 0 <= fragment <= left:
            return self._break(AbortReason.INVALID_PDU_PARAMETER_VALUE, "PDV length beyond its PDU or too short")
        is_command = bool(control & commands.COMMAND)  # bits 2 to 7 are never checked, PS3.8 annex E.2
        if self._commanding is not None and (not is_command or context_id != self._commanding):
            return self._break(AbortReason.UNEXPECTED_PDU_PARAMETER, "another message within a command set")
        if is_command:
            self._commanding = context_id
            if len(self._command) + fragment > commands.MAXIMUM_COMMAND_LENGTH:
                return self._break(AbortReason.INVALID_PDU_PARAMETER_VALUE, "a command set without end")
        self._at += PDV_HEADER.size
        self._pdu_left = left - fragment
        self._fragment_left = fragment
        self._context_id, self._control = context_id, control
        return None if fragment else self._some_of_fragment()

    def _some_of_fragment(self) -> Event | None:
        begin = self._at
        size = min(self._fragment_left, self._end - begin)
        self._at = begin + size
        self._fragment_left -= size
        last = not self._fragment_left and bool(self._control & commands.LAST)
        if not self._control & commands.COMMAND:
            return Fragment(self._context_id, self._view[begin : self._at], last)
        self._command += self._view[begin : self._at]
        if not last:
            return None
        encoded = bytes(self._command)
        self._command.clear()
        self._commanding = None
        return CommandSet(self._context_id, encoded)

    def _break(self, reason: AbortReason, text: str) -> Broken:
        self._broken = True
        return Broken(reason, text)
