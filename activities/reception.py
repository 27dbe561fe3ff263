"""Activities on a group's instances: whose they are in a node's spool, and what the records say of them.

Each is one transaction in the spool followed by one in the records, in this order: the spool decides, the records tell.
All are safe to repeat, and a transaction that has begun is never broken off. Those that must see a spool decline
(``here=False``) when asked as a local activity on a worker of another node.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from temporalio import activity

from clara_dicom_adapter.spool import OfSender, SpooledInstance, Totals
from clara_dicom_adapter.spool.models import last_association_id
from clara_dicom_adapter.workflows.models import (
    ClaimInput,
    ClaimResult,
    EndHoldInput,
    EndHoldResult,
    HeldGroup,
    HeldNode,
    HoldInput,
    HoldResult,
    MergeHeldInput,
    MergeHeldResult,
    NoteReceptionInput,
    NoteResult,
    OutstandingInput,
    OutstandingResult,
    Owner,
    ReceptionState,
    ReleaseInput,
    ReleaseResult,
    RestoreInput,
    RestoreResult,
    SenderIsBackInput,
    SenderIsBackResult,
    SubmissionInput,
    TakeOverInput,
    TakeOverResult,
    TransferInput,
    TransferResult,
)


class OwnershipSpool(Protocol):
    """What these activities need of a node's spool."""

    @property
    def node_ids(self) -> Sequence[str]:
        """Its own first, then those of spools that it has adopted."""
        ...

    def claim(self, owner: Owner, batch_ids: Sequence[str]) -> ClaimResult: ...
    def outstanding(self, workflow_id: str) -> int: ...
    def studies(self, owner: Owner) -> frozenset[str]: ...
    def of_sender(self, owner: Owner, sender_key: str) -> Sequence[OfSender]: ...
    def came_again_in(self, association_id: str, earlier: str) -> bool: ...
    def transfer(self, owner: Owner, new_owner: Owner, restart: str | None) -> Totals: ...
    def instances_in(self, batch_ids: Sequence[str]) -> list[SpooledInstance]: ...
    def instances_of(self, owner: Owner) -> list[SpooledInstance]: ...
    def release(self, owner: Owner) -> int: ...


class ReceptionRecords(Protocol):
    """What these activities need of the records."""

    def claimed(self, owner: Owner, node_id: str, instances: Sequence[SpooledInstance]) -> None: ...
    def state(self, owner: Owner, state: ReceptionState, *, incomplete: bool, reason: str) -> None: ...
    def transferred(self, owner: Owner, new_owner: Owner, node_id: str) -> None: ...
    def submitted(self, owner: Owner, submission: SubmissionInput, node_ids: Sequence[str]) -> None: ...
    def restored(self, submission: SubmissionInput, node_id: str, instances: Sequence[SpooledInstance]) -> None: ...


class HeldGroups(Protocol):
    """The register of interrupted groups, shared by all nodes."""

    def register(self, owner: Owner, sender_key: str, studies: frozenset[str], nodes: Sequence[HeldNode]) -> None: ...
    def take(
        self, owner: Owner, sender_key: str, studies: frozenset[str], *, begun_until: str, leave: Collection[Owner]
    ) -> Sequence[HeldGroup]: ...
    def knows(self, owner: Owner) -> bool: ...
    def expire(self, owner: Owner) -> Owner | None: ...


Start = Callable[[SubmissionInput, str], None]
"""Starts a submission's workflow on a task queue, unless it runs already."""


