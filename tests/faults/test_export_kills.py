"""kill -9 to each that takes part in an export of 500 objects to two destinations, at random points.

After each kill what the destinations hold, what the Results Service was told, and what workflow and records say agree,
and no object has come twice that need not. ``FAULTS=100`` kills 100 times; ``FAULTS_SEED`` repeats a run.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from support import exports
from support.dicom_objects import make_objects
from support.export_parts import ASSOCIATIONS, DESTINATIONS, PARTS, ExportParts, export_parts
from support.site import wait_until
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.listing import Listing, Subject
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows import names
from clara_dicom_adapter.workflows.export import ExportWorkflow
from clara_dicom_adapter.workflows.models import ExportResult, ExportStatus, PollerInput
from clara_dicom_adapter.workflows.results_poller import ResultsPollerWorkflow

AGENT = "ClaraSCU"
OBJECTS = 500
KILLS_OF_EACH = max(1, round(int(os.environ.get("FAULTS") or 0) / len(PARTS)))
SEED = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120 + 90 * KILLS_OF_EACH)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, temporal_executable: Path) -> Iterator[ExportParts]:
    root = tmp_path_factory.mktemp("parts")
    files = make_objects(root / "objects", OBJECTS, size=20_000)
    with export_parts(root, temporal_executable, files) as running:
        asyncio.run(poll(running))
        yield running


async def poll(parts: ExportParts) -> None:
    client = await exports.connect(parts.site.temporal)
    await client.start_workflow(
        ResultsPollerWorkflow.run, PollerInput(agent=AGENT), id="poller", task_queue=parts.site.queue
    )


@pytest.fixture(scope="module")
def payload(parts: ExportParts) -> str:
    return parts.upload()


async def ended(client: Client, task_id: str) -> tuple[ExportResult, ExportStatus]:
    """What the workflow says, as soon as it can be asked."""
    handle: WorkflowHandle[ExportWorkflow, ExportResult] = client.get_workflow_handle(
        names.export(AGENT, task_id), result_type=ExportResult
    )
    async with asyncio.timeout(120):
        while True:
            try:
                return await handle.result(), await handle.query(ExportWorkflow.status)
            except RPCError:  # it has not begun, or Temporal is being started again
                await asyncio.sleep(0.2)


@pytest.mark.parametrize("part", PARTS)
async def test_an_export_survives_the_end_of(part: str, parts: ExportParts, payload: str) -> None:
    client = await exports.connect(parts.site.temporal)
    chance = random.Random(f"{SEED} {part}")
    for number in range(KILLS_OF_EACH):
        victim = chance.choice(DESTINATIONS) if part == "destination" else part
        # the platform has had its part when everything is downloaded
        point = chance.randint(1, OBJECTS if part == "platform" else 3 * OBJECTS)
        away = 20.0 if number % 5 == 4 else chance.uniform(0, 1.5)  # longer than a heartbeat may take, or briefly
        task_id = parts.offer(payload)
        await asyncio.to_thread(wait_until, "the point is reached", partial(_reached, parts, point))
        parts.parts[victim].kill()
        reached = parts.moved()
        await asyncio.sleep(away)
        parts.parts[victim].start()
        await asyncio.to_thread(parts.parts[victim].await_ready)
        result, status = await ended(client, task_id)
        twice = {name: parts.held(name).total() - OBJECTS for name in DESTINATIONS}
        print(f"FAULTS_SEED={SEED} {part} {number}: {victim} at {reached} ({point}), away {away:.1f} s, twice {twice}")  # noqa: T201 - shown by pytest when the test fails
        agree(parts, task_id, result, status)
        for name in DESTINATIONS:
            may_come_twice = ASSOCIATIONS if victim in {"worker", name} else 0
            assert parts.held(name).total() - OBJECTS <= may_come_twice


def _reached(parts: ExportParts, point: int) -> bool:
    return parts.moved() >= point


def agree(parts: ExportParts, task_id: str, result: ExportResult, status: ExportStatus) -> None:
    """Everybody says that both destinations have everything, and they have."""
    everything = set(range(OBJECTS))
    assert {name: set(parts.held(name)) for name in DESTINATIONS} == dict.fromkeys(DESTINATIONS, everything)
    told = parts.told(task_id)
    assert (told["state"], told["retries"]) == ("Succeeded", 0)
    assert (result.success, result.sent, result.failed) == (True, 2 * OBJECTS, 0)
    assert status.state == State.EXPORTED
    assert {each.destination: each.sent for each in status.destinations} == dict.fromkeys(DESTINATIONS, OBJECTS)
    engine = open_engine("", DataFolder(parts.site.root))
    export = Listing(engine).get(Subject.EXPORT, task_id)
    engine.dispose()
    assert {each["name"]: (each["delivered"], each["failed"]) for each in export["destinations"]} == dict.fromkeys(
        DESTINATIONS, (OBJECTS, 0)
    )
    assert (export["state"], export["success"], export["accepted"]) == (State.EXPORTED, True, True)
