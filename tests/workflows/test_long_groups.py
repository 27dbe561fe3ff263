"""A group that takes longer than one history: its workflow goes on as a new run, and it stays one group.

On a server that suggests a new run after a few events; the others do after some thousands.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.reception_bench import Bench, Handle, begin, changed, own_workflow, receiving, working
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from clara_dicom_adapter.temporal import server
from clara_dicom_adapter.workflows.models import AssociationOutcome, HandOver
from clara_dicom_adapter.workflows.receive import ReceiveWorkflow

BATCHES = 15


@pytest.fixture(scope="module")
def forgetful_server(temporal_executable: Path) -> Iterator[str]:
    """Address of a server with short histories."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "DYNAMIC_CONFIG", (*server.DYNAMIC_CONFIG, "limit.historyCount.suggestContinueAsNew=30"))
        one = server.TemporalServer(temporal_executable, server.ServerOptions(database=None))
        one.start()
    try:
        asyncio.run(one.ready())
        yield one.address
    finally:
        one.close()


@pytest.fixture
async def client(forgetful_server: str) -> Client:
    return await Client.connect(forgetful_server, data_converter=pydantic_data_converter)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


async def deliver(handle: Handle, batch: Callable[[], HandOver]) -> list[HandOver]:
    """One batch after the other, each after the last one was claimed."""
    delivered = []
    for number in range(BATCHES):
        delivered.append(batch())
        await handle.signal(ReceiveWorkflow.hand_over, delivered[-1])
        async with asyncio.timeout(60):
            while (await handle.query(ReceiveWorkflow.status)).instances <= number:
                await asyncio.sleep(0.01)
    return delivered


async def assert_one_group(client: Client, bench: Bench, handle: Handle, instances: int) -> None:
    result = await asyncio.wait_for(handle.result(), 60)
    assert (result.instances, len(result.submissions)) == (instances, 1)
    (owner,) = bench.owners()
    assert (owner.owner.workflow_id, owner.instances) == (result.submissions[0], instances)
    assert await runs(client, handle) > 2


async def runs(client: Client, handle: Handle) -> int:
    """Of how many runs the workflow consists."""
    count, run_id = 0, handle.first_execution_run_id
    while run_id:
        history = await client.get_workflow_handle(handle.id, run_id=run_id).fetch_history()
        last = history.events[-1]
        went_on = last.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW
        count, run_id = count + 1, None
        if went_on:
            run_id = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    return count


async def test_a_window(client: Client, bench: Bench) -> None:
    async with receiving(client, bench, changed(timeout_seconds=6)) as handle:
        folder = bench.association()
        delivered = await deliver(handle, lambda: bench.stored(folder, 1))
        await handle.signal(ReceiveWorkflow.hand_over, delivered[0])  # from an earlier run, once more
        await assert_one_group(client, bench, handle, BATCHES)


async def test_an_association(client: Client, bench: Bench) -> None:
    ae = changed(timeout_seconds=0)
    folder = bench.association()
    async with working(client, bench) as queue:
        handle = await begin(client, queue, own_workflow(folder), bench.start(folder, ae), HandOver())
        await deliver(handle, lambda: HandOver(batches=(bench.batch(folder, 1, ae),)))
        await handle.signal(ReceiveWorkflow.hand_over, bench.over(folder, AssociationOutcome.RELEASED, BATCHES))
        await assert_one_group(client, bench, handle, BATCHES)
