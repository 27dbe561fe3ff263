"""Checks on names from the wire, before any of them comes near a path."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from clara_dicom_adapter.clara.embedded.refusal import Refusal
from clara_dicom_adapter.clara.metadata import MAX_KEY_BYTES, MAX_VALUE_BYTES
from clara_dicom_adapter.clara.model import identifier

MAX_NAME_BYTES: Final = 1024
MAX_PART_BYTES: Final = 255
"""What Linux file systems take for one name."""
MAX_METADATA_BYTES: Final = 4 * 1024 * 1024  # clara-wire, section 4


def checked_id(text: str, what: str, code: int) -> str:
    """An id from the wire as 32 hexadecimal digits."""
    found = identifier(text)
    if not found:
        raise Refusal(f"{what} id is malformed", code)
    return found


def checked_name(name: str) -> str:
    """A file's name inside a payload: relative, with ``/`` between its parts, never leaving the payload.

    A leading ``/`` is ignored and ``./`` accepted (clara-wire, section 5).
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts:
        raise Refusal("a file needs a name")
    if ".." in parts:
        raise Refusal("a file's name must not lead out of its payload")
    if re.search(r"[\x00-\x1f\x7f\\]", name):
        raise Refusal("a file's name must not hold control characters or backslashes")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise Refusal("a file's name must be valid Unicode") from None
    if max(sizes) > MAX_PART_BYTES or sum(sizes) + len(parts) > MAX_NAME_BYTES:
        raise Refusal(f"a file's name is longer than {MAX_PART_BYTES} bytes in a part or {MAX_NAME_BYTES} in all")
    return "/".join(parts)


def matching_name(wanted: str, names: Iterable[str]) -> str | None:
    """The file a download means: the only match without regard to case, else the only exact one."""
    alike = [name for name in names if name.lower() == wanted.lower()]
    if len(alike) == 1:
        return alike[0]
    return wanted if wanted in alike else None


def with_added(existing: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """Metadata with entries added; a key that exists, in any case, refuses all of them."""
    keys = {key.lower() for key in existing}
    for key, value in added.items():
        if not key or len(key.encode()) > MAX_KEY_BYTES:
            raise Refusal(f"a metadata key must have 1 to {MAX_KEY_BYTES} bytes")
        if len(value.encode()) > MAX_VALUE_BYTES:
            raise Refusal(f"the value of metadata key {key!r} has more than {MAX_VALUE_BYTES} bytes")
        if key.lower() in keys:
            raise Refusal(f"metadata key {key!r} exists already")
        keys.add(key.lower())
    together = {**existing, **added}
    if sum(len(key.encode()) + len(value.encode()) for key, value in together.items()) > MAX_METADATA_BYTES:
        raise Refusal(f"metadata would exceed {MAX_METADATA_BYTES} bytes")
    return together


def without(existing: Mapping[str, str], keys: Iterable[str]) -> dict[str, str]:
    """Metadata without some keys, in any case; keys that are not there are no error."""
    gone = {key.lower() for key in keys}
    return {key: value for key, value in existing.items() if key.lower() not in gone}
