"""Jobs of the embedded platform on a real Temporal server: service, worker and workflow as the process has them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from machine import alive
from support.platform import COPY
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.worker import Worker

from clara_dicom_adapter.activities.operators import HEARTBEAT_THROTTLE, PlatformJobActivities
from clara_dicom_adapter.clara.embedded.service import PlatformService
from clara_dicom_adapter.clara.embedded.starter import TemporalJobStarter, workflow_id
from clara_dicom_adapter.clara.model import JobPriority, JobState, JobStatus, OperatorStatus, PlatformJob
from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.clara.results import ResultsServiceClient
from clara_dicom_adapter.configuration.settings import TemporalSettings
from clara_dicom_adapter.temporal import attributes
from clara_dicom_adapter.temporal.client import connect
from clara_dicom_adapter.workflows.models import PlatformJobInput, PlatformJobResult
from clara_dicom_adapter.workflows.platform_job import PlatformJobWorkflow


@dataclass
class Platform:
    """A running platform process, in this one."""

    service: PlatformService
    pipelines: Path
    client: PlatformClient
    temporal: Client
    queue: str

    async def started_job(self, definition: str, upload: Path | None = None) -> str:
        """A started job of a pipeline with this definition (without its name)."""
        name = f"p{len(list(self.pipelines.iterdir()))}"
        (self.pipelines / f"{name}.yaml").write_text(f"name: {name}\n{definition}")

        def submit() -> str:
            job_id, payload_id = self.client.create_job(
                self.client.resolve_pipeline(name), "j", JobPriority.NORMAL, {"Source": "x"}
            )
            if upload:
                self.client.upload(payload_id, "dcm/a.dcm", upload)
            self.client.start_job(job_id)
            return job_id

        return await asyncio.to_thread(submit)

    async def job(self, job_id: str, good: Callable[[PlatformJob], bool], seconds: float = 60) -> PlatformJob:
        deadline = time.monotonic() + seconds
        while not good(job := await asyncio.to_thread(self.client.job_status, job_id)):
            assert time.monotonic() < deadline, job
            await asyncio.sleep(0.05)
        return job

    async def ended(self, job_id: str) -> PlatformJob:
        return await self.job(job_id, lambda job: job.state is JobState.STOPPED)

    def handle(self, job_id: str) -> WorkflowHandle[PlatformJobWorkflow, PlatformJobResult]:
        return self.temporal.get_workflow_handle_for(PlatformJobWorkflow.run, workflow_id(job_id))


@asynccontextmanager
async def running_platform(folder: Path, address: str, queue: str, *, work: bool = True) -> AsyncIterator[Platform]:
    """The platform as its process composes it."""
    pipelines = folder / "definitions"
    pipelines.mkdir(exist_ok=True)
    temporal = await connect(TemporalSettings(), address)
    service = PlatformService(folder / "platform", pipelines)
    await service.start(TemporalJobStarter(temporal, queue))
    client = PlatformClient(service.endpoint)
    try:
        if not work:
            yield Platform(service, pipelines, client, temporal, queue)
            return
        with ThreadPoolExecutor(8) as threads:
            async with Worker(
                temporal,
                task_queue=queue,
                workflows=[PlatformJobWorkflow],
                activities=PlatformJobActivities(service.runner).all(),
                activity_executor=threads,
                max_concurrent_activities=4,
                max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            ):
                yield Platform(service, pipelines, client, temporal, queue)
    finally:
        client.close()
        await service.stop(0.2)
        service.close()


@pytest.fixture
async def platform(tmp_path: Path, temporal_server: str) -> AsyncIterator[Platform]:
    async with running_platform(tmp_path, temporal_server, f"platform-{uuid.uuid4().hex[:12]}") as running:
        yield running


def operators(*codes: str, **more: object) -> str:
    """Operators ``op0``, ``op1``… that run Python."""
    return "operators: " + json.dumps(
        [{"name": f"op{number}", "command": ["python", "-c", code], **more} for number, code in enumerate(codes)]
    )


async def pids_in(file: Path, number: int = 1) -> Sequence[int]:
    deadline = time.monotonic() + 60
    while not (file.exists() and len(file.read_text().splitlines()) >= number):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return [int(line) for line in file.read_text().split()]


def noting(file: Path, then: str) -> str:
    """Code that notes its process id and that of a child, then does something."""
    return (
        f"import os, subprocess, time; c = subprocess.Popen(['sleep', '600']); "
        f"f = open({str(file)!r}, 'a'); f.write(str(os.getpid()) + ' ' + str(c.pid) + chr(10)); f.flush(); {then}"
    )


async def test_a_job_runs_from_upload_to_registered_results(platform: Platform, tmp_path: Path) -> None:
    source = tmp_path / "a.dcm"
    source.write_bytes(b"bytes")
    job_id = await platform.started_job(COPY.replace("name: copy\nparam", "param"), source)
    job = await platform.ended(job_id)
    assert (job.status, job.messages) == (JobStatus.HEALTHY, ())
    assert [operator.status for operator in job.operators] == [OperatorStatus.COMPLETED]
    with ResultsServiceClient(platform.service.results_endpoint) as results:
        tasks = await asyncio.to_thread(results.pending, "ClaraSCU")
    assert [task.uris for task in tasks] == [("operators/copy/dcm/a.dcm",)] * 2
    assert await asyncio.to_thread(
        platform.client.download, job.payload_id, tasks[0].uris[0], tmp_path / "result"
    ) == len(b"bytes")
    result = await platform.handle(job_id).result()
    assert (result.status, result.registered_tasks) == ("healthy", 2)
    described = await platform.handle(job_id).describe()
    shown = described.typed_search_attributes
    assert shown[attributes.STATE] == attributes.State.COMPLETED
    assert (shown[attributes.JOB_ID], shown[attributes.PIPELINE]) == ([job_id], ["p0"])


async def test_a_failed_operator_faults_the_job_and_the_rest_is_not_run(platform: Platform) -> None:
    job_id = await platform.started_job(
        operators("pass", "import sys; sys.exit('PatientName is DOE')", "print('never')")
    )
    job = await platform.ended(job_id)
    assert job.status is JobStatus.FAULTED
    assert job.messages == ("operator op1 ended with exit code 1:\nPatientName is DOE",)
    assert [operator.status for operator in job.operators] == [
        OperatorStatus.COMPLETED,
        OperatorStatus.FAULTED,
        OperatorStatus.PENDING,
    ]
    result = await platform.handle(job_id).result()
    assert (result.status, result.message) == ("faulted", "operator op1 ended with exit code 1")
    history = await platform.handle(job_id).fetch_history()
    assert "DOE" not in history.to_json(), "what an operator prints may say who the patient is"
    assert len(history.events) < 30


async def test_an_operator_over_its_time_limit_is_killed_with_all_its_children(
    platform: Platform, tmp_path: Path
) -> None:
    job_id = await platform.started_job(operators(noting(tmp_path / "pids", "time.sleep(600)"), timeLimit=2))
    job = await platform.ended(job_id)
    assert job.messages == ("operator op0 exceeded its time limit of 2 s",)
    assert [pid for pid in await pids_in(tmp_path / "pids") if alive(pid)] == []


@pytest.mark.parametrize("by", ["the platform's client", "the Temporal UI"])
async def test_a_cancelled_job_leaves_no_process(platform: Platform, tmp_path: Path, by: str) -> None:
    job_id = await platform.started_job(operators(noting(tmp_path / "pids", "time.sleep(600)"), "pass"))
    pids = await pids_in(tmp_path / "pids")
    assert all(alive(pid) for pid in pids)
    if by == "the Temporal UI":
        await platform.handle(job_id).cancel()
    else:
        await asyncio.to_thread(platform.client.cancel, job_id, "wrong patient")
    job = await platform.ended(job_id)
    assert job.status is JobStatus.CANCELED
    assert job.messages == (() if by == "the Temporal UI" else ("wrong patient",))
    assert [pid for pid in pids if alive(pid)] == []
    assert (await platform.handle(job_id).result()).status == "canceled"
    described = await platform.handle(job_id).describe()
    assert described.typed_search_attributes[attributes.STATE] == attributes.State.CANCELED


async def test_a_cancel_before_any_worker_is_there_is_kept(tmp_path: Path, temporal_server: str) -> None:
    queue = f"platform-{uuid.uuid4().hex[:12]}"
    async with running_platform(tmp_path, temporal_server, queue, work=False) as platform:
        job_id = await platform.started_job(operators(f"open({str(tmp_path / 'ran')!r}, 'w')"))
        await asyncio.to_thread(platform.client.cancel, job_id, "")
    async with running_platform(tmp_path, temporal_server, queue) as platform:
        assert (await platform.ended(job_id)).status is JobStatus.CANCELED
    assert not (tmp_path / "ran").exists()


async def test_a_job_whose_workflow_is_lost_is_run_again(platform: Platform, tmp_path: Path) -> None:
    """A terminated workflow stands for a Temporal that has forgotten it; the full look finds both."""
    go_on = f"os.path.exists({str(tmp_path / 'go')!r}) or time.sleep(600)"
    job_id = await platform.started_job(operators(noting(tmp_path / "pids", go_on)))
    (first, child) = await pids_in(tmp_path / "pids")
    await platform.handle(job_id).terminate("lost")
    (tmp_path / "go").touch()
    await TemporalJobStarter(platform.temporal, platform.queue).start(platform.service.runner._jobs.get(job_id))
    job = await platform.ended(job_id)
    assert job.status is JobStatus.HEALTHY
    deadline = time.monotonic() + 60
    while alive(first) or alive(child):
        assert time.monotonic() < deadline, "the first attempt was not stopped"
        await asyncio.sleep(0.05)


async def test_a_workflow_of_an_unknown_job_ends_quietly(platform: Platform) -> None:
    job_id = uuid.uuid4().hex
    result = await platform.temporal.execute_workflow(
        PlatformJobWorkflow.run, PlatformJobInput(job_id=job_id), id=workflow_id(job_id), task_queue=platform.queue
    )
    assert result.status == "over"


PROCESS = """
import asyncio, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from temporalio.worker import Worker
from clara_dicom_adapter.activities.operators import PlatformJobActivities
from clara_dicom_adapter.clara.embedded.service import PlatformService
from clara_dicom_adapter.clara.embedded.starter import TemporalJobStarter
from clara_dicom_adapter.configuration.settings import TemporalSettings
from clara_dicom_adapter.temporal.client import connect
from clara_dicom_adapter.workflows.platform_job import PlatformJobWorkflow

