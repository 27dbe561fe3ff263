"""Finds again what is accepted and on nobody's way: at start, and slowly while running.

How it works: (1) instances on disk that the index does not know are indexed and batched; (2) batches and ends that
Temporal has not accepted are posted; (3) whoever owns instances is looked up in Temporal: an owner that does not run
any more loses them - a submission is started again with the same id and input, everything else is handed over
again; (4) what was released is deleted. Temporal being away delays (2) and (3), never the rest.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import structlog
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from clara_dicom_adapter.errors import AdapterError, SpoolUnusable
from clara_dicom_adapter.receiver.addressing import Addressing
from clara_dicom_adapter.receiver.hand_over import HandOver
from clara_dicom_adapter.spool import AssociationFolder, OwnerSummary, Spool, SpooledInstance, StoredInstance, Target
from clara_dicom_adapter.spool.models import is_association_id
from clara_dicom_adapter.temporal import attributes, queues
from clara_dicom_adapter.workflows.models import AssociationEnd, SubmissionInput

log = structlog.get_logger("clara_dicom_adapter.receiver")

T = TypeVar("T")

_SUBMISSION: Final = "SubmissionWorkflow"
_CALL_SECONDS: Final = 10.0
_INSTANCES_PER_BATCH: Final = 500
_RECLAIM_SECONDS: Final = 5.0
_SOON_SECONDS: Final = 5.0
"""Pause to the next attempt when Temporal could not be asked."""
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


class Recovery:
    """Reconciles and reclaims, in two threads of its own."""

    def __init__(
        self,
        spool: Spool,
        addressing: Addressing,
        hand_over: HandOver,
        interval_seconds: float,
        *,
        closed: Callable[[AssociationFolder], None] = lambda folder: None,
        looked: Callable[[], object] = lambda: None,
    ) -> None:
        """Args:
        closed: Hears of associations that an earlier run left open.
        looked: Called after each reconciliation.
        """
        self._spool = spool
        self._addressing = addressing
        self._hand_over = hand_over
        self._interval_seconds = interval_seconds
        self._closed = closed
        self._looked = looked
        self._stopping = threading.Event()
        self._closing = threading.Lock()
        self.judged = False
        """Whether Temporal could be asked about the owners in the last reconciliation."""
        self._threads = [
            threading.Thread(target=self._reconcile_for_ever, name="reconciler", daemon=True),
            threading.Thread(target=self._reclaim_for_ever, name="reclaimer", daemon=True),
        ]

    def close_abandoned(self) -> None:
        """Associations that were open when an earlier run went down get their outcome: it was our fault."""
        try:
            with self._closing:  # several listeners may die at once, and the reconciler look at the same time
                abandoned = self._spool.end_abandoned()
        except (AdapterError, OSError) as error:  # a full disk must not keep the receiver from telling senders so
            log.warning("outcomes_not_written", error=str(error)[:300])
            return
        for folder in abandoned:
            log.info("association_was_interrupted", association_id=folder.association_id)
            self._closed(folder)

    def start(self) -> None:
        """Reconcile now, then slowly for ever."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop as soon as what is being done is done."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_CALL_SECONDS)

    def reconcile(self) -> Found:
        """Look through everything once."""
        self.close_abandoned()
        found = Found(indexed=self._index_forgotten())
        if not self._stopping.is_set():
            self._hand_over.begin()
        self.judged = self._run(self._judge(found))
        ends = self._pending_ends()
        posted = self._run(self._resume(ends))
        found.batches, found.ends = posted["batches"], posted["ends"]
        if found.anything:
            log.info(
                "reconciled",
                instances=found.indexed,
                batches=found.batches,
                associations=found.ends,
                count=found.disowned + found.restarted,
            )
        return found

    # ---- what is on disk ----

    def _index_forgotten(self) -> int:
        unbatched: dict[str, list[StoredInstance]] = {}
        for one in self._spool.unbatched():
            unbatched.setdefault(one.association_id, []).append(_as_stored(one))
        indexed = 0
        for folder in self._spool.associations():
            if self._stopping.is_set() or self._hand_over.follows(folder.association_id):
                continue  # an association that is followed is indexed by who follows it
            try:
                forgotten = unbatched.get(folder.association_id, []) + self._spool.unindexed(folder)
                for instances in _in_portions(forgotten):
                    self._addressing.make_batches(self._spool, folder, instances)
                    indexed += len(instances)
            except (AdapterError, OSError, ValueError) as error:  # the others are not to wait for this one
                log.warning("not_indexed", association_id=folder.association_id, error=str(error)[:300])
        return indexed

    def _pending_ends(self) -> list[tuple[Target, AssociationEnd]]:
        pending = self._spool.ends_to_hand_over()
        wanted = {one.association_id for one in pending}
        folders = {one.association_id: one for one in self._spool.associations() if one.association_id in wanted}
        ends: list[tuple[Target, AssociationEnd]] = []
        for one in pending:
            folder = folders.get(one.association_id)
            record = folder.outcome if folder is not None else None
            if folder is not None and record is not None:
                end = self._addressing.end(self._spool.node_id, folder, record.outcome, one.instances)
                ends.append((one.target, end))
        return ends

    # ---- what Temporal knows; in the event loop of the hand-over ----

    async def _resume(self, ends: list[tuple[Target, AssociationEnd]]) -> Counter[str]:
        pending = await self._hand_over.in_files_thread(self._spool.batches_to_hand_over)
        return self._hand_over.resume(pending, ends)

    async def _judge(self, found: Found) -> bool:
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

    # ---- for ever ----

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._hand_over.submit(work).result()

    def _reconcile_for_ever(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            judged = False
            try:
                self.reconcile()
                judged = self.judged
                self._looked()
            except (AdapterError, OSError) as error:
                log.warning("not_reconciled", error=str(error)[:300])
            except Exception:
                log.exception("not_reconciled")
            pause = self._interval_seconds if judged else min(_SOON_SECONDS, self._interval_seconds)

    def _reclaim_for_ever(self) -> None:
        while not self._stopping.wait(_RECLAIM_SECONDS):
            try:
                totals = self._spool.reclaim()
            except (AdapterError, OSError) as error:
                log.warning("not_reclaimed", error=str(error)[:300])
                continue
            except Exception:
                log.exception("not_reclaimed")
                continue
            if totals.instances or totals.parts:
                log.info("reclaimed", instances=totals.instances, bytes=totals.bytes, count=totals.parts)


def _waits_for_more(described: WorkflowExecutionDescription) -> bool:
    """Whether a ReceiveWorkflow has done all that it was told, and waits for more."""
    at_work = described.raw_description.HasField("pending_workflow_task")
    return not at_work and described.typed_search_attributes.get(attributes.STATE) == attributes.State.RECEIVING.value


def _as_stored(one: SpooledInstance) -> StoredInstance:
    return StoredInstance(
        association_id=one.association_id,
        sequence=one.sequence,
        received_ns=one.received_ns,
        bytes=one.bytes,
        folder=one.path.parent,
        name=one.path.name,
        sop_class_uid=one.sop_class_uid,
        sop_instance_uid=one.sop_instance_uid,
        transfer_syntax_uid=one.transfer_syntax_uid,
    )


def _in_portions(instances: Sequence[StoredInstance]) -> Iterator[Sequence[StoredInstance]]:
    for start in range(0, len(instances), _INSTANCES_PER_BATCH):
        yield instances[start : start + _INSTANCES_PER_BATCH]
