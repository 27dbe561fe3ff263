"""A few attributes from the head of a file, whatever state the file is in.

One function and one plain result: how the attributes are found is nobody else's business. Ordinary files are scanned
(``scan.py``), all others are read by pydicom. Nothing here raises for what a file contains, and no value of an
attribute gets into a warning or a log line.
"""

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

import pydicom.config
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID

from clara_dicom_adapter.dicom import scan, uids
from clara_dicom_adapter.dicom.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, read_meta_of
from clara_dicom_adapter.errors import InvalidInstance

# pydicom remarks on odd values by quoting them, and a quoted value may be a patient's
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
warnings.filterwarnings("ignore", module=r"pydicom\.")

_SPECIFIC_CHARACTER_SET: Final = 0x0008_0005
_SOP_CLASS_UID: Final = 0x0008_0016
_SOP_INSTANCE_UID: Final = 0x0008_0018
_STUDY_INSTANCE_UID: Final = 0x0020_000D
_SERIES_INSTANCE_UID: Final = 0x0020_000E
_ALWAYS: Final = (
    _SPECIFIC_CHARACTER_SET,
    _SOP_CLASS_UID,
    _SOP_INSTANCE_UID,
    _STUDY_INSTANCE_UID,
    _SERIES_INSTANCE_UID,
)
_LONGEST_VALUE: Final = 1 << 20
"""A longer one is pixel data, a document, or damage: not a value that anything is grouped or described by."""
_INFLATED_HEAD: Final = 8 << 20
"""How much of a deflated dataset is inflated to look for the head."""


@dataclass(frozen=True, slots=True)
class Head:
    """What identifies an object, and the values that were asked for.

    Attributes:
        readable: Whether study, series and instance are identified; when not, what could be read is there all the same.
        values: Tag as it was asked for to its values as text; empty when absent, empty, or not text.
    """

    readable: bool
    sop_class_uid: str = ""
    sop_instance_uid: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def parse_tag(text: str) -> int:
    """A tag from ``GGGG,EEEE``, ``(GGGG,EEEE)`` or ``GGGGEEEE``; raises ValueError for anything else."""
    digits = text.strip().strip("()").replace(",", "").replace(" ", "")
    if len(digits) != 8 or not set(digits) <= set("0123456789abcdefABCDEF"):
        raise ValueError(f"{text!r} is not a DICOM tag")
    return int(digits, 16)


def read_head(source: Path | bytes, tags: Iterable[str] = ()) -> Head:
    """Read the head of a part-10 file, or of its bytes.

    Raises:
        OSError: The file cannot be opened or read.
        ValueError: One of ``tags`` is not a tag.
    """
    wanted = {text: parse_tag(text) for text in tags}
    every = {*_ALWAYS, *wanted.values()}
    first = source[: scan.FIRST_BYTES] if isinstance(source, bytes) else _first_bytes(source)
    found = scan.scan(first, every, whole=len(first) < scan.FIRST_BYTES)
    if found is None:
        return _read_by_pydicom(source, wanted, every)
    return _head({tag: found.get(tag, ()) for tag in every}, wanted)


def _first_bytes(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, scan.FIRST_BYTES)
    finally:
        os.close(descriptor)


def _read_by_pydicom(source: Path | bytes, wanted: Mapping[str, int], every: AbstractSet[int]) -> Head:
    stream: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    with stream:
        try:
            dataset = _dataset(stream, every)
        except InvalidInstance:
            return Head(readable=False, values=dict.fromkeys(wanted, ()))
        except OSError as error:
            if error.errno is not None:  # the disk; pydicom raises one of its own for what a sequence lacks
                raise
            return Head(readable=False, values=dict.fromkeys(wanted, ()))
        except Exception:  # damage makes pydicom raise nearly anything
            return Head(readable=False, values=dict.fromkeys(wanted, ()))
    return _head({tag: _texts(dataset, tag) for tag in every}, wanted)


def _head(found: Mapping[int, tuple[str, ...]], wanted: Mapping[str, int]) -> Head:
    sop_class, sop_instance, study, series = (
        next(iter(found[tag]), "")
        for tag in (_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_INSTANCE_UID, _SERIES_INSTANCE_UID)
    )
    return Head(
        readable=all(map(uids.is_usable, (sop_instance, study, series))),
        sop_class_uid=sop_class,
        sop_instance_uid=sop_instance,
        study_instance_uid=study,
        series_instance_uid=series,
        values={text: found[tag] for text, tag in wanted.items()},
    )


def _dataset(stream: BinaryIO, tags: AbstractSet[int]) -> Dataset:
    meta = read_meta_of(stream)
    stream.seek(meta.dataset_offset)
    if meta.transfer_syntax_uid == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        stream = io.BytesIO(_inflated(stream))
    last = max(tags)
    implicit, little_endian = _encoding(meta.transfer_syntax_uid, stream)

    def past(tag: BaseTag, vr: str | None, length: int) -> bool:
        del vr
        # a value as long as that is in the way of memory only when it is one of those to be kept
        return tag > last or (tag in tags and length > _LONGEST_VALUE and length != 0xFFFFFFFF)

    return read_dataset(stream, implicit, little_endian, stop_when=past, specific_tags=list(tags))


def _encoding(transfer_syntax_uid: str, stream: BinaryIO) -> tuple[bool, bool]:
    """Whether the dataset is in Implicit VR, and whether in Little Endian."""
    uid = UID(transfer_syntax_uid)
    if uid.is_transfer_syntax and not uid.is_private:
        return uid.is_implicit_VR, uid.is_little_endian
    # a private one says nothing of its encoding, but its first element does: a VR is two capitals (PS3.5 section 7.1)
    at = stream.tell()
    start = stream.read(6)
    stream.seek(at)
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return not explicit, len(start) < 2 or struct.unpack("<H", start[:2])[0] < 0x0400


def _inflated(stream: BinaryIO) -> bytes:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)  # PS3.5 annex A.5: a raw deflate stream
    found = bytearray()
    while len(found) < _INFLATED_HEAD and not inflater.eof:
        pending = inflater.unconsumed_tail or stream.read(1 << 16)
        if not pending:
            break
        found += inflater.decompress(pending, _INFLATED_HEAD - len(found))
    return bytes(found)


def _texts(dataset: Dataset, tag: int) -> tuple[str, ...]:
    try:
        element = dataset[tag]
        if element.VR == "SQ" or isinstance(element.value, bytes) or element.value is None:
            return ()
        values = element.value if isinstance(element.value, MultiValue | list) else [element.value]
        texts = (str(value).strip(" \0") for value in values)
        return tuple(text for text in texts if text)
    except Exception:  # absent, or its bytes are not what its VR says
        return ()
