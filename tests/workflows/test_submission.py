"""The SubmissionWorkflow on a real Temporal server, spool and database, with a platform that does as it is told."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import delete
from support.spooling import STUDY, batched, facts
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from clara_dicom_adapter.activities.interceptor import ErrorInterceptor
from clara_dicom_adapter.activities.reception import ReceptionActivities
from clara_dicom_adapter.activities.submission import JOB_UNKNOWN, SubmissionActivities
from clara_dicom_adapter.clara.model import JobPriority, JobState, JobStatus, PayloadFile, PlatformJob
from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.configuration.settings import DataFolder, PlatformSettings
from clara_dicom_adapter.errors import PlatformRefused, PlatformUnreachable
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.held import HeldGroups
from clara_dicom_adapter.records.receptions import ReceptionRecords
from clara_dicom_adapter.records.submissions import SubmissionRecords
from clara_dicom_adapter.records.tables import InstanceRow, SelectionRow, SubmissionJobRow, SubmissionRow
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.temporal import queues
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows import policies
from clara_dicom_adapter.workflows.models import (
    Answer,
    DiscardInput,
    HeldNode,
    JobOutcome,
    Owner,
    PinnedAeTitle,
    RetryInput,
    SubmissionInput,
    SubmissionResult,
    SubmissionStatus,
)
from clara_dicom_adapter.workflows.submission import SubmissionWorkflow


@dataclass
class FakePlatform:
    """Keeps jobs in memory; ``trouble`` is asked before each call and may raise."""

    trouble: Callable[[str, str], None] = lambda _call, _what: None
    jobs: dict[str, PlatformJob] = field(default_factory=dict[str, PlatformJob])
    payloads: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    metadata: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    started: list[str] = field(default_factory=list[str])

    def resolve_pipeline(self, name: str) -> str:
        self.trouble("resolve", name)
        return name

    def create_job(
        self, pipeline_id: str, name: str, priority: JobPriority, metadata: Mapping[str, str]
    ) -> tuple[str, str]:
        self.trouble("create", pipeline_id)
        job_id, payload_id = uuid.uuid4().hex, uuid.uuid4().hex
        self.jobs[job_id] = PlatformJob(
            job_id, payload_id, pipeline_id, name, JobState.PENDING, JobStatus.HEALTHY, priority, metadata=metadata
        )
        self.payloads[payload_id] = {}
        self.metadata[job_id] = dict(metadata)
        self.trouble("created", pipeline_id)
        return job_id, payload_id

    def find_job(self, key: str, value: str, states: object) -> PlatformJob | None:
        del states
        return next((job for job in self.jobs.values() if job.metadata.get(key) == value), None)

    def job_status(self, job_id: str) -> PlatformJob:
        if job_id not in self.jobs:
            raise PlatformRefused("Jobs.Status", JOB_UNKNOWN, ["unknown"])
        return self.jobs[job_id]

    def add_metadata(self, job_id: str, entries: Mapping[str, str]) -> None:
        self.trouble("metadata", job_id)
        self._known(job_id)
        self.metadata[job_id].update(entries)

    def remove_metadata(self, job_id: str, keys: Sequence[str]) -> None:
        for key in keys:
            del self.metadata[job_id][key]

    def payload_files(self, payload_id: str) -> list[PayloadFile]:
        return [PayloadFile(name, size) for name, size in self.payloads[payload_id].items()]

    def upload(self, payload_id: str, name: str, path: Path) -> int:
        self.trouble("upload", name)
        self.payloads[payload_id][f"input/{name}"] = path.stat().st_size
        return path.stat().st_size

    def start_job(self, job_id: str) -> None:
        self.trouble("start", job_id)
        self._known(job_id)
        self.started.append(job_id)

    def version(self) -> str:
        self.trouble("version", "")
        return "test"

    def _known(self, job_id: str) -> None:
        if job_id not in self.jobs:
            raise PlatformRefused("Jobs", -1, ["no such job"])


class Bench:
    """A spool with one closed group, and a worker's activities."""

    def __init__(self, root: Path) -> None:
        self.spool = Spool.open(root / "spool", SpoolRole.WORKER)
        self.engine = open_engine("", DataFolder(root))
        self.records = SubmissionRecords(self.engine)
        self.platform = FakePlatform()
        settings = PlatformSettings(max_retries=1, retry_delay_seconds=0.2, parallel_uploads=2)
        self.reception = ReceptionActivities(
            self.spool, ReceptionRecords(self.engine), HeldGroups(self.engine), lambda *_: None
        )
        self.submission = SubmissionActivities(self.spool, self.records, cast(PlatformClient, self.platform), settings)

    def group(self, instances: int = 3, processor: str = "ae-title", **settings: str) -> SubmissionInput:
        """A group that a ReceiveWorkflow has closed and transferred."""
        folder = self.spool.begin_association(facts())
        batch = batched(self.spool, folder, instances)
        receiver = Owner(workflow_id="receive-1", run_id=uuid.uuid4().hex, group=1)
        claimed = self.spool.claim(receiver, [batch.batch_id])
        ReceptionRecords(self.engine).claimed(receiver, self.spool.node_id, self.spool.instances_of(receiver))
        submission = SubmissionInput(
            submission_id=f"submission-{uuid.uuid4().hex}",
            ae=PinnedAeTitle(
                ae_title="CLARA",
                name="CLARA",
                processor=processor,
                processor_settings={"jobRetryDelay": "50", **settings},
            ),
            calling_ae_title="CT1",
            nodes=(HeldNode(node_id=self.spool.node_id, instances=claimed.owned_instances, bytes=claimed.owned_bytes),),
            instances=instances,
            received_by="receive-1",
        )
        self.spool.transfer(receiver, submission.owner, submission.model_dump_json())
        ReceptionRecords(self.engine).transferred(receiver, submission.owner, self.spool.node_id)
        return submission

    def left(self, submission: SubmissionInput) -> int:
        return len(self.spool.instances_of(submission.owner))


