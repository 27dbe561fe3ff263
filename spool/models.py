"""What the spool takes and gives: plain values, no I/O."""

import os
import re
import time
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict

from clara_dicom_adapter.workflows.models import AssociationOutcome, BatchRef, Owner, PinnedAeTitle

ASSOCIATIONS: Final = "associations"
"""Folder of the spool with a folder for each association."""
_ASSOCIATION_ID: Final = re.compile(r"[0-9a-f]{32}")


class SpoolRole(StrEnum):
    """As what a process opens a spool; there is at most one receiver and one worker at a time."""

    RECEIVER = "receiver"
    WORKER = "worker"
    TOOL = "tool"


def new_association_id() -> str:
    """An opaque id, unique everywhere, that sorts by time (the layout of a version 7 UUID)."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62
    return f"{value | random & (1 << 62) - 1:032x}"


def last_association_id(at_ns: int) -> str:
    """The greatest id that an association can have which had begun by a time, nanoseconds since 1970."""
    return f"{at_ns // 1_000_000:012x}".ljust(32, "f")


def is_association_id(name: str) -> bool:
    """Whether a name may be that of an association's folder."""
    return _ASSOCIATION_ID.fullmatch(name) is not None


class AssociationFacts(BaseModel):
    """Whose the instances of an association are; ``association.json``."""

    model_config = ConfigDict(frozen=True)

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    peer: str
    """Address of the peer."""
    started_at: datetime
    ae: PinnedAeTitle


class AssociationOutcomeRecord(BaseModel):
    """How an association ended; ``outcome.json``."""

    model_config = ConfigDict(frozen=True)

    outcome: AssociationOutcome
    instances: int
    """Instances that were stored."""
    bytes: int
    failed_instances: int = 0
    """Instances that were answered A700."""
    ended_at: datetime


class InstanceKey(NamedTuple):
    """What an instance is known by within its node."""

    association_id: str
    sequence: int


def instance_name(sequence: int, received_ns: int) -> str:
    """The name of an instance's file in the folder of its association."""
    return f"{sequence:08d}-{received_ns}.dcm"


def part_name(sequence: int, by: int | None = None) -> str:
    """The name of an instance's file until it is complete.

    Args:
        by: The process that makes it from a copy of the instance; none: there is no other one.
    """
    return f"{sequence:08d}.part" if by is None else f"{sequence:08d}-{by}.part"


@dataclass(frozen=True, slots=True)
class StoredInstance:
    """An instance that is durable under its final name.

    Attributes:
        bytes: Size of the file, part-10 header included.
    """

    association_id: str
    sequence: int
    received_ns: int
    """Nanoseconds since the epoch at which its last byte had come."""
    bytes: int
    folder: Path
    name: str
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str

    @property
    def path(self) -> Path:
        """The file; made when it is asked for, which the answer to a C-STORE does not wait for."""
        return self.folder / self.name

    @property
    def key(self) -> InstanceKey:
        return InstanceKey(self.association_id, self.sequence)


@dataclass(frozen=True, slots=True)
class InstanceHead:
    """A stored instance and what its head says.

    Attributes:
        readable: False when the head could not be read; the UIDs may then be empty.
    """

    stored: StoredInstance
    study_instance_uid: str
    series_instance_uid: str
    readable: bool = True


@dataclass(frozen=True, slots=True)
class SpooledInstance:
    """An instance as the index knows it."""

    association_id: str
    sequence: int
    received_ns: int
    bytes: int
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    readable: bool
    node_id: str

    @property
    def key(self) -> InstanceKey:
        return InstanceKey(self.association_id, self.sequence)

    @property
    def order(self) -> tuple[int, str, str, int]:
        """What "first" and "last" mean among copies of one SOP instance (DESIGN 4)."""
        return self.received_ns, self.node_id, self.association_id, self.sequence


@dataclass(frozen=True, slots=True)
class Target:
    """Where a batch is addressed.

    Attributes:
        receive_input: A ReceiveInput as JSON, to start the workflow with when it does not run.
    """

    workflow_id: str
    receive_input: str


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch that nobody has claimed yet, and where it is addressed."""

    ref: BatchRef
    target: Target


@dataclass(frozen=True, slots=True)
class PendingEnd:
    """An association has ended, and a workflow that got batches of it has not been told.

    Attributes:
        instances: All instances of the association that were addressed to this workflow.
    """

    association_id: str
    target: Target
    instances: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over instances."""

    instances: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class OwnerSummary:
    """One owner of instances that are not released.

    Attributes:
        restart: SubmissionInput as JSON when the owner is a submission, to start it again with.
    """

    owner: Owner
    instances: int
    bytes: int
    restart: str | None


@dataclass(frozen=True, slots=True)
class OfSender:
    """An association of some sender that is not submitted yet, seen from another one's group.

    Attributes:
        owner: Its own ReceiveWorkflow; None while that has claimed nothing.
        interrupted: None while it has not ended.
        resent: It has not ended, and its last instance has come again in that group.
    """

    association_id: str
    owner: Owner | None
    interrupted: bool | None
    resent: bool

    @property
    def broken(self) -> bool:
        """Whether its sender has given it up. One without an end has been when its last instance came again."""
        return self.resent if self.interrupted is None else self.interrupted


@dataclass(frozen=True, slots=True)
class ReclaimTotals:
    """What one run of the reclaimer deleted."""

    instances: int = 0
    bytes: int = 0
    parts: int = 0
    associations: int = 0


@dataclass(frozen=True, slots=True)
class SpoolUsage:
    """The spool in figures; what is released counts no more.

    Attributes:
        oldest_seconds: Age of the oldest instance; 0 when there is none.
        unhanded: Instances whose batch Temporal has not accepted.
        parked: Instances that one owner has had for more than an hour: it waits, for the platform or for a person.
    """

    instances: int = 0
    bytes: int = 0
    oldest_seconds: float = 0.0
    unhanded: int = 0
    unclaimed: int = 0
    parked: int = 0
    parked_bytes: int = 0
