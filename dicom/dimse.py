"""The DIMSE messages a Storage SCU exchanges, as bytes: C-STORE-RQ and C-ECHO-RQ out, their responses in. No I/O.

Command sets are always Implicit VR Little Endian (PS3.7 section 6.3.1) and hold group 0000 only, so a few lines read
and write them; a dataset never passes through here.
"""

import struct
from dataclasses import dataclass
from typing import Final

C_STORE_RQ: Final = 0x0001  # PS3.7 table E.1-1, command field
C_STORE_RSP: Final = 0x8001
C_ECHO_RQ: Final = 0x0030
C_ECHO_RSP: Final = 0x8030
VERIFICATION: Final = "1.2.840.10008.1.1"  # PS3.4 annex A
NO_DATASET: Final = 0x0101  # PS3.7 table E.1-1, command dataset type
ANY_DATASET: Final = 0x0000

_ELEMENT: Final = struct.Struct("<HHI")
_US: Final = struct.Struct("<H")


class DimseError(ValueError):
    """The peer's bytes are not the message that must come now."""


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """A C-STORE-RSP (PS3.7 table 9.1-1).

    Attributes:
        comment: The peer's own words (0000,0902); may speak of a patient, so it goes into no log and no history.
    """

    message_id: int
    status: int
    comment: str = ""


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0x0000, element, len(value)) + value


def _uid(uid: str) -> bytes:
    value = uid.encode("ascii")
    return value + b"\0" * (len(value) % 2)  # PS3.5 section 6.2: UIDs are padded with NULL


def store_request(message_id: int, sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Encode a C-STORE-RQ of medium priority (PS3.7 section 9.3.1.1)."""
    body = b"".join(
        (
            _element(0x0002, _uid(sop_class_uid)),
            _element(0x0100, _US.pack(C_STORE_RQ)),
            _element(0x0110, _US.pack(message_id)),
            _element(0x0700, _US.pack(0x0000)),
            _element(0x0800, _US.pack(ANY_DATASET)),
            _element(0x1000, _uid(sop_instance_uid)),
        )
    )
    return _element(0x0000, struct.pack("<I", len(body))) + body


def echo_request(message_id: int) -> bytes:
    """Encode a C-ECHO-RQ (PS3.7 section 9.3.5.1)."""
    body = b"".join(
        (
            _element(0x0002, _uid(VERIFICATION)),
            _element(0x0100, _US.pack(C_ECHO_RQ)),
            _element(0x0110, _US.pack(message_id)),
            _element(0x0800, _US.pack(NO_DATASET)),
        )
    )
    return _element(0x0000, struct.pack("<I", len(body))) + body


def read_echo_status(command: bytes) -> int:
    """The status of a C-ECHO-RSP; raises :class:`DimseError` for anything else."""
    elements = _elements(command)
    if _us(elements, 0x0100) != C_ECHO_RSP:
        raise DimseError("a message other than C-ECHO-RSP")
    return _us(elements, 0x0900)


def _elements(command: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at < len(command):
        if at + _ELEMENT.size > len(command):
            raise DimseError("a command set that ends within an element")
        group, element, length = _ELEMENT.unpack_from(command, at)
        at += _ELEMENT.size
        if at + length > len(command):
            raise DimseError("a command element longer than its command set")
        if group == 0x0000:
            found[element] = command[at : at + length]
        at += length
    return found


def _us(elements: dict[int, bytes], element: int) -> int:
    value = elements.get(element, b"")
    if len(value) != _US.size:
        raise DimseError(f"a response without (0000,{element:04X})")
    return int(_US.unpack(value)[0])


def read_store_response(command: bytes) -> StoreResponse:
    """Decode a C-STORE-RSP; raises :class:`DimseError` for anything else."""
    elements = _elements(command)
    if _us(elements, 0x0100) != C_STORE_RSP:
        raise DimseError("a message other than C-STORE-RSP")
    if _us(elements, 0x0800) != NO_DATASET:
        raise DimseError("a C-STORE-RSP that announces a dataset")
    comment = elements.get(0x0902, b"").decode("ascii", "replace").strip(" \0")
    return StoreResponse(_us(elements, 0x0120), _us(elements, 0x0900), comment[:64])  # LO: 64 characters at most


def is_warning(status: int) -> bool:
    """Whether the peer stored the object but remarks on it (PS3.4 table B.2-1; PS3.7 annex C)."""
    return status & 0xF000 == 0xB000 or status in {0x0001, 0x0107, 0x0116}


def is_out_of_resources(status: int) -> bool:
    """Whether the peer may well take the object later (PS3.4 table B.2-1: A7xx, refused for want of resources)."""
    return status & 0xFF00 == 0xA700
