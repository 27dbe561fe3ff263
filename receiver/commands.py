"""The DIMSE messages a Storage SCP exchanges, as bytes: C-STORE-RQ in, C-STORE-RSP out. No I/O.

Command sets are Implicit VR Little Endian and hold group 0000 only (PS3.7 section 6.3.1), so they need no data set
library; the data set itself never passes through here.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

# PS3.7 table E.1-1
C_STORE_RQ: Final = 0x0001
C_ECHO_RQ: Final = 0x0030
C_CANCEL_RQ: Final = 0x0FFF
_C_STORE_RSP: Final = 0x8001
_NO_DATA_SET: Final = 0x0101

# PS3.8 annex E.2, message control header
COMMAND: Final = 0x01
LAST: Final = 0x02

# PS3.4 table B.2-1
SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
DATA_SET_DOES_NOT_MATCH_SOP_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
# PS3.7 annex C.4
SOP_CLASS_NOT_SUPPORTED: Final = 0x0122

MAXIMUM_COMMAND_LENGTH: Final = 65536
"""A longer command set is nonsense: the largest we take holds two UIDs and an AE title."""

_ELEMENT: Final = struct.Struct("<HHI")
_GROUP_LENGTH: Final = struct.Struct("<HHII")
_ANSWER: Final = struct.Struct("<HHIHHHIH")
_P_DATA_TF: Final = 0x04
_PDU: Final = struct.Struct(">BxIIB")  # PS3.8 tables 9-22 and 9-23, without the control header
_US: Final = struct.Struct("<H")


class CommandInvalid(ValueError):
    """The bytes are not a command set that can be served; the association has to be aborted."""


@dataclass(frozen=True, slots=True)
class Command:
    """What any command set says first."""

    field: int
    has_data_set: bool
    elements: dict[int, bytes]


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """A C-STORE-RQ (PS3.7 table 9.3-1), its UIDs as sent but without padding; empty when absent."""

    message_id: int
    sop_class_uid: str
    sop_instance_uid: str
    has_data_set: bool = True


def read(command: bytes) -> Command:
    """Decode a command set; raises :class:`CommandInvalid`."""
    elements: dict[int, bytes] = {}
    at, end = 0, len(command)
    while at < end:
        value_at = at + _ELEMENT.size
        if value_at > end:
            raise CommandInvalid("ends within an element")
        group, element, length = _ELEMENT.unpack_from(command, at)
        at = value_at + length
        if at > end:
            raise CommandInvalid("an element is longer than the command set")
        if group == 0x0000:
            if element in elements:  # PS3.7 section 6.3.1: each once, in increasing order
                raise CommandInvalid("an element stands there twice")
            elements[element] = command[value_at:at]
    return Command(_us(elements, 0x0100), _us(elements, 0x0800) != _NO_DATA_SET, elements)


def store_request(command: Command) -> StoreRequest:
    """The C-STORE-RQ in a command set; raises :class:`CommandInvalid`."""
    return StoreRequest(
        message_id=_us(command.elements, 0x0110),
        sop_class_uid=_uid(command.elements.get(0x0002, b"")),
        sop_instance_uid=_uid(command.elements.get(0x1000, b"")),
        has_data_set=command.has_data_set,
    )


def check_echo_request(command: Command, verification: str) -> None:
    """Raise :class:`CommandInvalid` for a C-ECHO-RQ that could not be answered (PS3.7 table 9.3-12)."""
    _us(command.elements, 0x0110)
    if command.has_data_set or _uid(command.elements.get(0x0002, b"")) != verification:
        raise CommandInvalid("no C-ECHO-RQ of Verification")


def store_response(request: StoreRequest, status: int, comment: str = "") -> bytes:
    """Encode the C-STORE-RSP to a request.

    Args:
        comment: Text for (0000,0902), at most 64 characters (LO); about the situation, never about the object.
    """
    body = b"".join(
        (
            _affected_sop_class(request.sop_class_uid),
            _ANSWER.pack(0, 0x0100, 2, _C_STORE_RSP, 0, 0x0120, 2, request.message_id)
            + _ANSWER.pack(0, 0x0800, 2, _NO_DATA_SET, 0, 0x0900, 2, status),
            _element(0x0902, _padded(comment[:64], b" ")) if comment else b"",
            _element(0x1000, _padded(request.sop_instance_uid, b"\0")),
        )
    )
    return _GROUP_LENGTH.pack(0, 0x0000, 4, len(body)) + body


@lru_cache(maxsize=256)
def _affected_sop_class(uid: str) -> bytes:
    return _element(0x0002, _padded(uid, b"\0"))


def p_data(context_id: int, command: bytes, maximum_pdu_length: int) -> bytes:
    """A command set as P-DATA-TF PDUs, ready to be sent; one PDU unless the peer takes only shorter ones.

    Args:
        maximum_pdu_length: What the peer takes; 0 is no limit.
    """
    return b"".join(
        _PDU.pack(_P_DATA_TF, len(piece) + 5, len(piece) + 1, context_id) + piece
        for piece in fragments(command, maximum_pdu_length)
    )


def fragments(command: bytes, maximum_pdu_length: int) -> Iterator[bytes]:
    """A command set as the fragments of its PDVs, each with its control header (PS3.8 annex D.1 and E.2).

    Args:
        maximum_pdu_length: What the peer takes; 0 is no limit.
    """
    size = max(maximum_pdu_length - 6, 2) if maximum_pdu_length else len(command)  # 6: PDV length, context, control
    for at in range(0, len(command), size):
        last = LAST if at + size >= len(command) else 0
        yield bytes((COMMAND | last,)) + command[at : at + size]


def _us(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element, b"")
    if len(value) != _US.size:
        raise CommandInvalid(f"no usable (0000,{element:04X})")
    return int(_US.unpack(value)[0])


def _uid(value: bytes) -> str:
    # PS3.5 section 6.2 pads with NULL; some senders use a space
    return value.strip(b"\0 ").decode("ascii", "replace")


def _padded(value: str, pad: bytes) -> bytes:
    encoded = value.encode("ascii", "replace")
    return encoded + pad * (len(encoded) % 2)


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0x0000, element, len(value)) + value
