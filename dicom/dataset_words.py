"""A dataset as lines for a log, without what may tell who the patient is.

Shown are only values that cannot: of number, code and UID representations, outside the patient's group, the clinical
trial's and private ones. All others are masked: names, dates, texts, ages, identifiers of any kind, also of devices
and people who are no patients. Pixel data and other bulk is told by its length.
"""

import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.multival import MultiValue
from pydicom.uid import UID

from clara_dicom_adapter.dicom.part10 import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN

HEAD_BYTES: Final = 256 * 1024
"""So much of a dataset is looked at; pixel data comes last."""
MASKED: Final = "***"
_NUMBER: Final = re.compile(r"[0-9+\-.eE ]{0,24}")
_SHOWN: Final = {
    "UI": re.compile(r"[0-9.]{0,64}"),
    "CS": re.compile(r"[A-Z0-9_ ]{0,16}"),
    "AT": re.compile(r"\([0-9A-Fa-f]{4}, ?[0-9A-Fa-f]{4}\)"),
    **dict.fromkeys(("US", "UL", "SS", "SL", "UV", "SV", "FL", "FD", "DS", "IS"), _NUMBER),
}
"""Value representations that are shown, and what a value of each looks like (PS3.5 table 6.2-1)."""
_BULK_VRS: Final = frozenset({"OB", "OW", "OD", "OF", "OL", "OV", "UN"})
_OF_THE_PATIENT: Final = frozenset({0x0010, 0x0012, 0x0038})
"""Patient, clinical trial subject, visit (PS3.6)."""
_MOST_LINES: Final = 300
_LONGEST: Final = 64
_DEEPEST: Final = 6
IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"


def describe(head: bytes, transfer_syntax_uid: str, *, size: int, patient_attributes: bool = False) -> list[str]:
    """One line for each element, as far as the head goes; never raises for what is in it.

    Args:
        head: The first bytes of the encoded dataset, or of a command set.
        size: Bytes of all of it.
        patient_attributes: Show every value.
    """
    lines: list[str] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom quotes the values that it finds odd
            for line in _lines(_elements(head, transfer_syntax_uid), patient_attributes, depth=0):
                lines.append(line)
                if len(lines) >= _MOST_LINES:
                    return [*lines, "... more elements"]
    except Exception:
        lines.append("... what follows cannot be read")
    return lines if size <= len(head) else [*lines, f"... the first {len(head)} of {size} bytes"]


def of_file(path: Path, offset: int, transfer_syntax_uid: str, *, size: int, patient_attributes: bool) -> list[str]:
    """The same of a dataset in a file; empty when it cannot be read."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(offset)
        head = file.read(min(size, HEAD_BYTES))
        return describe(head, transfer_syntax_uid, size=size, patient_attributes=patient_attributes)
    return []


def _elements(head: bytes, transfer_syntax_uid: str) -> Iterator[DataElement | RawDataElement]:
    syntax = UID(transfer_syntax_uid)
    known = syntax.is_transfer_syntax and not syntax.is_private
    implicit = known and syntax.is_implicit_VR
    if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, HEAD_BYTES)
    little = syntax.is_little_endian if known else True
    yield from data_element_generator(io.BytesIO(head), implicit, little, stop_when=_is_bulk)


def _is_bulk(tag: Any, _vr: str | None, _length: int) -> bool:
    return int(tag) >= 0x7FE00000


def _lines(
    elements: Iterator[DataElement | RawDataElement] | Dataset, patient_attributes: bool, depth: int
) -> Iterator[str]:
    for found in elements:
        element = convert_raw_data_element(found) if isinstance(found, RawDataElement) else found
        group, number = element.tag.group, element.tag.element
        name = element.keyword or ("private" if group % 2 else "unknown")
        begin = f"{'>' * depth}({group:04X},{number:04X}) {element.VR} {name}: "
        if element.VR == "SQ":
            yield f"{begin}{len(element.value)} items"
            for item in element.value if depth < _DEEPEST else ():
                yield from _lines(item, patient_attributes, depth + 1)
        elif element.VR in _BULK_VRS:
            yield f"{begin}{len(element.value or b'')} bytes"
        elif element.is_empty:
            yield begin.rstrip()
        elif patient_attributes or _may_be_shown(element):
            text = " ".join(str(element.value).split())
            yield begin + (text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")
        else:
            yield begin + MASKED


def _may_be_shown(element: DataElement) -> bool:
    group = element.tag.group
    form = _SHOWN.get(element.VR)
    if form is None or group % 2 or group in _OF_THE_PATIENT:
        return False
    values = element.value if isinstance(element.value, MultiValue | list) else [element.value]
    return all(form.fullmatch(str.__str__(value) if isinstance(value, str) else str(value)) for value in values)