class ReceptionActivities:
    """Claims, holds, transfers and releases of one node's instances."""

    def __init__(self, spool: OwnershipSpool, records: ReceptionRecords, held: HeldGroups, start: Start) -> None:
        self._spool = spool
        self._records = records
        self._held = held
        self._start = start

    @activity.defn(no_thread_cancel_exception=True)
    def claim(self, request: ClaimInput) -> ClaimResult:
        """Make batches the owner's, unless they are someone else's; safe to repeat."""
        if self._declines(request.node_id, here_only=request.here_only):
            return ClaimResult(here=False)
        result = self._spool.claim(request.owner, request.batch_ids)
        if result.instances:
            instances = self._spool.instances_in(request.batch_ids)
            self._records.claimed(request.owner, self._spool.node_ids[0], instances)
        return result.model_copy(update={"node_ids": tuple(self._spool.node_ids)})

    @activity.defn(no_thread_cancel_exception=True)
    def outstanding(self, request: OutstandingInput) -> OutstandingResult:
        """How many instances on this node are addressed to a workflow and not claimed; changes nothing."""
        if self._declines(request.node_id, here_only=request.here_only):
            return OutstandingResult(here=False)
        return OutstandingResult(instances=self._spool.outstanding(request.workflow_id))

    @activity.defn(no_thread_cancel_exception=True)
    def merge_held(self, request: MergeHeldInput) -> MergeHeldResult:
        """Take interrupted groups of the same sender and study; the same ones again when repeated."""
        if self._declines(request.node_id, here_only=request.here_only):
            return MergeHeldResult(here=False)
        # looked for before taking: one that is registered in between is taken, and not missed
        of_sender = self._spool.of_sender(request.owner, request.sender_key)
        awaited = [
            each
            for each in of_sender
            if each.association_id < request.association_id and each.broken and not self._was_held(each.owner)
        ]
        studies = self._spool.studies(request.owner)
        # who sent nothing after an association had begun has not come back to it, and must not take it from who has
        last_came = max((one.received_ns for one in self._spool.instances_of(request.owner)), default=0)
        begun_until = last_association_id(last_came)
        leave = self._came_again_elsewhere(request.association_id, of_sender)
        groups = self._held.take(request.owner, request.sender_key, studies, begun_until=begun_until, leave=leave)
        return MergeHeldResult(groups=tuple(groups), awaited=len(awaited))

    @activity.defn(no_thread_cancel_exception=True)
    def sender_is_back(self, request: SenderIsBackInput) -> SenderIsBackResult:
        """Whether later associations of the sender will yet look for the owner's held group; changes nothing."""
        if self._declines(request.node_id, here_only=request.here_only):
            return SenderIsBackResult(here=False)
        later = [
            each
            for each in self._spool.of_sender(request.owner, request.sender_key)
            if each.association_id > request.association_id and not self._was_held(each.owner)
        ]
        return SenderIsBackResult(associations=len(later))

    @activity.defn(no_thread_cancel_exception=True)
    def take_over(self, request: TakeOverInput) -> TakeOverResult:
        """Give another owner's claims on this node to the new owner; safe to repeat."""
        if self._declines(request.node_id, here_only=request.here_only):
            return TakeOverResult(here=False)
        self._spool.transfer(request.owner, request.new_owner, None)
        for node_id in self._spool.node_ids:
            self._records.transferred(request.owner, request.new_owner, node_id)
        now = self._spool.claim(request.new_owner, ())
        return TakeOverResult(
            instances=now.owned_instances, bytes=now.owned_bytes, node_ids=tuple(self._spool.node_ids)
        )

    @activity.defn(no_thread_cancel_exception=True)
    def hold(self, request: HoldInput) -> HoldResult:
        """Register an interrupted group for its sender to come back; safe to repeat."""
        if self._declines(request.node_id, here_only=request.here_only):
            return HoldResult(here=False)
        studies = self._spool.studies(request.owner)
        self._held.register(request.owner, request.sender_key, studies, request.nodes)
        self._records.state(request.owner, ReceptionState.HELD, incomplete=True, reason="")
        return HoldResult()

    @activity.defn
    def end_hold(self, request: EndHoldInput) -> EndHoldResult:
        """End a hold, unless somebody has taken the group over; the first answer stands when repeated."""
        return EndHoldResult(merged_into=self._held.expire(request.owner))

    @activity.defn(no_thread_cancel_exception=True)
    def transfer(self, request: TransferInput) -> TransferResult:
        """Make this node's part of a group the submission's, and start that with the last part; safe to repeat.

        Ownership goes first: should the start be the last thing that does not happen, the reconciler sees to it.
        """
        if self._declines(request.node_id, here_only=request.here_only):
            return TransferResult(here=False)
        submission = request.submission
        totals = self._spool.transfer(request.owner, submission.owner, submission.model_dump_json())
        self._records.submitted(request.owner, submission, self._spool.node_ids)
        if request.start_on:
            self._start(submission, request.start_on)
        return TransferResult(instances=totals.instances)

    @activity.defn(name="restore_records", no_thread_cancel_exception=True)
    def restore(self, request: RestoreInput) -> RestoreResult:
        """Enter what a submission owns here into records that were lost or are older; safe to repeat."""
        if self._declines(request.node_id, here_only=request.here_only):
            return RestoreResult(here=False)
        mine = self._spool.instances_of(request.submission.owner)
        self._records.restored(request.submission, self._spool.node_ids[0], mine)
        return RestoreResult(instances=len(mine), node_ids=tuple(self._spool.node_ids))

    @activity.defn(no_thread_cancel_exception=True)
    def release(self, request: ReleaseInput) -> ReleaseResult:
        """Let the reclaimer delete what the owner has on this node; safe to repeat."""
        if self._declines(request.node_id, here_only=request.here_only):
            return ReleaseResult(here=False)
        return ReleaseResult(instances=self._spool.release(request.owner))

    @activity.defn(name="note_reception")
    def note(self, request: NoteReceptionInput) -> NoteResult:
        """Write a group's state to the records; safe to repeat."""
        self._records.state(request.owner, request.state, incomplete=request.incomplete, reason=request.reason)
        return NoteResult()

    def _came_again_elsewhere(self, association_id: str, of_sender: Sequence[OfSender]) -> Collection[Owner]:
        """Held groups that came again in another association, which will yet look for them, and not in this one.

        A sender that stores its series in several associations would else have in two jobs what it sent twice.
        """
        held = [each for each in of_sender if each.interrupted and self._was_held(each.owner)]
        looking = [each for each in of_sender if each not in held]
        return [
            each.owner
            for each in held
            if each.owner is not None
            and not self._spool.came_again_in(association_id, each.association_id)
            and any(self._spool.came_again_in(one.association_id, each.association_id) for one in looking)
        ]

    def _was_held(self, owner: Owner | None) -> bool:
        return owner is not None and self._held.knows(owner)

    def _declines(self, node_id: str, *, here_only: bool) -> bool:
        return here_only and node_id not in self._spool.node_ids
