"""What a receiver tells a ReceiveWorkflow: batches of instances, and that an association is over."""

from enum import StrEnum

from clara_dicom_adapter.workflows.models.payload import Payload


class AssociationOutcome(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED = "aborted"
    """The peer sent A-ABORT, or the adapter did because the peer broke the protocol or fell silent."""
    CONNECTION_LOST = "connection-lost"
    ADAPTER_STOPPED = "adapter-stopped"
    """The adapter went down while the association was open: our fault, never the sender's."""

    @property
    def interrupted(self) -> bool:
        """Whether the sender may not have sent all it wanted."""
        return self is not AssociationOutcome.RELEASED


class BatchRef(Payload):
    """A batch of instances in one node's spool, whose manifest is found there under its id."""

    batch_id: str
    node_id: str
    association_id: str
    number: int
    """Counts an association's batches from 1."""
    instances: int
    bytes: int


class AssociationEnd(Payload):
    """An association is over, as far as one ReceiveWorkflow is concerned."""

    association_id: str
    node_id: str
    sender_key: str
    """Keyed hash of calling and called AE title, to recognise a sender that comes back."""
    outcome: AssociationOutcome
    instances: int
    """All instances of this association that were addressed to this workflow."""
    failed_instances: int = 0
    """How many of the association's instances were answered A700."""


class HandOver(Payload):
    """Signal ``hand_over``: what a receiver tells a ReceiveWorkflow.

    ``batches`` empty and ``ended`` None means that an instance is arriving: it only keeps the window open.
    """

    batches: tuple[BatchRef, ...] = ()
    ended: AssociationEnd | None = None
