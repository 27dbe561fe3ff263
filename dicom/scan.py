"""The head of an ordinary file, read from its first bytes; some thirty times as fast as a DICOM library.

Ordinary is: Explicit or Implicit VR Little Endian, elements in increasing order, everything that is asked for within
the first bytes, and values of plain text. Of anything else nothing is said, and the caller asks pydicom: a wrong answer
would be worse than a slow one. Sequences are skipped, of undefined length too.
"""

import re
import struct
from collections.abc import Set as AbstractSet
from functools import lru_cache
from typing import Final

from pydicom.datadict import dictionary_VR
from pydicom.uid import UID

from clara_dicom_adapter.dicom import uids
from clara_dicom_adapter.dicom.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN

FIRST_BYTES: Final = 16 * 1024

_TAG: Final = struct.Struct("<HH")
_EXPLICIT: Final = struct.Struct("<2sH")  # VR and length behind the tag, PS3.5 table 7.1-2
_ITEM_HEADER: Final = struct.Struct("<HHI")  # PS3.5 table 7.5-1
_UL: Final = struct.Struct("<I")
_LONG_VRS: Final = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_SHORT_VRS: Final = frozenset(
    {
        b"AE",
        b"AS",
        b"AT",
        b"CS",
        b"DA",
        b"DS",
        b"DT",
        b"FD",
        b"FL",
        b"IS",
        b"LO",
        b"LT",
        b"PN",
        b"SH",
        b"SL",
        b"SS",
        b"ST",
    }
    | {b"TM", b"UI", b"UL", b"US"}
)
_READ: Final = frozenset({b"UI", b"CS", b"LO", b"SH"})
"""VRs whose values are the text they look like."""
_PLAIN: Final = re.compile(rb"[ -~]*\0*")
_ORDINARY_CHARACTER_SETS: Final = frozenset({(), ("ISO_IR 6",), ("ISO_IR 100",), ("ISO_IR 192",)})
"""In these, plain bytes are ASCII."""

_SPECIFIC_CHARACTER_SET: Final = 0x0008_0005
_UNDEFINED: Final = 0xFFFF_FFFF
_ITEM: Final = 0xFFFE_E000
_ITEM_END: Final = 0xFFFE_E00D
_SEQUENCE_END: Final = 0xFFFE_E0DD
_DEEPEST: Final = 8
_META: Final = (0x0002_0002, 0x0002_0003)
_TRANSFER_SYNTAX: Final = 0x0002_0010

Values = dict[int, tuple[str, ...]]


class _NotOrdinary(Exception):
    """Somebody else has to read this."""


def scan(first: bytes, tags: AbstractSet[int], *, whole: bool) -> Values | None:
    """The values of some elements, absent ones left out; None when the file is not an ordinary one.

    Args:
        first: The first bytes of a part-10 file.
        whole: Whether that is all of it.
    """
    try:
        if first[128:132] != b"DICM":
            return None
        meta: Values = {}
        at = _elements(first, 132, False, {*_META, _TRANSFER_SYNTAX}, meta, last=0x0002_FFFF, whole=whole)
        if not all(uids.is_usable("".join(meta.get(tag, ()))) for tag in _META):
            return None
        implicit = _is_implicit("".join(meta.get(_TRANSFER_SYNTAX, ())))
        if implicit is None or (implicit and first[at + 4 : at + 6].isalpha()):
            return None
        found: Values = {}
        _elements(first, at, implicit, {*tags, _SPECIFIC_CHARACTER_SET}, found, last=max(tags), whole=whole)
    except (_NotOrdinary, struct.error):  # struct.error: the first bytes end within an element
        return None
    return found if found.get(_SPECIFIC_CHARACTER_SET, ()) in _ORDINARY_CHARACTER_SETS else None


def _elements(
    data: bytes, at: int, implicit: bool, tags: AbstractSet[int], found: Values, *, last: int, whole: bool
) -> int:
    """Read elements up to the last one wanted; gives the offset behind."""
    before, size = 0, len(data)
    while True:
        if at >= size:
            if whole and at == size:
                return at
            raise _NotOrdinary
        group, element = _TAG.unpack_from(data, at)
        tag = group << 16 | element
        if tag > last:  # before anything else is read: behind group 0002 the encoding is another
            return at
        if tag <= before:
            raise _NotOrdinary
        before = tag
        vr, length, value_at = _element(data, at, implicit)
        if length == _UNDEFINED:
            if tag in tags or vr == b"UN":
                raise _NotOrdinary
            at = _behind_sequence(data, value_at, implicit, 0)
            continue
        at = value_at + length
        if tag in tags:
            if at > size:
                raise _NotOrdinary
            found[tag] = _texts(data[value_at:at], vr or _vr(tag))


def _element(data: bytes, at: int, implicit: bool) -> tuple[bytes, int, int]:
    """VR (empty when implicit), length, and where the value begins."""
    if implicit:
        return b"", _UL.unpack_from(data, at + 4)[0], at + 8
    vr, length = _EXPLICIT.unpack_from(data, at + 4)
    if vr in _SHORT_VRS:
        return vr, length, at + 8
    if vr in _LONG_VRS:
        return vr, _UL.unpack_from(data, at + 8)[0], at + 12
    raise _NotOrdinary


def _behind_sequence(data: bytes, at: int, implicit: bool, depth: int) -> int:
    """PS3.5 section 7.5: items up to the sequence delimitation item."""
    if depth > _DEEPEST:
        raise _NotOrdinary
    while True:
        group, element, length = _ITEM_HEADER.unpack_from(data, at)  # items have no VR
        tag, at = group << 16 | element, at + 8
        if tag == _SEQUENCE_END:
            return at
        if tag != _ITEM:
            raise _NotOrdinary
        at = at + length if length != _UNDEFINED else _behind_item(data, at, implicit, depth)


def _behind_item(data: bytes, at: int, implicit: bool, depth: int) -> int:
    while True:
        group, element = _TAG.unpack_from(data, at)
        if group << 16 | element == _ITEM_END:
            return at + 8
        vr, length, at = _element(data, at, implicit)
        if length != _UNDEFINED:
            at += length
        elif vr == b"UN":
            raise _NotOrdinary
        else:
            at = _behind_sequence(data, at, implicit, depth + 1)


def _texts(value: bytes, vr: bytes) -> tuple[str, ...]:
    if vr not in _READ or _PLAIN.fullmatch(value) is None:
        raise _NotOrdinary
    return tuple(text for one in value.decode("ascii").split("\\") if (text := one.strip(" \0")))


@lru_cache(maxsize=256)
def _vr(tag: int) -> bytes:
    try:
        return dictionary_VR(tag).encode()
    except KeyError:
        return b""


@lru_cache(maxsize=256)
def _is_implicit(transfer_syntax_uid: str) -> bool | None:
    """None for one whose encoding is not that of Little Endian, or not known."""
    uid = UID(transfer_syntax_uid)
    if not uid.is_transfer_syntax or uid.is_private or not uid.is_little_endian:
        return None
    return None if uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN or uid.is_deflated else uid.is_implicit_VR