async def main(folder, address, queue):
    temporal = await connect(TemporalSettings(), address)
    service = PlatformService(Path(folder) / "platform", Path(folder) / "definitions")
    await service.start(TemporalJobStarter(temporal, queue))
    print(service.endpoint, flush=True)
    async with Worker(temporal, task_queue=queue, workflows=[PlatformJobWorkflow],
                      activities=PlatformJobActivities(service.runner).all(), activity_executor=ThreadPoolExecutor(4)):
        await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_platform_runs_the_operator_again_from_nothing(tmp_path: Path, temporal_server: str) -> None:
    queue = f"platform-{uuid.uuid4().hex[:12]}"
    (tmp_path / "definitions").mkdir()
    then = (
        "open(os.environ['MONAI_OUTPUTPATH'] + '/' + str(os.getpid()), 'w'); "
        f"os.path.exists({str(tmp_path / 'go')!r}) or time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, str(tmp_path), temporal_server, queue], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        lines: Any = process.stdout
        endpoint = await asyncio.to_thread(lambda: next(line for line in lines if line.startswith("127.")).strip())
        with PlatformClient(endpoint) as client:
            dead = Platform(None, tmp_path / "definitions", client, None, queue)  # type: ignore[arg-type]
            job_id = await dead.started_job(operators(noting(tmp_path / "pids", then)))
        pids = await pids_in(tmp_path / "pids")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    (tmp_path / "go").touch()
    async with running_platform(tmp_path, temporal_server, queue) as platform:
        job = await platform.ended(job_id)
        assert job.status is JobStatus.HEALTHY
        (_, again) = (tmp_path / "pids").read_text().splitlines()
        files = await asyncio.to_thread(platform.client.payload_files, job.payload_id)
        assert [file.name for file in files] == [f"operators/op0/{again.split()[0]}"]


async def test_a_stopped_platform_hands_the_operator_to_the_next(tmp_path: Path, temporal_server: str) -> None:
    """A stop in order kills the operator without faulting its job."""
    queue = f"platform-{uuid.uuid4().hex[:12]}"
    then = f"os.path.exists({str(tmp_path / 'go')!r}) or time.sleep(600)"
    async with running_platform(tmp_path, temporal_server, queue) as platform:
        job_id = await platform.started_job(operators(noting(tmp_path / "pids", then)))
        pids = await pids_in(tmp_path / "pids")
    assert [pid for pid in pids if alive(pid)] == []
    (tmp_path / "go").touch()
    async with running_platform(tmp_path, temporal_server, queue) as platform:
        assert (await platform.ended(job_id)).status is JobStatus.HEALTHY
        history = await platform.handle(job_id).fetch_history()
    canceled = EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED
    assert canceled not in [event.event_type for event in history.events]
