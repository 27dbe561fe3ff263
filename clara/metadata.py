"""What the adapter writes into a job's name and metadata: rules without I/O (clara-wire, sections 4 and 7)."""

import re
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

MAX_JOB_NAME: Final = 63
MAX_KEY_BYTES: Final = 128
MAX_VALUE_BYTES: Final = 256
MAX_TAG_CHARACTERS: Final = 256
"""To which the original cuts a tag's value; the platform counts bytes, so both limits hold."""

SOURCE: Final = "Source"
INSTANCES: Final = "Instances"


class MetadataChange(NamedTuple):
    """What to do so that a job's metadata shows more values.

    Add before removing: a client that dies in between has lost nothing, and the next :func:`merge` finishes the work.
    """

    remove: tuple[str, ...]
    add: dict[str, str]


def fix_job_name(text: str) -> str:
    """Make text acceptable as a job name: lower-case letters, digits and single hyphens, at most 63."""
    name = re.sub(r"-+", "-", re.sub(r"[^a-zA-Z0-9-]", "-", text)).strip("-")
    return name[:MAX_JOB_NAME].strip("-").lower()


def job_name(base: str, marker: str = "") -> str:
    """A job's name with a marker at its end, which survives when the rest has to be cut."""
    ending = fix_job_name(marker)
    if not ending:
        return fix_job_name(base)
    start = fix_job_name(base)[: MAX_JOB_NAME - len(ending) - 1].strip("-")
    return f"{start}-{ending}" if start else ending


def source(ae_title: str, processor_name: str) -> str:
    """Value of ``Source`` for a group that came in over DICOM."""
    return cut(f"{ae_title} ({processor_name})")


def tag_key(tag: str) -> str:
    """A tag such as ``0010,0020`` as a metadata key, ``GGGGEEEE``."""
    key = re.sub(r"[(), ]", "", tag).upper()
    if not re.fullmatch(r"[0-9A-F]{8}", key):
        raise ValueError(f"{tag!r} is not a DICOM tag")
    return key


def cut(value: str) -> str:
    """A value within both limits, cut between characters."""
    return value[:MAX_TAG_CHARACTERS].encode()[:MAX_VALUE_BYTES].decode(errors="ignore")


def tag_entries(tag: str, values: Iterable[str]) -> dict[str, str]:
    """Entries for the distinct values of a tag that are not blank: ``GGGGEEEE``, or ``GGGGEEEE-0``, ``-1``..."""
    key = tag_key(tag)
    distinct = _distinct(values)
    if len(distinct) == 1:
        return {key: distinct[0]}
    return {f"{key}-{number}": value for number, value in enumerate(distinct)}


def merge(existing: Mapping[str, str], new: Mapping[str, Iterable[str]]) -> MetadataChange:
    """What must change so that the values of ``new`` are shown too.

    Several nodes may contribute to one job, one after the other; values that are shown already are not repeated.

    Args:
        existing: The job's metadata as it is.
        new: Tag to values.
    """
    remove: list[str] = []
    add: dict[str, str] = {}
    for tag, values in new.items():
        key = tag_key(tag)
        single = {name: value for name, value in existing.items() if name.upper() == key}
        numbered = {
            int(match[1]): value
            for name, value in existing.items()
            if (match := re.fullmatch(f"(?i){key}-([0-9]+)", name))
        }
        distinct = _distinct([*numbered.values(), *single.values(), *values])
        if not numbered and len(distinct) < 2:
            if distinct and not single:
                add[key] = distinct[0]
            continue
        remove.extend(single)
        shown = set(numbered.values())
        following = max(numbered, default=-1) + 1
        missing = [value for value in distinct if value not in shown]
        add.update({f"{key}-{number}": value for number, value in enumerate(missing, start=following)})
    return MetadataChange(tuple(remove), add)


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(short for value in values if (short := cut(value.strip()))))