Handle = WorkflowHandle[SubmissionWorkflow, SubmissionResult]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.engine.dispose()
    bench.spool.close()


@pytest.fixture
async def client(temporal_server: str) -> Client:
    return await Client.connect(temporal_server, data_converter=pydantic_data_converter)


@asynccontextmanager
async def submitting(
    client: Client, bench: Bench, submission: SubmissionInput, *, sandboxed: bool = True
) -> AsyncIterator[Handle]:
    """Run the workflow with workers of its own.

    Args:
        sandboxed: The sandbox imports policies of its own, so a test that changes them goes without.
    """
    runner = SandboxedWorkflowRunner() if sandboxed else UnsandboxedWorkflowRunner()
    reception, activities = bench.reception, bench.submission
    short: list[Callable[..., Any]] = [reception.release, reception.restore, activities.plan, activities.create_job]
    short += [activities.add_metadata, activities.start_job, activities.wait_for_platform, activities.note]
    short += [activities.submit_job, activities.finish]
    queue = f"test-{uuid.uuid4().hex}"
    with ThreadPoolExecutor(8) as threads:
        parts: dict[str, Any] = {"activity_executor": threads, "interceptors": [ErrorInterceptor()]}
        async with (
            Worker(
                client,
                task_queue=queue,
                workflows=[SubmissionWorkflow],
                activities=short,
                workflow_runner=runner,
                **parts,
            ),
            Worker(client, task_queue=queues.node(bench.spool.node_id), activities=[activities.upload], **parts),
        ):
            handle = await client.start_workflow(
                SubmissionWorkflow.run, submission, id=submission.submission_id, task_queue=queue
            )
            try:
                yield handle
            finally:
                if (await handle.describe()).status == 1:
                    await handle.terminate()


