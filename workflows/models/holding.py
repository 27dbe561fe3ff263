"""Between a ReceiveWorkflow and a spool: an interrupted group waits for its sender to come back."""

from clara_dicom_adapter.workflows.models.ownership import HeldNode, Owner
from clara_dicom_adapter.workflows.models.payload import Payload


class HoldInput(Payload):
    """Register an interrupted group, so that the sender's next association finds it."""

    owner: Owner
    sender_key: str
    node_id: str
    nodes: tuple[HeldNode, ...]
    here_only: bool = False


class HoldResult(Payload):
    here: bool = True


class MergeHeldInput(Payload):
    """Take over what the same sender left behind for one of the same studies."""

    owner: Owner
    sender_key: str
    association_id: str
    """The one that the owner's group began with."""
    node_id: str
    here_only: bool = False


class HeldGroup(Payload):
    owner: Owner
    nodes: tuple[HeldNode, ...]


class MergeHeldResult(Payload):
    here: bool = True
    groups: tuple[HeldGroup, ...] = ()
    """Groups that are this owner's from now on; their claims still have to be taken over on each node."""
    awaited: int = 0
    """Earlier associations of that sender and study in this spool that broke off and are not held yet."""


class SenderIsBackInput(Payload):
    """Ask whether the sender of an interrupted group has a later association of one of the same studies."""

    owner: Owner
    sender_key: str
    association_id: str
    node_id: str
    here_only: bool = False


class SenderIsBackResult(Payload):
    here: bool = True
    associations: int = 0
    """Those in this spool that have not been settled: each of them will look for what is held."""


class EndHoldInput(Payload):
    owner: Owner


class EndHoldResult(Payload):
    merged_into: Owner | None = None
    """Who took the group over; None when the hold ended without anyone coming back."""
