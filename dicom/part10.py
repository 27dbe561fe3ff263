"""The part-10 header of a file (PS3.10 section 7.1), written and read as bytes.

The receiver writes one in front of every instance, so nothing is built by a DICOM library here. Reading is strict: a
preamble, ``DICM`` and a well-formed group 0002, or the file is refused.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

from clara_dicom_adapter.dicom import uids
from clara_dicom_adapter.errors import InvalidInstance

DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"

_PREAMBLE: Final = bytes(128) + b"DICM"
_SHORT: Final = struct.Struct("<HH2sH")  # PS3.5 table 7.1-2: tag, VR, 16-bit length
_LONG: Final = struct.Struct("<HH2sHI")  # PS3.5 table 7.1-1: tag, VR, reserved, 32-bit length
_UL: Final = struct.Struct("<I")
_LONG_VRS: Final = frozenset(
    {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UC", b"UR", b"UT", b"UN", b"SV", b"UV"}
)
_VERSION: Final = _LONG.pack(0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01"
_LONGEST_META: Final = 1 << 20
"""More than this in group 0002 is damage, not a file."""
_META_BYTES: Final = 4096
"""The meta header of any object that is not odd, in one read."""


@dataclass(frozen=True, slots=True)
class FileMeta:
    """What group 0002 says of a file, and where the dataset begins."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset_offset: int
    source_ae_title: str = ""
    implementation_class_uid: str = ""


def header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, source_ae_title: str) -> bytes:
    """Preamble, prefix and group 0002 for a dataset that follows as it came over the wire."""
    instance = _element(0x0003, b"UI", sop_instance_uid)
    before = _before_instance(sop_class_uid)
    after = _after_instance(transfer_syntax_uid, source_ae_title)
    length = len(before) + len(instance) + len(after)
    return b"".join((_PREAMBLE, _SHORT.pack(0x0002, 0x0000, b"UL", 4), _UL.pack(length), before, instance, after))


@lru_cache(maxsize=256)
def _before_instance(sop_class_uid: str) -> bytes:
    return _VERSION + _element(0x0002, b"UI", sop_class_uid)


@lru_cache(maxsize=256)
def _after_instance(transfer_syntax_uid: str, source_ae_title: str) -> bytes:
    return b"".join(
        (
            _element(0x0010, b"UI", transfer_syntax_uid),
            _element(0x0012, b"UI", uids.IMPLEMENTATION_CLASS_UID),
            _element(0x0013, b"SH", uids.IMPLEMENTATION_VERSION_NAME),
            _element(0x0016, b"AE", source_ae_title.strip()[:16]),
        )
    )


def _element(element: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    if len(value) % 2:  # PS3.5 section 6.2: UIDs are padded with NULL, text with a space
        value += b"\0" if vr == b"UI" else b" "
    return _SHORT.pack(0x0002, element, vr, len(value)) + value


def read_meta(path: Path) -> FileMeta:
    """Read group 0002.

    Raises:
        InvalidInstance: The file has no part-10 header, or one without what identifies the object.
        OSError: The file cannot be opened or read.
    """
    with path.open("rb") as stream:
        return read_meta_of(stream)


def read_object(path: Path) -> tuple[FileMeta, int]:
    """Read group 0002 of a file that is to be sent, and how many bytes its dataset has.

    Raises:
        InvalidInstance: As :func:`read_meta`; or no dataset follows, so there is no object.
        OSError: The file cannot be opened or read.
    """
    with path.open("rb", buffering=_META_BYTES) as stream:
        meta = read_meta_of(stream)
        dataset_bytes = os.fstat(stream.fileno()).st_size - meta.dataset_offset
    if dataset_bytes <= 0:
        raise InvalidInstance("the file ends behind its meta information, without a dataset")
    return meta, dataset_bytes


def read_meta_of(stream: BinaryIO) -> FileMeta:
    """Like :func:`read_meta`, of a stream at its beginning; it is left somewhere."""
    if stream.read(len(_PREAMBLE))[128:] != b"DICM":
        raise InvalidInstance("not a DICOM part 10 file: no DICM prefix")
    values: dict[int, bytes] = {}
    offset = len(_PREAMBLE)
    for element, value, end in _meta_elements(stream):
        values[element] = value
        offset = end
    meta = FileMeta(
        sop_class_uid=_text(values, 0x0002),
        sop_instance_uid=_text(values, 0x0003),
        transfer_syntax_uid=_text(values, 0x0010),
        dataset_offset=offset,
        source_ae_title=_text(values, 0x0016),
        implementation_class_uid=_text(values, 0x0012),
    )
    for name, uid in (
        ("Media Storage SOP Class UID", meta.sop_class_uid),
        ("Media Storage SOP Instance UID", meta.sop_instance_uid),
        ("Transfer Syntax UID", meta.transfer_syntax_uid),
    ):
        if not uids.is_usable(uid):
            raise InvalidInstance(f"the file's {name} is {'not usable' if uid else 'missing'}")
    return meta


def _meta_elements(stream: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Elements of group 0002 with the offset behind each."""
    at = len(_PREAMBLE)
    announced: int | None = None  # offset behind the group, by its group length
    identified = False
    while True:
        # the group length is often wrong, so the next group ends the meta information; but a deflated or a broken
        # dataset can begin like any group, so a length that fits and leaves nothing out counts
        if identified and announced == at:
            return
        start = stream.read(_SHORT.size)
        if len(start) < _SHORT.size:
            if len(start) and start[:2] == b"\x02\x00":
                raise InvalidInstance("the file ends within its meta information")
            return
        group, element, vr, length = _SHORT.unpack(start)
        if group != 0x0002:
            return
        size = _SHORT.size
        if vr in _LONG_VRS:
            rest = stream.read(_UL.size)
            if len(rest) < _UL.size:
                raise InvalidInstance("the file ends within its meta information")
            length, size = _UL.unpack(rest)[0], _LONG.size
        elif not vr.isalpha():
            raise InvalidInstance("the file's meta information is not Explicit VR Little Endian")
        if at + size + length > _LONGEST_META:
            raise InvalidInstance("the file's meta information is too long to be one")
        value = stream.read(length)
        if len(value) < length:
            raise InvalidInstance("the file ends within its meta information")
        at += size + length
        if element == 0x0000 and length == _UL.size:
            announced = at + _UL.unpack(value)[0]
        elif element == 0x0010:
            identified = True  # the last of those that a file must have
        yield element, value, at


def _text(values: dict[int, bytes], element: int) -> str:
    return values.get(element, b"").decode("ascii", "replace").strip(" \0")
