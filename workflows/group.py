"""When a group of instances closes: decided here, without Temporal and without I/O.

Times are seconds since the epoch, from the workflow's clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from clara_dicom_adapter.workflows.models import (
    AssociationEnd,
    AssociationOutcome,
    ClaimResult,
    HeldNode,
    InterruptedPolicy,
    PinnedAeTitle,
    ReceiveProgress,
)

RECHECK_SECONDS = 5.0
"""How long a complete-looking group waits for signals of instances that a spool still holds for it."""

LOOK_AGAIN_SECONDS = 1.0
"""Between two looks for an interrupted association that is about to be held, or to be taken over."""


@dataclass
class Group:
    """Instances of one association, or of one window, that will be submitted together."""

    ae: PinnedAeTitle
    windowed: bool
    number: int = 1
    nodes: dict[str, HeldNode] = field(default_factory=dict)
    outstanding: dict[str, int] = field(default_factory=dict)
    ended: AssociationOutcome | None = None
    failed_instances: int = 0
    refused: bool = False
    """Something was delivered that belongs to someone else already."""
    opened_at: float = 0.0
    last_activity_at: float = 0.0
    interrupted_senders: set[str] = field(default_factory=set)
    adapter_at_fault: bool = False
    awaited: int = 0
    """Earlier associations of the same sender and study that broke off and are not held yet."""

    @property
    def instances(self) -> int:
        return sum(node.instances for node in self.nodes.values())

    @property
    def bytes(self) -> int:
        return sum(node.bytes for node in self.nodes.values())

    @property
    def interrupted(self) -> bool:
        return bool(self.interrupted_senders)

    @property
    def incomplete(self) -> bool:
        """Whether something that the sender wanted to send may be missing."""
        return self.interrupted or self.failed_instances > 0

    def activity(self, now: float) -> None:
        """An instance has come, or is coming."""
        self.opened_at = self.opened_at or now
        self.last_activity_at = now

    def claimed(self, node_id: str, result: ClaimResult) -> None:
        """Take in what a node's spool granted."""
        self.owns(node_id, result.owned_instances, result.owned_bytes, result.node_ids)
        self.outstanding[node_id] = result.outstanding
        self.refused = self.refused or result.refused > 0

    def owns(self, node_id: str, instances: int, size: int, answers_for: Sequence[str] = ()) -> None:
        """Set what the group owns on a node: the spool's own total, because batches may be delivered twice.

        Args:
            answers_for: The nodes whose instances are in that total; they are counted as those of the first.
        """
        if instances:
            node_id, *adopted = answers_for or (node_id,)
            for each in adopted:
                self.nodes.pop(each, None)
            self.nodes[node_id] = HeldNode(node_id=node_id, instances=instances, bytes=size)

    def association_ended(self, end: AssociationEnd) -> None:
        """Take in how an association ended; a sender that came back and released is no longer interrupted."""
        self.ended = end.outcome
        self.failed_instances += end.failed_instances
        if end.outcome.interrupted:
            self.interrupted_senders.add(end.sender_key)
            if end.outcome is AssociationOutcome.ADAPTER_STOPPED:
                self.adapter_at_fault = True
        else:
            self.interrupted_senders.discard(end.sender_key)

    def rests_at(self) -> float | None:
        """When the group closes if nothing more comes; None: only an event closes it."""
        if not self.windowed:
            return self.last_activity_at if self.ended is not None else None
        rests = self.last_activity_at + self.ae.timeout_seconds
        if self.ae.maximum_window_seconds is not None:
            rests = min(rests, self.opened_at + self.ae.maximum_window_seconds)
        return rests

    def looks_complete(self, now: float) -> bool:
        """Whether the group may close, as far as the signals tell."""
        if self.instances == 0 and (self.refused or self.ended is not None):
            return True  # nothing here is ours: end quietly
        rests = self.rests_at()
        return rests is not None and now >= rests

    @property
    def anything_outstanding(self) -> bool:
        return any(self.outstanding.values())

    def awaits_earlier(self, since: float, now: float) -> bool:
        """Whether to look again for what broke off before: as long as a hold lasts, counted from the closing.

        A spool whose batches nobody can hand over must not keep what came later back for ever.
        """
        return self.awaited > 0 and now < since + self.ae.interrupted_hold_seconds

    def policy(self) -> InterruptedPolicy:
        """What is to be done with the group, now that nobody came back for it."""
        if not self.interrupted or self.adapter_at_fault:
            return InterruptedPolicy.SUBMIT
        if self.ae.interrupted is not None:
            return self.ae.interrupted
        return InterruptedPolicy.SUBMIT if self.windowed else InterruptedPolicy.QUARANTINE

    def progress(self) -> ReceiveProgress:
        """What the next run of the workflow has to know."""
        return ReceiveProgress(
            group=self.number,
            nodes=tuple(self.nodes.values()),
            outstanding=dict(self.outstanding),
            ended=self.ended,
            failed_instances=self.failed_instances,
            interrupted_senders=tuple(sorted(self.interrupted_senders)),
            adapter_at_fault=self.adapter_at_fault,
            awaited=self.awaited,
            opened_at=self.opened_at,
            last_activity_at=self.last_activity_at,
        )

    @classmethod
    def resumed(cls, ae: PinnedAeTitle, *, windowed: bool, progress: ReceiveProgress) -> "Group":
        """The group as an earlier run of the workflow left it."""
        return cls(
            ae=ae,
            windowed=windowed,
            number=progress.group,
            nodes={node.node_id: node for node in progress.nodes},
            outstanding=dict(progress.outstanding),
            ended=progress.ended,
            failed_instances=progress.failed_instances,
            interrupted_senders=set(progress.interrupted_senders),
            adapter_at_fault=progress.adapter_at_fault,
            awaited=progress.awaited,
            opened_at=progress.opened_at,
            last_activity_at=progress.last_activity_at,
        )
