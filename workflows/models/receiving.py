"""What a ReceiveWorkflow starts with, carries over, shows and records."""

from enum import StrEnum

from pydantic import Field

from clara_dicom_adapter.workflows.models.ae_titles import PinnedAeTitle
from clara_dicom_adapter.workflows.models.hand_over import AssociationOutcome, HandOver
from clara_dicom_adapter.workflows.models.ownership import HeldNode, Owner
from clara_dicom_adapter.workflows.models.payload import Payload


class ReceiveProgress(Payload):
    """What a ReceiveWorkflow carries over when it continues as new."""

    group: int = 1
    nodes: tuple[HeldNode, ...] = ()
    outstanding: dict[str, int] = Field(default={})
    """By node, what its spool still held for the group when it was last asked."""
    pending: tuple[HandOver, ...] = ()
    ended: AssociationOutcome | None = None
    failed_instances: int = 0
    interrupted_senders: tuple[str, ...] = ()
    adapter_at_fault: bool = False
    awaited: int = 0
    """Interrupted associations of the same sender that the group would take over if they were held."""
    opened_at: float = 0.0
    """Seconds since the epoch at which the first batch of the open group was claimed; 0 when none was."""
    last_activity_at: float = 0.0


class ReceiveInput(Payload):
    """Start of a ReceiveWorkflow."""

    ae: PinnedAeTitle
    calling_ae_title: str
    """Of the association that opened it, for the operator to see."""
    association_id: str | None
    """Set at timeout 0: the one association whose group this is."""
    sender_key: str = ""
    """Keyed hash of calling and called AE title, set at timeout 0."""
    progress: ReceiveProgress = ReceiveProgress()


class ReceiveResult(Payload):
    """What a ReceiveWorkflow did with the instances it claimed."""

    submissions: tuple[str, ...] = ()
    instances: int = 0
    outcome: str = ""


class ReceiveStatus(Payload):
    """Answer of the query ``status`` of a ReceiveWorkflow."""

    state: str
    instances: int
    bytes: int
    group: int
    submissions: tuple[str, ...] = ()


class ReceptionState(StrEnum):
    """Where a group is, in the records."""

    RECEIVING = "receiving"
    HELD = "held"
    QUARANTINED = "quarantined"
    SUBMITTED = "submitted"
    DISCARDED = "discarded"
    MERGED = "merged"


class NoteReceptionInput(Payload):
    """Write a group's state to the records."""

    owner: Owner
    state: ReceptionState
    incomplete: bool = False
    reason: str = ""


class NoteResult(Payload):
    pass
