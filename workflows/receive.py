"""From batches in a spool to one closed group on its way to the Clara Platform.

One workflow per association (``timeout`` 0), or one per AE title and grouping value whose window restarts with every
instance. Receivers signal it with references; it claims them in their spool, so that every instance belongs to exactly
one group, waits until the group closes, and hands the group to a SubmissionWorkflow.
"""

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from clara_dicom_adapter.activities.reception import ReceptionActivities
    from clara_dicom_adapter.temporal.attributes import State
    from clara_dicom_adapter.workflows import names, policies
    from clara_dicom_adapter.workflows.models import (
        Answer,
        ClaimInput,
        DiscardInput,
        HandOver,
        InterruptedPolicy,
        NoteReceptionInput,
        OutstandingInput,
        Owner,
        ReceiveInput,
        ReceiveResult,
        ReceiveStatus,
        ReceptionState,
        ReleaseInput,
        RetryInput,
        SubmissionInput,
        TransferInput,
    )

from clara_dicom_adapter.workflows.group import LOOK_AGAIN_SECONDS, RECHECK_SECONDS, Group
from clara_dicom_adapter.workflows.nodes import happened, on_node
from clara_dicom_adapter.workflows.sender import Sender
from clara_dicom_adapter.workflows.visible import show

_BROKEN_OFF = "an association broke off and was not sent again; retry submits what arrived, discard deletes it"
"""Why a group is in quarantine, for the person who looks."""