async def until(handle: Handle, state: State) -> SubmissionStatus:
    """Wait until the workflow shows a state."""
    async with asyncio.timeout(60):
        while True:
            status = await handle.query(SubmissionWorkflow.status)
            if status.state == state.value:
                return status
            await asyncio.sleep(0.05)


def refuse(call: str, what: str = "") -> Callable[[str, str], None]:
    def trouble(called: str, about: str) -> None:
        if called == call and what in ("", about):
            raise PlatformRefused(call, -0x1001, ["not today"])

    return trouble


@pytest.mark.parametrize("instances", [3, policies.SMALL_INSTANCES + 1])
async def test_every_pipeline_gets_the_whole_group_and_then_the_spool_may_forget_it(
    client: Client, bench: Bench, instances: int
) -> None:
    submission = bench.group(instances, **{"pipeline-a": "A", "pipeline-b": "B"})
    async with submitting(client, bench, submission) as handle:
        result = await handle.result()
    assert [(job.key, job.state) for job in result.jobs] == [("a", JobOutcome.STARTED), ("b", JobOutcome.STARTED)]
    assert len(bench.platform.started) == 2
    assert [len(files) for files in bench.platform.payloads.values()] == [instances, instances]
    for entries in bench.platform.metadata.values():
        assert entries.keys() == {"Source", "Instances", "ClaraDicomAdapterSubmission"}
        assert entries["Instances"] == str(instances)
    assert bench.left(submission) == 0


@pytest.mark.parametrize("instances", [2, policies.SMALL_INSTANCES + 1])
async def test_values_of_configured_tags_become_metadata(client: Client, bench: Bench, instances: int) -> None:
    settings = PlatformSettings(upload_metadata=True, metadata_dicom_source=("0008,0060",))
    bench.submission = SubmissionActivities(bench.spool, bench.records, cast(PlatformClient, bench.platform), settings)
    submission = bench.group(instances, **{"pipeline-a": "A"})
    for instance in bench.spool.instances_of(submission.owner):
        with instance.path.open("ab") as file:
            file.write(b"\x08\x00\x60\x00CS\x02\x00CT")
    async with submitting(client, bench, submission) as handle:
        await handle.result()
    (entries,) = bench.platform.metadata.values()
    assert (entries["00080060"], entries["Instances"]) == ("CT", str(instances))


async def test_what_the_platform_refuses_waits_for_a_person_and_the_other_pipeline_is_not_repeated(
    client: Client, bench: Bench
) -> None:
    submission = bench.group(2, **{"pipeline-good": "A", "pipeline-bad": "B"})
    bench.platform.trouble = refuse("create", "B")
    async with submitting(client, bench, submission) as handle:
        status = await until(handle, State.NEEDS_ATTENTION)
        assert {job.key: job.state for job in status.jobs} == {"good": JobOutcome.STARTED, "bad": JobOutcome.REFUSED}
        assert "not today" in status.jobs[1].message
        assert bench.left(submission) == 2
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(SubmissionWorkflow.retry, RetryInput(item="good"))
        bench.platform.trouble = lambda _call, _what: None
        answer: Answer = await handle.execute_update(SubmissionWorkflow.retry, RetryInput())
        assert answer.changed == 1
        await handle.result()
    assert len(bench.platform.started) == 2
    assert bench.left(submission) == 0


async def test_a_refused_job_can_be_given_up(client: Client, bench: Bench) -> None:
    submission = bench.group(2, **{"pipeline-bad": "B"})
    bench.platform.trouble = refuse("create")
    async with submitting(client, bench, submission) as handle:
        await until(handle, State.NEEDS_ATTENTION)
        await handle.execute_update(SubmissionWorkflow.discard, DiscardInput(reason="wrong pipeline"))
        result = await handle.result()
    assert [job.state for job in result.jobs] == [JobOutcome.DISCARDED]
    assert bench.left(submission) == 0


