"""Between a ReceiveWorkflow and a spool: claiming instances, taking them over, giving them up.

``here_only`` is set for a local activity: it answers ``here=False`` instead of working when this worker does not serve
the node in question.
"""

from clara_dicom_adapter.workflows.models.ownership import Owner
from clara_dicom_adapter.workflows.models.payload import Payload


class ClaimInput(Payload):
    owner: Owner
    node_id: str
    batch_ids: tuple[str, ...]
    here_only: bool = False
    """As a local activity: answer ``here=False`` instead of claiming when this worker does not serve that node."""


class ClaimResult(Payload):
    here: bool = True
    instances: int = 0
    """How many instances the granted batches hold; batches that someone else owns count nothing."""
    bytes: int = 0
    refused: int = 0
    outstanding: int = 0
    """Instances addressed to this workflow on that node that nobody has claimed yet: their signal is on its way."""
    owned_instances: int = 0
    """All that the owner now owns in that spool: unlike ``instances`` the same however often a batch is delivered."""
    owned_bytes: int = 0
    node_ids: tuple[str, ...] = ()
    """The nodes that the spool answers for, its own first: a lost one that was adopted is counted with it."""


class OutstandingInput(Payload):
    workflow_id: str
    node_id: str
    here_only: bool = False


class OutstandingResult(Payload):
    here: bool = True
    instances: int = 0


class TakeOverInput(Payload):
    """Give all that ``owner`` owns on a node to ``new_owner``."""

    owner: Owner
    new_owner: Owner
    node_id: str
    here_only: bool = False


class TakeOverResult(Payload):
    here: bool = True
    instances: int = 0
    """All that the new owner owns in that spool now, with what it had before."""
    bytes: int = 0
    node_ids: tuple[str, ...] = ()
    """As in :class:`ClaimResult`."""


class ReleaseInput(Payload):
    """Let the reclaimer delete what ``owner`` owns on a node."""

    owner: Owner
    node_id: str
    here_only: bool = False


class ReleaseResult(Payload):
    here: bool = True
    instances: int = 0
