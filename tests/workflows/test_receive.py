"""The ReceiveWorkflow on a real Temporal server, spool and database; what it submits is only noted."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.spooling import batched, facts
from temporalio import workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from clara_dicom_adapter.activities.interceptor import ErrorInterceptor
from clara_dicom_adapter.activities.reception import ReceptionActivities
from clara_dicom_adapter.activities.starting import SubmissionStarter
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.held import HeldGroups
from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.records.receptions import ReceptionRecords
from clara_dicom_adapter.spool import AssociationFolder, OwnerSummary, Spool, SpoolRole
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows.models import (
    AssociationEnd,
    AssociationOutcome,
    HandOver,
    InterruptedPolicy,
    PinnedAeTitle,
    ReceiveInput,
    ReceiveResult,
    SubmissionInput,
    SubmissionResult,
)
from clara_dicom_adapter.workflows.receive import ReceiveWorkflow

Handle = WorkflowHandle[ReceiveWorkflow, ReceiveResult]


@workflow.defn(name="SubmissionWorkflow", sandboxed=False)
class NotedSubmission:
    """Takes a group and leaves it where it is."""

    @workflow.run
    async def run(self, submission: SubmissionInput) -> SubmissionResult:
        return SubmissionResult(jobs=(), instances=submission.instances)


class Bench:
    """A spool, and what a receiver tells of it."""

    def __init__(self, root: Path) -> None:
        self.spool = Spool.open(root / "spool", SpoolRole.WORKER)
        self.engine = open_engine("", DataFolder(root))
        self.workflow_id = f"receive-CLARA-{uuid.uuid4().hex[:16]}"

    def activities(self, client: Client) -> ReceptionActivities:
        start = SubmissionStarter(client)
        return ReceptionActivities(self.spool, ReceptionRecords(self.engine), HeldGroups(self.engine), start)

    def association(self) -> AssociationFolder:
        return self.spool.begin_association(facts())

    def stored(self, folder: AssociationFolder, instances: int) -> HandOver:
        return HandOver(batches=(batched(self.spool, folder, instances, self.workflow_id),))

    def over(self, folder: AssociationFolder, outcome: AssociationOutcome, instances: int) -> HandOver:
        end = AssociationEnd(
            association_id=folder.association_id,
            node_id=self.spool.node_id,
            sender_key="sender",
            outcome=outcome,
            instances=instances,
        )
        return HandOver(ended=end)

    def owners(self) -> list[OwnerSummary]:
        return self.spool.owners()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.engine.dispose()
    bench.spool.close()


@pytest.fixture
async def client(temporal_server: str) -> Client:
    return await Client.connect(temporal_server, data_converter=pydantic_data_converter)


@asynccontextmanager
async def receiving(client: Client, bench: Bench, ae: PinnedAeTitle) -> AsyncIterator[Handle]:
    """Run the workflow of a window with a worker of its own; it must be told something at once."""
    one = bench.activities(client)
    activities: list[Callable[..., Any]] = [
        one.claim,
        one.outstanding,
        one.merge_held,
        one.take_over,
        one.hold,
        one.end_hold,
    ]
    activities += [one.transfer, one.release, one.note]
    queue = f"test-{uuid.uuid4().hex}"
    with ThreadPoolExecutor(8) as threads:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[ReceiveWorkflow, NotedSubmission],
            activities=activities,
            activity_executor=threads,
            interceptors=[ErrorInterceptor()],
        ):
            start = ReceiveInput(ae=ae, calling_ae_title="CT1", association_id=None)
            handle = await client.start_workflow(
                ReceiveWorkflow.run,
                start,
                id=bench.workflow_id,
                task_queue=queue,
                start_signal="hand_over",
                start_signal_args=[HandOver()],
            )
            try:
                yield handle
            finally:
                if (await handle.describe()).status == 1:
                    await handle.terminate()


def window(seconds: float, **changed: object) -> PinnedAeTitle:
    return facts().ae.model_copy(update={"timeout_seconds": seconds, **changed})


async def until(handle: Handle, state: State) -> None:
    async with asyncio.timeout(30):
        while (await handle.query(ReceiveWorkflow.status)).state != state.value:
            await asyncio.sleep(0.05)


async def test_a_quarantined_window_reopens_for_a_sender_that_comes_back(client: Client, bench: Bench) -> None:
    """What is sent again must not wait behind the quarantine for as long as a person thinks about it."""
    async with receiving(client, bench, window(1, interrupted=InterruptedPolicy.QUARANTINE)) as handle:
        broken, again = bench.association(), bench.association()
        await handle.signal(ReceiveWorkflow.hand_over, bench.stored(broken, 2))
        await handle.signal(ReceiveWorkflow.hand_over, bench.over(broken, AssociationOutcome.ABORTED, 2))
        await until(handle, State.QUARANTINED)
        (row,) = Listing(bench.engine).page(Subject.RECEPTION, Filter({})).items
        assert "broke off" in row["reason"], "the person who looks is told why"
        await handle.signal(ReceiveWorkflow.hand_over, bench.stored(again, 3))
        await handle.signal(ReceiveWorkflow.hand_over, bench.over(again, AssociationOutcome.RELEASED, 3))
        result = await asyncio.wait_for(handle.result(), 30)
    assert (result.instances, len(result.submissions)) == (5, 1)
    (owner,) = bench.owners()
    assert (owner.instances, owner.restart is None) == (5, False)


async def test_a_workflow_that_is_reset_comes_to_the_same_submission(client: Client, bench: Bench) -> None:
    """Restored with an older database of Temporal, it would do the same."""
    async with receiving(client, bench, window(1)) as handle:
        await handle.signal(ReceiveWorkflow.hand_over, bench.stored(bench.association(), 2))
        first = await asyncio.wait_for(handle.result(), 30)
        history = await handle.fetch_history()
        completed, fired = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, EventType.EVENT_TYPE_TIMER_FIRED
        closing = max(each.event_id for each in history.events if each.event_type == fired)
        point = next(
            each.event_id for each in history.events if each.event_type == completed and each.event_id > closing
        )
        await asyncio.sleep(1.1)  # an id that held the time of closing would be another now
        reset = await client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=handle.id),
                reason="test",
                workflow_task_finish_event_id=point,
                request_id=uuid.uuid4().hex,
            )
        )
        again = client.get_workflow_handle(handle.id, run_id=reset.run_id, result_type=ReceiveResult)
        second = await asyncio.wait_for(again.result(), 30)
    assert second.submissions == first.submissions
    (owner,) = bench.owners()
    assert owner.owner.workflow_id == first.submissions[0]