async def test_a_platform_that_cannot_be_reached_is_waited_for_visibly(client: Client, bench: Bench) -> None:
    submission = bench.group(2, **{"pipeline-a": "A"})

    def away(_call: str, _what: str) -> None:
        raise PlatformUnreachable("platform:50051", "connection refused")

    bench.platform.trouble = away
    async with submitting(client, bench, submission) as handle:
        status = await until(handle, State.WAITING_FOR_PLATFORM)
        assert status.jobs[0].state is JobOutcome.WAITING_FOR_PLATFORM
        bench.platform.trouble = lambda _call, _what: None
        await handle.result()
    assert len(bench.platform.started) == 1


async def test_a_reply_of_create_that_is_lost_makes_no_second_job(client: Client, bench: Bench) -> None:
    submission = bench.group(2, **{"pipeline-a": "A"})
    lost = iter([True])

    def once(call: str, _what: str) -> None:
        if call == "created" and next(lost, False):
            raise PlatformUnreachable("platform:50051", "the reply was lost")

    bench.platform.trouble = once
    async with submitting(client, bench, submission) as handle:
        await handle.result()
    assert len(bench.platform.jobs) == len(bench.platform.started) == 1


@pytest.mark.parametrize("instances", [6, policies.SMALL_INSTANCES + 1])
async def test_an_upload_that_broke_off_goes_on_where_it_stopped(client: Client, bench: Bench, instances: int) -> None:
    submission = bench.group(instances, **{"pipeline-a": "A"})
    uploads: list[str] = []

    def breaks_once(call: str, what: str) -> None:
        if call == "upload":
            uploads.append(what)
            if len(uploads) == 4:
                raise PlatformUnreachable("platform:50051", "connection reset")

    bench.platform.trouble = breaks_once
    async with submitting(client, bench, submission) as handle:
        await handle.result()
    assert [len(files) for files in bench.platform.payloads.values()] == [instances]
    assert len(uploads) < 2 * instances  # what had arrived was not sent again


async def test_a_job_that_the_platform_has_forgotten_is_created_once_more(client: Client, bench: Bench) -> None:
    submission = bench.group(2, **{"pipeline-a": "A"})
    forget = iter([True])

    def forgets_once(call: str, what: str) -> None:
        if call == "start" and next(forget, False):
            del bench.platform.jobs[what]

    bench.platform.trouble = forgets_once
    async with submitting(client, bench, submission) as handle:
        await handle.result()
    assert bench.platform.started == list(bench.platform.jobs)
    assert len(bench.platform.payloads) == 2


async def test_a_processor_that_is_not_installed_waits_for_a_person(client: Client, bench: Bench) -> None:
    submission = bench.group(2, processor="their-own")
    async with submitting(client, bench, submission) as handle:
        status = await until(handle, State.NEEDS_ATTENTION)
        assert "'their-own' is not installed" in status.jobs[0].message
        assert bench.left(submission) == 2
        await handle.execute_update(SubmissionWorkflow.discard, DiscardInput(item="plan"))
        await handle.result()
    assert bench.left(submission) == 0


def without_records_of_instances(bench: Bench) -> None:
    """As after a restore of an older database."""
    with bench.engine.begin() as connection:
        connection.execute(delete(InstanceRow))


async def test_records_that_were_lost_are_restored_from_the_spool(client: Client, bench: Bench) -> None:
    submission = bench.group(3, **{"pipeline-a": "A"})
    without_records_of_instances(bench)
    async with submitting(client, bench, submission) as handle:
        await asyncio.wait_for(handle.result(), 40)
    assert [len(files) for files in bench.platform.payloads.values()] == [3]
    assert {each.study_instance_uid for each in bench.records.group(submission.owner)} == {STUDY}
    assert bench.left(submission) == 0


