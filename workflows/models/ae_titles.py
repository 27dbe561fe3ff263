"""What an AE title asks for, pinned when an association begins."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from clara_dicom_adapter.workflows.models.payload import Payload

# PS3.5 table 6.2-1: at most 16 characters, no backslash, no control characters.
AeTitle = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[^\\\x00-\x1f\x7f]+$"),
]


class InterruptedPolicy(StrEnum):
    """What becomes of an interrupted association's instances when the sender does not come back."""

    SUBMIT = "submit"
    QUARANTINE = "quarantine"
    DISCARD = "discard"


class PinnedAeTitle(Payload):
    """A Clara AE title's configuration as it was when the association began; later edits do not reach it."""

    ae_title: AeTitle
    name: str
    revision: int = 0
    """Grows with each change of the entity, so that a trace can say under which configuration something came in."""
    processor: str
    processor_settings: dict[str, str] = Field(default={})
    timeout_seconds: float = 5.0
    """0: one group per association; otherwise a window that rests this long closes."""
    group_by: str = "0020,000D"
    """Tag whose value divides windows, ``GGGG,EEEE``, or ``none``: all of the AE title in one."""
    maximum_window_seconds: float | None = None
    """A window that never rests is closed after this long."""
    overwrite_same_instance: bool = False
    interrupted: InterruptedPolicy | None = None
    """None: submit in windows, quarantine at timeout 0."""
    interrupted_hold_seconds: float = 60.0
    quarantine_retention_seconds: float = 604800.0
    """What is quarantined is given up after this long; nothing else expires."""
