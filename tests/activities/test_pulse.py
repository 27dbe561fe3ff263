"""Signs of life of short activities, on a real Temporal server."""

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from clara_dicom_adapter.activities.pulse import PulseInterceptor


@workflow.defn
class Waits:
    """Runs an activity that has to show that it lives."""

    @workflow.run
    async def run(self, name: str) -> str:
        return str(
            await workflow.execute_activity(
                name, start_to_close_timeout=timedelta(minutes=5), heartbeat_timeout=timedelta(seconds=2)
            )
        )


class Activities:
    """They wait until they are let go."""

    def __init__(self) -> None:
        self.go = threading.Event()

    @activity.defn
    def silent(self) -> str:
        self.go.wait(60)
        return f"attempt {activity.info().attempt}"

    @activity.defn
    async def silent_coroutine(self) -> str:
        await asyncio.to_thread(self.go.wait, 60)
        return f"attempt {activity.info().attempt}"

    @activity.defn
    def telling(self) -> str:
        while not self.go.wait(0.3):
            activity.heartbeat("how far it is")
        return f"attempt {activity.info().attempt}"


Handle = WorkflowHandle[Waits, str]


@asynccontextmanager
async def running(address: str, name: str) -> AsyncIterator[tuple[Handle, Activities]]:
    client = await Client.connect(address)
    queue = f"pulse-{uuid.uuid4()}"
    activities = Activities()
    parts: dict[str, Any] = {"workflows": [Waits], "workflow_runner": UnsandboxedWorkflowRunner()}
    waiting = [activities.silent, activities.silent_coroutine, activities.telling]
    with ThreadPoolExecutor(2) as threads:
        async with Worker(
            client,
            task_queue=queue,
            activities=waiting,
            activity_executor=threads,
            interceptors=[PulseInterceptor()],
            **parts,
        ):
            try:
                yield await client.start_workflow(Waits.run, name, id=queue, task_queue=queue), activities
            finally:
                activities.go.set()


async def beats(handle: Handle, count: int, wanted: Callable[[PendingActivityInfo], bool]) -> None:
    """Wait until Temporal has had so many heartbeats."""
    times: set[tuple[int, int]] = set()
    async with asyncio.timeout(60):
        while len(times) < count:
            for pending in (await handle.describe()).raw_description.pending_activities:
                at = pending.last_heartbeat_time
                if at.seconds and wanted(pending):
                    times.add((at.seconds, at.nanos))
            await asyncio.sleep(0.05)


async def test_an_activity_that_says_nothing_is_told_to_be_alive(temporal_server: str) -> None:
    for name in ("silent", "silent_coroutine"):
        async with running(temporal_server, name) as (handle, activities):
            await beats(handle, 2, lambda pending: not pending.HasField("heartbeat_details"))
            activities.go.set()
            assert await handle.result() == "attempt 1"


async def test_what_an_activity_tells_itself_stays(temporal_server: str) -> None:
    async with running(temporal_server, "telling") as (handle, activities):
        await beats(handle, 2, lambda pending: pending.HasField("heartbeat_details"))
        activities.go.set()
        assert await handle.result() == "attempt 1"
