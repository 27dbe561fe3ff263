"""A sender that comes back is merged with what it left behind, whichever of its associations is handed over first.

At ``timeout`` 0: each association has a ReceiveWorkflow of its own. The tests decide when each of them hears of its
instances; that a workflow waits is seen by its looking again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from support.reception_bench import Bench, Handle, begin, changed, own_workflow, until, working
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from clara_dicom_adapter.spool import AssociationFolder
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows.models import (
    AssociationOutcome,
    BatchRef,
    HandOver,
    InterruptedPolicy,
    PinnedAeTitle,
    ReceiveResult,
)


class Told:
    """An association of the bench, its batch in the spool, and its workflow once it is told."""

    def __init__(self, bench: Bench, folder: AssociationFolder, instances: int, ae: PinnedAeTitle) -> None:
        self.bench, self.folder, self.instances, self.ae = bench, folder, instances, ae
        self.batch: BatchRef = bench.batch(folder, instances, ae)

    @property
    def workflow_id(self) -> str:
        return own_workflow(self.folder)

    @property
    def looks(self) -> int:
        """How often its workflow has looked for what its sender left behind."""
        return self.bench.held.looks[self.workflow_id]

    def end(self, outcome: AssociationOutcome) -> None:
        self.folder.end(outcome)

    async def tell(self, client: Client, queue: str) -> Handle:
        """Hand it over, with its end."""
        record = self.folder.outcome
        assert record is not None
        end = self.bench.over(self.folder, record.outcome, self.instances).ended
        start = self.bench.start(self.folder, self.ae)
        return await begin(client, queue, self.workflow_id, start, HandOver(batches=(self.batch,), ended=end))

    async def looked(self, times: int) -> None:
        async with asyncio.timeout(60):
            while self.looks < times:
                await asyncio.sleep(0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
async def client(temporal_server: str) -> Client:
    return await Client.connect(temporal_server, data_converter=pydantic_data_converter)


@pytest.fixture
async def queue(client: Client, bench: Bench) -> AsyncIterator[str]:
    async with working(client, bench) as queue:
        yield queue


async def result_of(handle: Handle) -> ReceiveResult:
    return await asyncio.wait_for(handle.result(), 30)


def in_submissions(bench: Bench) -> list[int]:
    """How many instances each owner has; all of them are submissions."""
    assert all(each.restart is not None for each in bench.owners())
    return [each.instances for each in bench.owners()]


@pytest.mark.parametrize(
    "outcome", [AssociationOutcome.ADAPTER_STOPPED, AssociationOutcome.CONNECTION_LOST, AssociationOutcome.ABORTED]
)
async def test_the_later_association_is_handed_over_first(
    client: Client, queue: str, bench: Bench, outcome: AssociationOutcome
) -> None:
    folders = bench.associations(2)
    broken, again = (Told(bench, folder, 3, changed()) for folder in folders)
    broken.end(outcome)
    again.end(AssociationOutcome.RELEASED)
    later = await again.tell(client, queue)
    await again.looked(3)
    earlier = await broken.tell(client, queue)
    assert (await result_of(later)).instances == 6
    assert (await result_of(earlier)).outcome == State.MERGED.value
    assert in_submissions(bench) == [6]


async def test_who_had_ended_before_the_broken_one_began_does_not_take_it_from_who_comes_back(
    client: Client, queue: str, bench: Bench
) -> None:
    """All three are handed over late, and the broken one is held when the first of them looks around."""
    before = Told(bench, bench.associations(1)[0], 2, changed())
    before.end(AssociationOutcome.RELEASED)
    ended_at = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 == ended_at:  # ids tell milliseconds apart
        await asyncio.sleep(0.001)
    folders = bench.associations(2)
    broken, again = (Told(bench, folder, 3, changed()) for folder in folders)
    broken.end(AssociationOutcome.ADAPTER_STOPPED)
    again.end(AssociationOutcome.RELEASED)
    earlier = await broken.tell(client, queue)
    await until(earlier, State.HELD)
    unconcerned = await before.tell(client, queue)
    assert (await result_of(unconcerned)).instances == 2
    later = await again.tell(client, queue)
    assert (await result_of(later)).instances == 6
    assert (await result_of(earlier)).outcome == State.MERGED.value
    assert sorted(in_submissions(bench)) == [2, 6]


async def test_both_are_handed_over_at_once(client: Client, queue: str, bench: Bench) -> None:
    folders = bench.associations(2)
    broken, again = (Told(bench, folder, 3, changed()) for folder in folders)
    broken.end(AssociationOutcome.ADAPTER_STOPPED)
    again.end(AssociationOutcome.RELEASED)
    handles = await asyncio.gather(broken.tell(client, queue), again.tell(client, queue))
    assert [(await result_of(handle)).outcome for handle in handles] == [State.MERGED.value, State.SUBMITTED.value]
    assert in_submissions(bench) == [6]


async def test_a_sender_that_breaks_off_twice_is_merged_from_the_last_to_the_first(
    client: Client, queue: str, bench: Bench
) -> None:
    """Each waits for those before it only: none of them waits for ever."""
    folders = bench.associations(3)
    first, second, third = (Told(bench, folder, 2, changed()) for folder in folders)
    first.end(AssociationOutcome.CONNECTION_LOST)
    second.end(AssociationOutcome.ADAPTER_STOPPED)
    third.end(AssociationOutcome.RELEASED)
    handles: list[Handle] = []
    for one in (third, second):
        handles.append(await one.tell(client, queue))
        await one.looked(2)
    handles.append(await first.tell(client, queue))
    results = [await result_of(handle) for handle in handles]
    assert [each.instances for each in results if each.submissions] == [6]
    assert in_submissions(bench) == [6]


async def test_an_open_association_whose_last_instance_came_again_is_awaited(
    client: Client, queue: str, bench: Bench
) -> None:
    """Its sender has given it up, and only its receiver does not know."""
    folders = bench.associations(2)
    hung, again = (Told(bench, folder, 3, changed()) for folder in folders)
    again.end(AssociationOutcome.RELEASED)
    later = await again.tell(client, queue)
    await again.looked(2)
    hung.end(AssociationOutcome.CONNECTION_LOST)
    await hung.tell(client, queue)
    assert (await result_of(later)).instances == 6


async def test_an_open_association_that_goes_on_is_not_awaited(client: Client, queue: str, bench: Bench) -> None:
    """Modalities send one study over several associations side by side."""
    beside, own = bench.associations(2)
    Told(bench, beside, 3, changed())
    released = Told(bench, own, 2, changed())
    released.end(AssociationOutcome.RELEASED)
    result = await result_of(await released.tell(client, queue))
    assert (result.instances, released.looks) == (2, 1)


async def test_what_nobody_hands_over_is_awaited_for_as_long_as_a_hold(
    client: Client, queue: str, bench: Bench
) -> None:
    folders = bench.associations(2)
    broken, again = (Told(bench, folder, 3, changed(interrupted_hold_seconds=2)) for folder in folders)
    broken.end(AssociationOutcome.ADAPTER_STOPPED)
    again.end(AssociationOutcome.RELEASED)
    result = await result_of(await again.tell(client, queue))
    assert (result.instances, again.looks > 1) == (3, True)


async def test_a_hold_does_not_end_while_its_sender_is_in_the_spool(client: Client, queue: str, bench: Bench) -> None:
    """Back in time, but handed over late."""
    ae = changed(interrupted_hold_seconds=3, interrupted=InterruptedPolicy.SUBMIT)
    folders = bench.associations(2)
    broken, again = (Told(bench, folder, 3, ae) for folder in folders)
    broken.end(AssociationOutcome.CONNECTION_LOST)
    again.end(AssociationOutcome.RELEASED)
    earlier = await broken.tell(client, queue)
    await until(earlier, State.HELD)
    async with asyncio.timeout(60):
        while not bench.asked:
            await asyncio.sleep(0.02)
    later = await again.tell(client, queue)
    assert (await result_of(later)).instances == 6
    assert (await result_of(earlier)).outcome == State.MERGED.value
    assert in_submissions(bench) == [6]


async def test_the_same_study_of_a_sender_that_released_stays_apart(client: Client, queue: str, bench: Bench) -> None:
    folders = bench.associations(2)
    first, second = (Told(bench, folder, 3, changed()) for folder in folders)
    for one in (first, second):
        one.end(AssociationOutcome.RELEASED)
    assert (await result_of(await second.tell(client, queue))).instances == 3
    assert (await result_of(await first.tell(client, queue))).instances == 3
    assert in_submissions(bench) == [3, 3]
