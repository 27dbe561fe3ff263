"""What a DICOMweb service says of each instance that was stored with STOW-RS. No I/O.

PS3.18 section 10.5.3 and annex I.2: a dataset with the Referenced SOP Sequence of what it has stored and the Failed SOP
Sequence of what it has not. It is asked for in the DICOM JSON model (PS3.18 annex F); a service that answers with the
Native DICOM Model in XML (PS3.19 annex A.1) all the same is understood as well.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from xml.etree import ElementTree

REFERENCED_SOP_SEQUENCE: Final = "00081199"
FAILED_SOP_SEQUENCE: Final = "00081198"
REFERENCED_SOP_INSTANCE_UID: Final = "00081155"
FAILURE_REASON: Final = "00081197"
WARNING_REASON: Final = "00081196"
_TAG: Final = re.compile("[0-9A-Fa-f]{8}")


@dataclass(frozen=True)
class StowAnswer:
    """By SOP instance UID.

    Attributes:
        stored: With its warning reason; None: without a warning.
        failed: With its failure reason (PS3.18 table I.2-2), as a DIMSE status; None: no reason was given.
    """

    stored: Mapping[str, int | None]
    failed: Mapping[str, int | None]


def read(content: bytes) -> StowAnswer | None:
    """Read a response's body; None when it is no such dataset."""
    told = _from_json(content)
    if told is None:
        told = _from_xml(content)
    if not isinstance(told, Mapping) or (told and not any(_TAG.fullmatch(key) for key in told)):
        return None  # some services say what is wrong in JSON of their own
    stored = dict(_items(told, REFERENCED_SOP_SEQUENCE, WARNING_REASON))
    failed = dict(_items(told, FAILED_SOP_SEQUENCE, FAILURE_REASON))
    return StowAnswer(stored, failed)


def _from_json(content: bytes) -> object:
    try:
        told = json.loads(content)
    except ValueError:
        return None
    if isinstance(told, list):  # some services wrap the dataset into an array
        return told[0] if told else None
    return told


def _from_xml(content: bytes) -> object:
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - expat bounds what entities become, and opens no files
    except (ElementTree.ParseError, ValueError, LookupError):  # the latter: encodings that are none
        return None
    return _dataset(root) if _name(root) == "NativeDicomModel" else None


def _dataset(parent: ElementTree.Element) -> dict[str, Any]:
    """A dataset, or an item of a sequence, in the shape of the JSON model."""
    return {
        attribute.get("tag", "").upper(): {"Value": [_value(each, attribute.get("vr")) for each in attribute]}
        for attribute in parent
        if _name(attribute) == "DicomAttribute"
    }


def _value(element: ElementTree.Element, vr: str | None) -> object:
    if _name(element) == "Item":
        return _dataset(element)
    text = (element.text or "").strip()
    return int(text) if vr == "US" and text.isdecimal() else text


def _name(element: ElementTree.Element) -> str:
    """Without the namespace, which some services leave out."""
    return element.tag.rpartition("}")[2]


def _items(told: Mapping[str, Any], sequence: str, reason: str) -> list[tuple[str, int | None]]:
    found: list[tuple[str, int | None]] = []
    for item in _values(told, sequence):
        uids = _values(item, REFERENCED_SOP_INSTANCE_UID)
        reasons = [value for value in _values(item, reason) if isinstance(value, int)]
        if uids and isinstance(uids[0], str):
            found.append((uids[0].rstrip("\0 "), reasons[0] if reasons else None))
    return found


def _values(told: object, tag: str) -> Sequence[Any]:
    element = told.get(tag) if isinstance(told, Mapping) else None
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values if isinstance(values, list) else []