async def test_a_job_that_lost_records_knew_is_found_on_the_platform(client: Client, bench: Bench) -> None:
    submission = bench.group(2, **{"pipeline-a": "A"})
    bench.platform.trouble = refuse("upload")
    async with submitting(client, bench, submission) as handle:
        await until(handle, State.NEEDS_ATTENTION)
    with bench.engine.begin() as connection:
        for table in (InstanceRow, SubmissionJobRow, SelectionRow, SubmissionRow):
            connection.execute(delete(table))
    bench.platform.trouble = lambda _call, _what: None
    async with submitting(client, bench, submission) as handle:  # terminated, and started again by the reconciler
        await asyncio.wait_for(handle.result(), 40)
    assert len(bench.platform.jobs) == len(bench.platform.started) == 1
    assert [len(files) for files in bench.platform.payloads.values()] == [2]


async def test_a_part_that_never_comes_waits_for_a_person_who_may_submit_the_rest(client: Client, bench: Bench) -> None:
    """The ReceiveWorkflow ended after it had transferred one node's part and not the other's."""
    group = bench.group(2, **{"pipeline-a": "A"})
    submission = group.model_copy(update={"instances": 5})
    async with submitting(client, bench, submission) as handle:
        status = await until(handle, State.NEEDS_ATTENTION)
        assert "2 of 5 instances are transferred" in status.jobs[0].message
        await handle.execute_update(SubmissionWorkflow.retry, RetryInput())
        await asyncio.wait_for(handle.result(), 40)
    assert [len(files) for files in bench.platform.payloads.values()] == [2]
    assert {entries["Incomplete"] for entries in bench.platform.metadata.values()} == {"true"}
    assert bench.left(submission) == 0


@pytest.mark.parametrize("how", ["deleted", "another's"])
async def test_no_job_is_started_with_less_than_was_planned(client: Client, bench: Bench, how: str) -> None:
    submission = bench.group(3, **{"pipeline-a": "A"})

    def vanishes(call: str, _what: str) -> None:
        if call == "created" and how == "deleted":
            bench.spool.instances_of(submission.owner)[0].path.unlink()
        elif call == "created":  # as when ownership.db was lost, made anew, and everything handed over again
            bench.spool.disown(submission.owner)

    bench.platform.trouble = vanishes
    async with submitting(client, bench, submission) as handle:
        status = await until(handle, State.NEEDS_ATTENTION)
        assert "instances of the job are not in the spool" in status.jobs[0].message
        assert bench.platform.started == []


@pytest.mark.parametrize("asked", [True, False])
async def test_a_group_of_an_ae_title_without_a_pipeline_waits_until_it_gets_one(
    client: Client, bench: Bench, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """As ClaraSCP of a 0.6 file has none; a person's retry has it looked at now instead of minutes later."""
    if not asked:
        monkeypatch.setattr(policies, "PARKED_GROUP_PAUSE", timedelta(seconds=1))
    now: list[ClaraAeTitle] = [ClaraAeTitle(name="CLARA", ae_title="CLARA")]
    settings = PlatformSettings(max_retries=1)
    platform = cast(PlatformClient, bench.platform)
    bench.submission = SubmissionActivities(bench.spool, bench.records, platform, settings, lambda: now)
    submission = bench.group(2)
    async with submitting(client, bench, submission, sandboxed=asked) as handle:
        status = await until(handle, State.NEEDS_ATTENTION)
        assert [job.message for job in status.jobs] == [
            "AE title CLARA has no pipeline; its groups wait until it gets one"
        ]
        assert bench.left(submission) == 2
        now[:] = [ClaraAeTitle(name="CLARA", ae_title="CLARA", processor_settings={"pipeline-a": "A"})]
        if asked:
            await handle.execute_update(SubmissionWorkflow.retry, RetryInput())
        result = await handle.result()
    assert [(job.pipeline, job.state) for job in result.jobs] == [("A", JobOutcome.STARTED)]
    assert bench.left(submission) == 0
