"""What a person asks of a parked workflow, and what it answers."""

from clara_dicom_adapter.workflows.models.payload import Payload


class RetryInput(Payload):
    """Update ``retry``: go on with what was parked; a quarantined group is submitted."""

    item: str | None = None
    """A job key or a destination name; None is all that is parked in this workflow."""


class SendElsewhereInput(Payload):
    """Update ``send_elsewhere`` of an export: all its objects go to another destination."""

    destination: str
    """Name of a configured destination."""
    instead_of: str | None = None
    """The destination that is not tried again; None is all that have not got everything."""


class DiscardInput(Payload):
    """Update ``discard``: give up what was parked; the reason is kept in the history."""

    item: str | None = None
    reason: str = ""


class Answer(Payload):
    """What an update did, in words."""

    changed: int
    message: str
