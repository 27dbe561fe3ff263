"""The ReceiveWorkflow on a real Temporal server, spool and database; what it submits is only noted."""

import asyncio
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.reception_bench import Bench, changed, receiving, until
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows.models import AssociationOutcome, InterruptedPolicy, PinnedAeTitle, ReceiveResult
from clara_dicom_adapter.workflows.receive import ReceiveWorkflow


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
async def client(temporal_server: str) -> Client:
    return await Client.connect(temporal_server, data_converter=pydantic_data_converter)


def window(seconds: float, **settings: object) -> PinnedAeTitle:
    return changed(timeout_seconds=seconds, **settings)


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


async def test_its_page_shows_how_far_a_group_has_come_without_an_event_for_each_batch(
    client: Client, bench: Bench
) -> None:
    async with receiving(client, bench, window(300)) as handle:
        folder = bench.association()

        async def shown() -> str:
            told = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
            return str(told.current_details)

        for so_far in (2, 5, 9):
            await handle.signal(ReceiveWorkflow.hand_over, bench.stored(folder, so_far - bench.spool.usage().instances))
            async with asyncio.timeout(30):
                while not (seen := await shown()).startswith(f"{so_far} instances, "):
                    await asyncio.sleep(0.02)
            assert re.fullmatch(r"\d instances, \d\.\d MB, at \d\d:\d\d:\d\d UTC", seen)
        history = await handle.fetch_history()
    upserts = EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES
    assert sum(event.event_type == upserts for event in history.events) == 1


@pytest.mark.parametrize("at", ["the first task", "closing"])
async def test_a_workflow_that_is_reset_comes_to_the_same_submission(client: Client, bench: Bench, at: str) -> None:
    """Restored with an older database of Temporal, or when its worker dies within that task, it would do the same."""
    async with receiving(client, bench, window(1)) as handle:
        await handle.signal(ReceiveWorkflow.hand_over, bench.stored(bench.association(), 2))
        first = await asyncio.wait_for(handle.result(), 30)
        history = await handle.fetch_history()
        completed, fired = EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED, EventType.EVENT_TYPE_TIMER_FIRED
        closing = max(each.event_id for each in history.events if each.event_type == fired) if at == "closing" else 0
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