@workflow.defn
class ReceiveWorkflow:
    """Collect a group of instances, then see to it that it is submitted, kept for a person, or given up."""

    @workflow.init
    def __init__(self, start: ReceiveInput) -> None:
        self._start = start
        self._ae = start.ae
        self._inbox: list[HandOver] = list(start.progress.pending)
        self._begin(Group.resumed(start.ae, windowed=start.association_id is None, progress=start.progress))
        self._state = State.RECEIVING
        self._submissions: list[str] = []
        self._total = 0
        self._verdict: InterruptedPolicy | None = None
        self._reopened = False
        self._visible = False

    @workflow.run
    async def run(self, start: ReceiveInput) -> ReceiveResult:
        """Handle one group after the other, until nothing more has been delivered."""
        del start
        while True:
            await self._collect()
            if self._group.instances:
                await self._settle()
                if self._reopened:
                    self._reopened = False
                    if workflow.info().is_continue_as_new_suggested():
                        self._continue_as_new()
                    continue
                self._total += self._group.instances
            # between this look and the completion no signal can slip in: the server refuses a completion
            # when there is something new, and the workflow task runs again
            if not self._inbox:
                return ReceiveResult(
                    submissions=tuple(self._submissions), instances=self._total, outcome=self._state.value
                )
            self._begin(Group(self._ae, windowed=self._group.windowed, number=self._group.number + 1))
            self._verdict = None
            if workflow.info().is_continue_as_new_suggested():
                self._continue_as_new()
            self._show(State.RECEIVING)

    def _begin(self, group: Group) -> None:
        self._group = group
        self._sender = Sender(self._start, group, self._owner, self._show)

    # ---- collecting ----

    async def _collect(self) -> None:
        """Claim what is delivered until the group closes with nothing of it left in a spool."""
        while True:
            if self._inbox:
                await self._take_in()
                continue
            wait = self._until_closing()
            if wait is not None and wait <= 0:
                await self._recheck_outstanding()
                if self._inbox:
                    continue
                if not self._group.anything_outstanding:
                    return
                wait = RECHECK_SECONDS
            elif wait is None and self._group.awaited:
                wait = RECHECK_SECONDS
            if workflow.info().is_continue_as_new_suggested():
                self._continue_as_new()
            if not self._visible:  # a group that is complete at once is shown once, when it is on its way
                self._show(State.RECEIVING)
            if not await happened(lambda: bool(self._inbox), wait) and self._group.ended is None:
                await self._merge_awaited()

    def _until_closing(self) -> float | None:
        now = workflow.time()
        if self._group.looks_complete(now):
            return 0.0
        rests = self._group.rests_at()
        return None if rests is None else max(rests - now, 0.001)

    async def _take_in(self) -> None:
        delivered, self._inbox = self._inbox, []
        first = self._group.instances == 0
        self._group.activity(workflow.time())
        batches: dict[str, list[str]] = {}
        for hand_over in delivered:
            for batch in hand_over.batches:
                batches.setdefault(batch.node_id, []).append(batch.batch_id)
            if hand_over.ended is not None:
                self._group.association_ended(hand_over.ended)
                # an empty claim still tells what is outstanding
                batches.setdefault(hand_over.ended.node_id, [])
        for node_id, ids in batches.items():
            result = await on_node(
                ReceptionActivities.claim,
                ClaimInput(owner=self._owner, node_id=node_id, batch_ids=tuple(ids)),
                node_id,
                self._waiting_for_node,
            )
            self._group.claimed(node_id, result)
        if self._group.ended is None:
            await (self._sender.merge_held() if first else self._merge_awaited())
        self._tell_progress()

    async def _recheck_outstanding(self) -> None:
        """Ask the spools again whether they hold more for this group, before it closes."""
        if not self._group.windowed and not self._group.anything_outstanding:
            return  # the claim that came with the association's end has just told
        for node_id in list(self._group.outstanding):
            result = await on_node(
                ReceptionActivities.outstanding,
                OutstandingInput(workflow_id=workflow.info().workflow_id, node_id=node_id),
                node_id,
                self._waiting_for_node,
            )
            self._group.outstanding[node_id] = result.instances

    # ---- a closed group ----

    async def _settle(self) -> None:
        if not self._group.windowed:
            await self._merge_earlier()
            if self._group.interrupted and await self._sender.hold():
                await self._note(ReceptionState.MERGED)
                self._show(State.MERGED)
                return
        verdict = self._group.policy()
        if verdict is InterruptedPolicy.QUARANTINE:
            verdict = await self._quarantine()
            if self._reopened:
                return
        if verdict is InterruptedPolicy.DISCARD:
            await self._discard()
        else:
            await self._submit()

    async def _merge_earlier(self) -> None:
        """Take over what this sender left behind, also when that is still on its way to being held.

        Each association waits for earlier ones only, so no two ever wait for each other.
        """
        closed_at = workflow.time()
        await self._sender.merge_held()
        while self._group.awaits_earlier(closed_at, workflow.time()):
            if not self._visible:
                self._show(State.RECEIVING)
            await workflow.sleep(LOOK_AGAIN_SECONDS)
            await self._sender.merge_held()

    async def _merge_awaited(self) -> None:
        if self._group.awaited:
            await self._sender.merge_held()

    async def _quarantine(self) -> InterruptedPolicy:
        """Keep the group until a person decides, or its retention ends, or more comes for its window.

        A window reopens then: the sender may have come back, and nobody else's instances may wait behind it.
        """
        await self._note(ReceptionState.QUARANTINED, _BROKEN_OFF)
        self._show(State.QUARANTINED)
        await happened(
            lambda: self._verdict is not None or (self._group.windowed and bool(self._inbox)),
            self._ae.quarantine_retention_seconds,
        )
        if self._verdict is None and self._group.windowed and self._inbox:
            self._reopened = True
            self._show(State.RECEIVING)
            await self._note(ReceptionState.RECEIVING)
        return self._verdict or InterruptedPolicy.DISCARD

    async def _discard(self) -> None:
        for node_id in self._group.nodes:
            await on_node(
                ReceptionActivities.release,
                ReleaseInput(owner=self._owner, node_id=node_id),
                node_id,
                self._waiting_for_node,
            )
        await self._note(ReceptionState.DISCARDED)
        self._show(State.DISCARDED)

    async def _submit(self) -> None:
        submission = SubmissionInput(
            submission_id=names.submission(self._ae.ae_title, self._owner, workflow.info().workflow_start_time),
            ae=self._ae,
            calling_ae_title=self._start.calling_ae_title,
            nodes=tuple(self._group.nodes.values()),
            instances=self._group.instances,
            incomplete=self._group.incomplete,
            received_by=workflow.info().workflow_id,
        )
        *others, last = self._group.nodes
        for node_id in (*others, last):
            await on_node(
                ReceptionActivities.transfer,
                TransferInput(
                    owner=self._owner,
                    node_id=node_id,
                    submission=submission,
                    start_on=workflow.info().task_queue if node_id == last else "",
                ),
                node_id,
                self._waiting_for_node,
            )
        self._submissions.append(submission.submission_id)
        self._show(State.SUBMITTED)

    # ---- messages ----

    @workflow.signal
    def hand_over(self, delivered: HandOver) -> None:
        """A receiver has instances for this group, or an association is over."""
        self._inbox.append(delivered)

    @workflow.signal
    def merged(self) -> None:
        """Another association of the same sender has taken this group over."""
        self._sender.merged_away = True

    @workflow.query
    def status(self) -> ReceiveStatus:
        return ReceiveStatus(
            state=self._state.value,
            instances=self._group.instances,
            bytes=self._group.bytes,
            group=self._group.number,
            submissions=tuple(self._submissions),
        )

    @workflow.update
    def retry(self, request: RetryInput) -> Answer:
        """Submit a quarantined group as it is."""
        del request
        self._verdict = InterruptedPolicy.SUBMIT
        return Answer(changed=1, message=f"{self._group.instances} instances are submitted")

    @retry.validator
    def _may_retry(self, request: RetryInput) -> None:
        del request
        self._must_be_quarantined()

    @workflow.update
    def discard(self, request: DiscardInput) -> Answer:
        """Give a quarantined group up."""
        del request
        self._verdict = InterruptedPolicy.DISCARD
        return Answer(changed=1, message=f"{self._group.instances} instances are given up")

    @discard.validator
    def _may_discard(self, request: DiscardInput) -> None:
        del request
        self._must_be_quarantined()

    def _must_be_quarantined(self) -> None:
        if self._state is not State.QUARANTINED or self._verdict is not None:
            raise ApplicationError(f"nothing waits for a person here; the state is {self._state.value}")

    # ---- what an operator sees, and what the next run needs ----

    @property
    def _owner(self) -> Owner:
        return Owner(
            workflow_id=workflow.info().workflow_id,
            run_id=workflow.info().first_execution_run_id,
            group=self._group.number,
        )

    def _show(self, state: State) -> None:
        self._state, self._visible = state, True
        show(
            state,
            ae_title=self._ae.ae_title,
            calling_ae_title=self._start.calling_ae_title,
            instances=self._group.instances,
            incomplete=self._group.incomplete,
            node_id=next(iter(self._group.nodes), ""),
        )
        self._tell_progress()

    def _tell_progress(self) -> None:
        """Say how far the group has come, on the workflow's own page: unlike what is listed, this costs no event."""
        size = f"{self._group.bytes / 1_000_000:.1f} MB"
        workflow.set_current_details(f"{self._group.instances} instances, {size}, at {workflow.now():%H:%M:%S} UTC")

    def _waiting_for_node(self, away: bool) -> None:
        self._show(State.WAITING_FOR_NODE if away else State.RECEIVING)

    async def _note(self, state: ReceptionState, reason: str = "") -> None:
        await workflow.execute_local_activity_method(
            ReceptionActivities.note,
            NoteReceptionInput(owner=self._owner, state=state, incomplete=self._group.incomplete, reason=reason),
            **policies.LOCAL,
        )

    def _continue_as_new(self) -> None:
        progress = self._group.progress().model_copy(update={"pending": tuple(self._inbox)})
        workflow.continue_as_new(self._start.model_copy(update={"progress": progress}))
