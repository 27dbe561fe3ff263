"""Following started jobs on a real Temporal server, with a real platform and real records."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.platform import COPY, RunningPlatform
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from clara_dicom_adapter.activities.following import FollowingActivities
from clara_dicom_adapter.activities.interceptor import ErrorInterceptor
from clara_dicom_adapter.activities.metrics import WorkerMetrics
from clara_dicom_adapter.clara.model import JobPriority, JobStatus
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.jobs import JobRecords
from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.records.submissions import SubmissionRecords
from clara_dicom_adapter.temporal import queues
from clara_dicom_adapter.workflows import names
from clara_dicom_adapter.workflows.job_follower import JobFollowerWorkflow
from clara_dicom_adapter.workflows.models import JobRef


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine("", DataFolder(tmp_path))
    yield engine
    engine.dispose()


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[RunningPlatform]:
    running = RunningPlatform(tmp_path / "clara", port=0, results_port=0)
    (running.pipelines / "copy.yaml").write_text(COPY)
    yield running
    running.stop()


@pytest.fixture
async def client(temporal_server: str) -> Client:
    return await Client.connect(temporal_server, data_converter=pydantic_data_converter)


@asynccontextmanager
async def serving(client: Client, platform: RunningPlatform, engine: Engine) -> AsyncIterator[None]:
    """A worker as the adapter has it, for following alone."""
    following = FollowingActivities(platform.client, JobRecords(engine), 0.05, WorkerMetrics().job_ended)
    worker = Worker(
        client,
        task_queue=queues.SHARED,
        workflows=[JobFollowerWorkflow],
        activities=[following.follow],
        interceptors=[ErrorInterceptor()],
    )
    async with worker:
        keeping = asyncio.create_task(following.keep_following(client))
        yield
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


def start_job(platform: RunningPlatform, engine: Engine, key: str) -> str:
    job_id, payload_id = platform.client.create_job(
        platform.client.resolve_pipeline("copy"), key, JobPriority.NORMAL, {}
    )
    platform.client.start_job(job_id)
    ref = JobRef(submission_id="submission-1", key=key, job_id=job_id, payload_id=payload_id)
    records = SubmissionRecords(engine)
    records.created(ref, key)
    records.started(ref)
    return job_id


def end(platform: RunningPlatform, job_id: str, status: JobStatus) -> None:
    """As the job's workflow does."""
    platform.service.runner.finish(job_id, status, "")


def state(engine: Engine, job_id: str) -> str:
    page = Listing(engine).page(Subject.JOB, Filter({"job_id": [job_id]}))
    return str(page.items[0]["state"])


async def until(what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def test_jobs_are_followed_to_their_end_over_a_restart_of_the_worker(
    client: Client, platform: RunningPlatform, engine: Engine
) -> None:
    first, second = (start_job(platform, engine, key) for key in ("a", "b"))
    handle = client.get_workflow_handle(names.JOB_FOLLOWER)
    async with serving(client, platform, engine):
        end(platform, first, JobStatus.FAULTED)
        await until("the first has ended", lambda: state(engine, first) != "started")
    assert (state(engine, first), state(engine, second)) == ("faulted", "started")
    async with serving(client, platform, engine):
        end(platform, second, JobStatus.CANCELED)
        await until("the second has ended", lambda: state(engine, second) != "started")
        assert state(engine, second) == "canceled"
        await asyncio.wait_for(handle.result(), 30)
        assert (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED, "nothing is left to follow"
        third = start_job(platform, engine, "c")
        end(platform, third, JobStatus.HEALTHY)
        await until("it is followed again", lambda: state(engine, third) != "started")
        await asyncio.wait_for(handle.result(), 30)
