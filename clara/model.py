"""The Clara Platform's things as Python values, without gRPC (clara-wire, sections 2 to 6)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Final

_EPOCH: Final = datetime(1, 1, 1, tzinfo=UTC)
"""``Timestamp`` counts whole seconds from here in the jobs service (clara-wire, section 2: the epoch conflict)."""


class JobState(IntEnum):
    UNKNOWN = 0
    PENDING = 1
    RUNNING = 2
    STOPPED = 3


class JobStatus(IntEnum):
    UNKNOWN = 0
    HEALTHY = 1
    FAULTED = 2
    CANCELED = 3
    EVICTED = 4
    TERMINATED = 5


class JobPriority(IntEnum):
    UNKNOWN = 0
    LOWER = 1
    NORMAL = 2
    HIGHER = 3
    IMMEDIATE = 4


class OperatorStatus(IntEnum):
    UNKNOWN = 0
    PENDING = 1
    RUNNING = 2
    COMPLETED = 3
    FAULTED = 4


@dataclass(frozen=True)
class OperatorDetails:
    name: str
    status: OperatorStatus


@dataclass(frozen=True)
class PlatformJob:
    """A job as Status or List tells it; List leaves messages and operators empty."""

    job_id: str
    payload_id: str
    pipeline_id: str
    name: str
    state: JobState
    status: JobStatus
    priority: JobPriority = JobPriority.UNKNOWN
    created: datetime | None = None
    started: datetime | None = None
    stopped: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    messages: tuple[str, ...] = ()
    operators: tuple[OperatorDetails, ...] = ()

    @property
    def was_started(self) -> bool:
        """Whether it runs or has run; a job cancelled while pending was not."""
        return self.state is JobState.RUNNING or (
            self.state is JobState.STOPPED and (self.started is not None or self.status is not JobStatus.CANCELED)
        )


@dataclass(frozen=True)
class Pipeline:
    pipeline_id: str
    name: str


@dataclass(frozen=True)
class PayloadFile:
    """A file of a payload; the name is relative to the payload's root, so uploads are below ``input/``."""

    name: str
    size: int


def identifier(text: str) -> str | None:
    """A 128-bit id as 32 lower-case hexadecimal digits, also from its form with dashes; None when it is none."""
    digits = text.strip().replace("-", "").lower()
    return digits if re.fullmatch(r"[0-9a-f]{32}", digits) else None


def to_timestamp(when: datetime) -> int:
    """Seconds on the wire."""
    return (when - _EPOCH) // timedelta(seconds=1)


def from_timestamp(seconds: int) -> datetime | None:
    """Time of a wire value; None for unset values and those before 1970, as the Python client has it."""
    try:
        when = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    return when if when.year >= 1970 else None
