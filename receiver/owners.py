"""Whether those who own instances still run: what Temporal says, and what is done about those who do not.

An owner that does not run any more loses what it owns: a submission is started again with the same id and input,
everything else is handed over again. What Temporal has forgotten, because an older database of it was restored, it is
told once more. Everything here runs in the event loop of the hand-over.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from clara_dicom_adapter.errors import AdapterError, SpoolUnusable
from clara_dicom_adapter.receiver.hand_over import HandOver
from clara_dicom_adapter.spool import OwnerSummary, Spool
from clara_dicom_adapter.spool.models import is_association_id
from clara_dicom_adapter.temporal import attributes, queues
from clara_dicom_adapter.workflows.models import SubmissionInput

log = structlog.get_logger("clara_dicom_adapter.receiver")

_SUBMISSION: Final = "SubmissionWorkflow"
_CALL_SECONDS: Final = 10.0
_ENDED: Final = frozenset(
    {
        WorkflowExecutionStatus.COMPLETED,
        WorkflowExecutionStatus.FAILED,
        WorkflowExecutionStatus.CANCELED,
        WorkflowExecutionStatus.TERMINATED,
        WorkflowExecutionStatus.TIMED_OUT,
    }
)


@dataclass
class Found:
    """What one reconciliation did."""

    indexed: int = 0
    batches: int = 0
    ends: int = 0
    disowned: int = 0
    restarted: int = 0

    @property
    def anything(self) -> bool:
        return any((self.indexed, self.batches, self.ends, self.disowned, self.restarted))


class Owners:
    """The owners of a spool's instances, as Temporal knows them."""

    def __init__(self, spool: Spool, hand_over: HandOver, interval_seconds: float) -> None:
        """Args:
        interval_seconds: What was told so long ago should have been heard.
        """
        self._spool = spool
        self._hand_over = hand_over
        self._interval_seconds = interval_seconds

    async def judge(self, found: Found) -> bool:
        """Take instances from owners that run no more; False when Temporal could not be asked."""
        try:
            client = await self._hand_over.delivery.client()
            for summary in await self._hand_over.in_files_thread(self._spool.owners):
                running = await self._running(client, summary.owner.workflow_id, summary.owner.run_id)
                if running is None:
                    await self._dispossess(client, summary, found)
                elif summary.restart is None and _waits_for_more(running):
                    await self._hand_over.in_files_thread(self._tell_end_again, summary.owner.workflow_id)
            await self._look_for_lost_signals(client, found)
        except (RPCError, AdapterError, RuntimeError, OSError) as error:
            log.info("owners_not_judged", error=str(error)[:300])
            return False
        return True

    async def _look_for_lost_signals(self, client: Client, found: Found) -> None:
        """A batch that was accepted and never claimed: Temporal has forgotten its workflow, or only the signal.

        The latter happens when an older database of Temporal was restored. Whoever gets a batch twice recognises it.
        """
        unclaimed = await self._hand_over.in_files_thread(self._spool.unclaimed, self._interval_seconds)
        gone: list[str] = []
        forgotten: dict[str, bool] = {}
        for batch in unclaimed:
            workflow_id = batch.target.workflow_id
            if workflow_id not in forgotten:
                running = await self._running(client, workflow_id, "")
                forgotten[workflow_id] = running is None or _waits_for_more(running)
            if forgotten[workflow_id]:
                gone.append(batch.ref.batch_id)
        if gone:
            found.disowned += await self._hand_over.in_files_thread(self._spool.hand_over_again, gone)

    def _tell_end_again(self, workflow_id: str) -> None:
        """The end of an association whose workflow has not heard of it although it was told long ago."""
        association_id = workflow_id.rpartition("-")[2]  # of a window it is none: that closes without its ends
        if not is_association_id(association_id) or self._hand_over.follows(association_id):
            return
        try:
            record = self._spool.association(association_id).outcome
        except (FileNotFoundError, SpoolUnusable):
            return
        if record is not None and record.ended_at < datetime.now(UTC) - timedelta(seconds=self._interval_seconds):
            self._spool.forget_end(association_id, workflow_id)

    async def _running(
        self, client: Client, workflow_id: str, first_run_id: str
    ) -> WorkflowExecutionDescription | None:
        """The workflow of that id, begun with that run; None when it runs no more."""
        try:
            described = await asyncio.wait_for(client.get_workflow_handle(workflow_id).describe(), _CALL_SECONDS)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise
        if described.status in _ENDED:
            return None
        # the same id may have been started again since; then this owner is an earlier one, and has ended
        first = described.raw_description.workflow_execution_info.first_run_id
        return described if not first_run_id or not first or first == first_run_id else None

    async def _dispossess(self, client: Client, summary: OwnerSummary, found: Found) -> None:
        owner = summary.owner
        if summary.restart is None:
            found.disowned += await self._hand_over.in_files_thread(self._spool.disown, owner)
            log.warning("owner_gone", workflow_id=owner.workflow_id, instances=summary.instances)
            return
        if not await self._hand_over.in_files_thread(self._spool.instances_of, owner):
            return  # it has released everything since it was listed, and ended as it should
        await asyncio.wait_for(
            client.start_workflow(
                _SUBMISSION,
                SubmissionInput.model_validate_json(summary.restart),
                id=owner.workflow_id,
                task_queue=queues.SHARED,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            ),
            _CALL_SECONDS,
        )
        found.restarted += 1
        log.warning("submission_started_again", workflow_id=owner.workflow_id, instances=summary.instances)


def _waits_for_more(described: WorkflowExecutionDescription) -> bool:
    """Whether a ReceiveWorkflow has done all that it was told, and waits for more."""
    at_work = described.raw_description.HasField("pending_workflow_task")
    return not at_work and described.typed_search_attributes.get(attributes.STATE) == attributes.State.RECEIVING.value
