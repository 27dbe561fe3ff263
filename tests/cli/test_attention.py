"""``attention``, ``retry`` and ``discard`` as processes, against workflows on a real Temporal server of their own.

The workflow here stands for the real ones, which their own tests prove: it shows the same search attributes and takes
the same updates.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from clara_dicom_adapter.temporal import attributes
from clara_dicom_adapter.temporal.server import ServerOptions, TemporalServer
from clara_dicom_adapter.workflows.models import Answer, DiscardInput, RetryInput

QUEUE = "parked"


@workflow.defn(name="SubmissionWorkflow")
class Parked:
    """Waits for a person; takes one answer for the item ``mip`` or for everything."""

    def __init__(self) -> None:
        self._answer = ""

    @workflow.run
    async def run(self) -> str:
        workflow.upsert_search_attributes(
            [
                attributes.STATE.value_set(attributes.State.NEEDS_ATTENTION.value),
                attributes.AE_TITLE.value_set("MIP"),
                attributes.INSTANCES.value_set(7),
            ]
        )
        await workflow.wait_condition(lambda: bool(self._answer))
        return self._answer

    @workflow.update
    def retry(self, request: RetryInput) -> Answer:
        self._answer = f"retry {request.item}"
        return Answer(changed=1, message="tried again")

    @retry.validator
    def _may_retry(self, request: RetryInput) -> None:
        if request.item not in (None, "mip"):
            raise ApplicationError(f"{request.item} does not wait")

    @workflow.update
    def discard(self, request: DiscardInput) -> Answer:
        self._answer = f"discard {request.item} {request.reason}"
        return Answer(changed=1, message="given up")


@pytest.fixture(scope="module")
def server(temporal_executable: Path) -> Iterator[TemporalServer]:
    server = TemporalServer(temporal_executable, ServerOptions(database=None))
    server.start()
    try:
        asyncio.run(server.ready())
        yield server
    finally:
        server.close()


@asynccontextmanager
async def parked(server: TemporalServer, *ids: str) -> AsyncIterator[list[WorkflowHandle[Any, str]]]:
    """Workflows that wait, and are listed as waiting."""
    client: Client = await server.ready()
    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue=QUEUE, workflows=[Parked], workflow_runner=runner):
        handles = [await client.start_workflow(Parked.run, id=one, task_queue=QUEUE) for one in ids]
        async with asyncio.timeout(60):
            while (await client.count_workflows(attributes.NEEDS_ATTENTION_QUERY)).count < len(ids):
                await asyncio.sleep(0.05)
        yield handles


async def clara(tmp_path: Path, server: TemporalServer, *arguments: str) -> tuple[int, str, str]:
    config = tmp_path / "appsettings.json"
    temporal = {"address": server.address, "webUiAddress": server.ui_address}
    config.write_text(json.dumps({"DicomAdapter": {"services": {"temporal": temporal}}}))
    (tmp_path / "data").mkdir(exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "clara_dicom_adapter.cli", "dicom", *arguments),
        *("--data-dir", str(tmp_path / "data"), "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_what_waits_is_shown_and_answered_one_by_one_and_all(server: TemporalServer, tmp_path: Path) -> None:
    async with parked(server, "submission-1", "submission-2", "submission-3") as (first, second, third):
        status, out, _ = await clara(tmp_path, server, "attention", "--json")
        assert status == 0
        waiting = json.loads(out)
        assert [each["id"] for each in waiting] == ["submission-1", "submission-2", "submission-3"]
        assert {(each["kind"], each["ae_title"], each["instances"]) for each in waiting} == {("submission", "MIP", 7)}
        assert waiting[0]["url"] == f"{server.ui_address}/namespaces/default/workflows/submission-1"

        status, _, err = await clara(tmp_path, server, "retry", "submission-1", "--item", "other")
        assert (status, err) == (1, "clara: submission-1: other does not wait\n")
        status, out, _ = await clara(tmp_path, server, "retry", "submission-1", "--item", "mip")
        assert (status, out) == (0, "submission-1: tried again\n")
        assert await first.result() == "retry mip"

        status, out, _ = await clara(tmp_path, server, "discard", "--all", "--reason", "a test", "--json")
        assert status == 0
        assert {each["workflow_id"]: each["changed"] for each in json.loads(out)} == {
            "submission-2": 1,
            "submission-3": 1,
        }
        assert {await second.result(), await third.result()} == {"discard None a test"}

        status, out, err = await clara(tmp_path, server, "retry", "submission-1")
        assert status == 1
        assert "has ended" in err


async def test_an_id_or_all_but_not_both(server: TemporalServer, tmp_path: Path) -> None:
    for words in (("retry",), ("retry", "x", "--all")):
        status, _, err = await clara(tmp_path, server, *words)
        assert status == 2
        assert "--all" in err
