"""The embedded server itself: its state, its settings, its end."""

import asyncio
import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import SearchAttributePair, TypedSearchAttributes

from clara_dicom_adapter.configuration.settings import TemporalSettings
from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal import attributes, client, registration
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.temporal.ports import ReservedPort
from clara_dicom_adapter.temporal.server import ServerOptions, TemporalServer


async def put_to_sleep(where: Client, workflow_id: str, **values: Any) -> None:
    """Start a workflow that no worker will ever take."""
    keys = {key.name: key for key in attributes.ALL}
    pairs: list[SearchAttributePair[Any]] = [SearchAttributePair(keys[name], value) for name, value in values.items()]
    await where.start_workflow(
        "ReceiveWorkflow", id=workflow_id, task_queue=workflow_id, search_attributes=TypedSearchAttributes(pairs)
    )


def test_workflows_are_there_after_kill_9_and_a_restart_on_the_same_ports(
    temporal_executable: Path, tmp_path: Path
) -> None:
    options = ServerOptions(database=tmp_path / "temporal.db", retention=timedelta(days=30))
    server = TemporalServer(temporal_executable, options)

    async def before() -> None:
        await put_to_sleep(await server.ready(), "held", ClaraState=State.HELD.value)

    async def after() -> None:
        connected = await client.connect(TemporalSettings(), server.address)
        assert (await connected.get_workflow_handle("held").describe()).status is WorkflowExecutionStatus.RUNNING
        namespace = await connected.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace="default"))
        assert namespace.config.workflow_execution_retention_ttl.ToTimedelta() == timedelta(days=30)
        assert await registration.missing(connected) == []
        async with httpx.AsyncClient() as browser:
            assert (await browser.get(server.ui_address)).status_code == 200

    try:
        server.start()
        address, pid = server.address, server.process.pid
        asyncio.run(before())
        os.kill(pid, signal.SIGKILL)
        server.process.wait()

        server.start()
        assert server.address == address
        assert server.process.pid != pid
        asyncio.run(server.ready())
        asyncio.run(after())
    finally:
        server.close()


def test_a_port_that_somebody_else_serves_is_refused(temporal_executable: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            TemporalUnavailable, match=f"port {port} of 127.0.0.1 cannot be had: Address already in use"
        ):
            TemporalServer(temporal_executable, ServerOptions(None, port=port))


def test_a_server_that_cannot_start_is_reported_at_once(temporal_executable: Path, tmp_path: Path) -> None:
    (tmp_path / "temporal.db").write_text("not a database, and longer than the header of one would be" * 10)
    server = TemporalServer(temporal_executable, ServerOptions(tmp_path / "temporal.db"))
    try:
        server.start()
        with pytest.raises(TemporalUnavailable, match="ended with status"):
            asyncio.run(server.ready())
    finally:
        server.close()


async def test_registering_twice_adds_nothing(temporal_server: str) -> None:
    connected = await client.connect(TemporalSettings(), temporal_server)
    assert await registration.missing(connected) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (attributes.NEEDS_ATTENTION_QUERY, {"quarantined"}),
        (attributes.WAITING_QUERY, {"waiting"}),
        (attributes.INCOMPLETE_QUERY, {"quarantined"}),
        (attributes.FAILED_QUERY, set[str]()),
        (attributes.received_by("RADIOLOGY'S", "2020-01-01T00:00:00Z"), {"quarantined", "waiting"}),
        (attributes.of_job("job-1"), {"waiting"}),
        (attributes.of_pipeline("chest"), {"waiting"}),
    ],
)
async def test_an_operator_finds_workflows(temporal_server: str, query: str, expected: set[str]) -> None:
    connected = await client.connect(TemporalSettings(), temporal_server)
    run = uuid.uuid4().hex
    await put_to_sleep(
        connected,
        f"{run}-quarantined",
        ClaraAeTitle="RADIOLOGY'S",
        ClaraState=State.QUARANTINED.value,
        ClaraIncomplete=True,
        ClaraInstances=3,
    )
    await put_to_sleep(
        connected,
        f"{run}-waiting",
        ClaraAeTitle="RADIOLOGY'S",
        ClaraState=State.WAITING_FOR_PLATFORM.value,
        ClaraJobId=["job-0", "job-1"],
        ClaraPipeline=["chest"],
    )

    async def found(query: str) -> set[str]:
        mine = f"({query}) AND WorkflowId STARTS_WITH '{run}'"
        return {each.id.removeprefix(f"{run}-") async for each in connected.list_workflows(mine)}

    deadline = time.monotonic() + 60
    while len(await found("ExecutionStatus = 'Running'")) < 2:  # the list is written a moment after the start
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert await found(query) == expected


async def test_a_server_that_is_not_there_is_told_after_the_patience() -> None:
    port = ReservedPort()
    try:
        with pytest.raises(TemporalUnavailable, match=f"127.0.0.1:{port.port} cannot be reached"):
            await client.connect(TemporalSettings(), f"127.0.0.1:{port.port}", patience_seconds=0.3)
    finally:
        port.close()


async def test_a_lazy_client_needs_no_server() -> None:
    assert (await client.connect(TemporalSettings(address="127.0.0.1:1"), lazy=True)).namespace == "default"


async def test_a_missing_tls_file_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    with pytest.raises(TemporalUnavailable, match=r"ca\.pem: No such file"):
        await client.connect(TemporalSettings(address="127.0.0.1:1", tls_ca_file=missing))


def test_a_reserved_port_can_be_listened_on_again_and_again_but_not_be_had_by_chance() -> None:
    port = ReservedPort()
    try:
        for _ in range(2):
            with socket.create_server(("127.0.0.1", port.port)):
                socket.create_connection(("127.0.0.1", port.port)).close()
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port.port))
    finally:
        port.close()


def test_the_server_dies_with_the_process_that_started_it(temporal_executable: Path, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path\n"
        "from clara_dicom_adapter.temporal.server import ServerOptions, TemporalServer\n"
        "server = TemporalServer(Path(sys.argv[1]), ServerOptions(None)); server.start()\n"
        "print(server.process.pid, flush=True); time.sleep(1000)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, temporal_executable], stdout=subprocess.PIPE, text=True)
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        watched = os.pidfd_open(pid)
    finally:
        parent.kill()
        parent.communicate()
    try:
        # the end of a process that is not our child shows at its pidfd
        readable, _, _ = select.select([watched], [], [], 10)
        assert readable
    finally:
        os.close(watched)
