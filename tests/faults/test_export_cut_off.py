"""A worker that Temporal is out of reach for, in the middle of sending, for longer than a heartbeat may take.

Temporal gives the attempt up and asks for another one, while the first still sends. Nothing may come of that: no object
comes twice, and the task is reported once.
"""

import asyncio
import threading
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pynetdicom.events import Event
from support import exports
from support.dicom_objects import make_objects
from support.dicom_peers import pynetdicom_scp
from support.export_parts import Temporal
from support.exports import Site, worker
from support.results_service import FakeResultsService
from support.severable import Line
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowHandle

from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.listing import Listing, Subject
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows import names, policies
from clara_dicom_adapter.workflows.export import ExportWorkflow
from clara_dicom_adapter.workflows.models import ExportResult, PollerInput
from clara_dicom_adapter.workflows.results_poller import ResultsPollerWorkflow

AGENT = "ClaraSCU"
OBJECTS = 80
CUT_AT, HELD_AT = 20, 50
"""Objects: while the answer to one is outstanding the worker is cut off; that to the other comes when it is back."""
HEARTBEAT = timedelta(seconds=5)

Handle = WorkflowHandle[ExportWorkflow, ExportResult]

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]


@pytest.fixture(scope="module")
def temporal(tmp_path_factory: pytest.TempPathFactory, temporal_executable: Path) -> Iterator[Temporal]:
    server = Temporal(temporal_executable, tmp_path_factory.mktemp("temporal") / "temporal.db")
    try:
        server.start()
        server.await_ready()
        yield server
    finally:
        server.close()


class Destination:
    """Answers, but for two objects that are held back until the test says so."""

    def __init__(self) -> None:
        self.reached = {number: threading.Event() for number in (CUT_AT, HELD_AT)}
        self.may_go_on = {number: threading.Event() for number in (CUT_AT, HELD_AT)}

    def answer(self, _event: Event, number: int) -> int:
        if number in self.reached:
            self.reached[number].set()
            assert self.may_go_on[number].wait(60)
        return 0x0000

    async def await_object(self, number: int) -> None:
        assert await asyncio.to_thread(self.reached[number].wait, 60)


@asynccontextmanager
async def polling(site: Site, client: Client) -> AsyncIterator[None]:
    poller = await client.start_workflow(
        ResultsPollerWorkflow.run, PollerInput(agent=AGENT), id=f"poller-{uuid.uuid4()}", task_queue=site.queue
    )
    try:
        yield
    finally:
        await poller.terminate()


async def second_attempt(handle: Handle, state: "PendingActivityState.ValueType") -> None:
    """Wait until Temporal has a second attempt at sending, in this state; it stays in it until the test goes on."""
    async with asyncio.timeout(60):
        while True:
            pending = (await handle.describe()).raw_description.pending_activities
            if any(
                each.activity_type.name == "send_export" and each.attempt == 2 and each.state == state
                for each in pending
            ):
                return
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("killed", [False, True], ids=["cut off from it", "killed and started again"])
async def test_temporal_is_out_of_reach_for_longer_than_a_heartbeat_may_take(
    killed: bool, temporal: Temporal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it is, the worker sends on; what it has sent meanwhile is not sent again."""
    monkeypatch.setitem(policies.SEND, "heartbeat_timeout", HEARTBEAT)
    files = make_objects(tmp_path / "objects", OBJECTS)
    client = await exports.connect(temporal.address)
    host, _, port = temporal.address.rpartition(":")
    task_id, node, pacs = str(uuid.uuid4()), uuid.uuid4().hex[:12], Destination()
    handle: Handle = client.get_workflow_handle(names.export(AGENT, task_id), result_type=ExportResult)
    with FakeResultsService() as service, pynetdicom_scp(files, answer=pacs.answer) as (peer, got):
        async with Line(host, int(port)).open() as line:
            patient = {"responseTimeoutSeconds": 60}
            site = Site(tmp_path, line.address, service.url, node, scu=patient)
            site.set_destinations(2, PACS=peer)
            service.add(task_id, site.add_payload("p", files), '"PACS"')
            async with polling(site, client), worker(site, await exports.connect(line.address), sandboxed=False):
                await pacs.await_object(CUT_AT)
                line.cut()
                if killed:
                    temporal.kill()
                pacs.may_go_on[CUT_AT].set()
                await pacs.await_object(HELD_AT)  # the worker has sent on
                if killed:
                    temporal.start()
                    await asyncio.to_thread(temporal.await_ready)
                await second_attempt(handle, PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED)
                line.mend()
                await second_attempt(handle, PendingActivityState.PENDING_ACTIVITY_STATE_STARTED)
                pacs.may_go_on[HELD_AT].set()
                result = await handle.result()
                status = await handle.query(ExportWorkflow.status)
    assert Counter(got.order) == Counter(read_meta(path).sop_instance_uid for path in files)
    assert service.reports == [(task_id, "success", None)]
    assert (result.success, result.sent, result.failed) == (True, OBJECTS, 0)
    assert (status.state, status.reported, status.message) == (State.EXPORTED, True, "")
    assert [(each.destination, each.sent, each.failed) for each in status.destinations] == [("PACS", OBJECTS, 0)]
    engine = open_engine("", DataFolder(site.root))
    export = Listing(engine).get(Subject.EXPORT, task_id)
    engine.dispose()
    assert (export["state"], export["success"], export["accepted"]) == (State.EXPORTED, True, True)
    assert [(each["delivered"], each["failed"]) for each in export["destinations"]] == [(OBJECTS, 0)]
