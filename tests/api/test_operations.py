"""Lists, timelines, and a person's answers; the latter to a real workflow on a real Temporal server."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import httpx
import pytest
from sqlalchemy import Engine
from temporalio import workflow
from temporalio.client import Client
from temporalio.exceptions import ApplicationError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from clara_dicom_adapter.api import Dependencies, RunFolder, TemporalControl, create_app
from clara_dicom_adapter.configuration.settings import TemporalSettings
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.records.associations import AssociationRecords
from clara_dicom_adapter.records.exports import ExportRecords
from clara_dicom_adapter.records.jobs import JobEnd, JobRecords, RunningJob
from clara_dicom_adapter.records.receptions import ReceptionRecords
from clara_dicom_adapter.records.submissions import SubmissionRecords
from clara_dicom_adapter.temporal import client as temporal
from clara_dicom_adapter.workflows.models import (
    Answer,
    AssociationOutcome,
    DiscardInput,
    HeldNode,
    JobOutcome,
    JobRef,
    JobStatus,
    NoteSubmissionInput,
    Owner,
    PinnedAeTitle,
    ReceptionState,
    RetryInput,
    SubmissionInput,
)

START = datetime(2024, 5, 1, 8, 0, tzinfo=UTC)
OWNER = Owner(workflow_id="receive-CLARA-a1", run_id="0190-aaaa-bbbbccccdddd", group=1)
SUBMISSION_ID = "submission-CLARA-20240501T080010-0123456789"
TASK_ID = "11111111-2222-3333-4444-555555555555"


class RecordedControl(Protocol):
    """The fixture ``control``."""

    asked: list[tuple[str, RetryInput | DiscardInput]]
    gone: set[str]


@dataclass(frozen=True)
class Live:
    association_id: str = "a1"
    calling_ae_title: str = "CT1"
    called_ae_title: str = "CLARA"
    peer: str = "10.1.2.3"
    started_at: datetime = START
    instances: int = 3
    bytes: int = 300
    ignored: int = 0
    failed: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Stored:
    sequence: int
    association_id: str = "a1"
    study_instance_uid: str = "1.2.3"
    series_instance_uid: str = "1.2.3.1"
    sop_class_uid: str = "1.2"
    received_ns: int = int(START.timestamp()) * 10**9
    bytes: int = 100

    @property
    def sop_instance_uid(self) -> str:
        return f"1.2.3.1.{self.sequence}"


@dataclass(frozen=True)
class Task:
    task_id: str = TASK_ID
    job_id: str = "job-1"
    pipeline_id: str = "P1"
    payload_id: str = "payload-1"
    parameters: str = '"PACS"'
    retries: int = 0
    uris: tuple[str, ...] = ("/output/1.dcm",)


@pytest.fixture
def happened(engine: Engine) -> None:
    """A quarantined group, a refused submission and a failed export."""
    with AssociationRecords(engine, "n1").together() as associations:
        associations.ended(Live(), AssociationOutcome.ABORTED, START + timedelta(minutes=1))
    receptions = ReceptionRecords(engine)
    receptions.claimed(OWNER, "n1", [Stored(number) for number in (1, 2, 3)])
    receptions.state(OWNER, ReceptionState.QUARANTINED, incomplete=True, reason="aborted")
    submission = SubmissionInput(
        submission_id=SUBMISSION_ID,
        ae=PinnedAeTitle(ae_title="CLARA", name="CLARA", processor="ae-title"),
        calling_ae_title="CT1",
        nodes=(HeldNode(node_id="n1", instances=2, bytes=200),),
        instances=2,
        received_by="receive-CLARA-a0",
    )
    submissions = SubmissionRecords(engine)
    submissions.planned(submission, [], {})
    refused = JobStatus(key="lung", pipeline="P1", state=JobOutcome.REFUSED, message="no such pipeline")
    note = NoteSubmissionInput(submission_id=SUBMISSION_ID, jobs=(refused,), state="NeedsAttention")
    submissions.noted(note)
    exports = ExportRecords(engine)
    exports.offer("ClaraSCU", Task(), 0)
    exports.note(TASK_ID, "NeedsAttention", "PACS: 1 of 1 not stored")


@pytest.mark.usefixtures("happened")
async def test_jobs_are_listed_with_how_they_ended(api: httpx.AsyncClient, engine: Engine) -> None:
    job = JobRef(submission_id=SUBMISSION_ID, key="bone", job_id="job-2", payload_id="payload-2")
    SubmissionRecords(engine).created(job, "name")
    SubmissionRecords(engine).started(job)
    JobRecords(engine).ended(RunningJob(SUBMISSION_ID, "bone", "job-2"), JobEnd.CANCELED, "by hand", None)
    listed = (await api.get("/api/jobs", params={"state": "canceled"})).json()
    assert (listed["total"], listed["states"]) == (1, {"refused": 1, "canceled": 1})
    (item,) = listed["items"]
    assert (item["jobId"], item["message"], item["calledAeTitle"]) == ("job-2", "by hand", "CLARA")
    assert item["endedAt"] is not None
    assert item["links"]["trace"] == "/api/trace/job-2"
    assert item["links"]["temporal"] == f"http://temporal/{SUBMISSION_ID}"
    refused = (await api.get("/api/jobs", params={"state": "refused"})).json()["items"][0]
    assert refused["links"]["trace"] == f"/api/trace/{SUBMISSION_ID}", "it has no id of its own"
    lines = (await api.get("/metrics")).text.splitlines()
    assert 'clara_dicom_recorded_jobs{state="canceled"} 1.0' in lines
    assert 'clara_dicom_parked{subject="jobs"}' not in "".join(lines)


@pytest.mark.usefixtures("happened")
async def test_lists_tell_states_counts_and_where_to_look_further(api: httpx.AsyncClient) -> None:
    receptions = (await api.get("/api/receptions", params={"calledAeTitle": "CLARA"})).json()
    assert (receptions["total"], receptions["states"]) == (1, {"quarantined": 1})
    [reception] = receptions["items"]
    assert (reception["instances"], reception["bytes"], reception["incomplete"]) == (3, 300, True)
    assert reception["links"]["temporal"] == "http://temporal/receive-CLARA-a1"
    timeline = (await api.get(reception["links"]["trace"])).json()
    assert timeline["kind"] == "reception"
    [submission] = (await api.get("/api/submissions", params={"state": ["Submitted", "NeedsAttention"]})).json()[
        "items"
    ]
    assert [(job["jobKey"], job["state"]) for job in submission["jobs"]] == [("lung", "refused")]
    [export] = (await api.get("/api/exports", params={"jobId": "job-1"})).json()["items"]
    assert export["links"]["temporal"] == f"http://temporal/export-ClaraSCU-{TASK_ID}"
    [association] = (await api.get("/api/associations", params={"since": "2024-05-01T08:00:00"})).json()["items"]
    assert (association["state"], association["startedAt"]) == ("aborted", "2024-05-01T08:00:00Z")
    assert (await api.get("/api/associations", params={"until": "2024-05-01T08:00:00Z"})).json()["items"] == []
    assert (await api.get("/api/trace/1.2.3")).json()["events"][0]["what"] == "accepted"
    text = (await api.get("/metrics")).text
    assert 'clara_dicom_parked{subject="groups"} 1.0' in text
    assert 'clara_dicom_recorded_jobs{state="refused"} 1.0' in text


@pytest.mark.usefixtures("happened")
async def test_what_waits_for_a_person_is_listed_and_answered_all_at_once(
    api: httpx.AsyncClient, control: RecordedControl
) -> None:
    waiting = (await api.get("/api/attention")).json()
    assert [(item["subject"], item["state"], item["message"]) for item in waiting] == [
        ("receptions", "quarantined", "aborted"),
        ("submissions", "NeedsAttention", "lung: no such pipeline"),
        ("exports", "NeedsAttention", "PACS: 1 of 1 not stored"),
    ]
    control.gone.add(SUBMISSION_ID)
    outcomes = (await api.post("/api/attention/discard", json={"reason": "a test"})).json()
    assert [(outcome["subject"], outcome["done"]) for outcome in outcomes] == [
        ("receptions", True),
        ("submissions", False),
        ("exports", True),
    ]
    assert control.asked == [
        ("receive-CLARA-a1", DiscardInput(reason="a test")),
        (f"export-ClaraSCU-{TASK_ID}", DiscardInput(reason="a test")),
    ]


@workflow.defn(name="WaitsForPerson")
class WaitsForPerson:
    """As the adapter's workflows wait."""

    def __init__(self) -> None:
        self._answered = False

    @workflow.run
    async def run(self) -> None:
        await workflow.wait_condition(lambda: self._answered and workflow.all_handlers_finished())

    @workflow.update
    def retry(self, request: RetryInput) -> Answer:
        self._answered = True
        return Answer(changed=2, message=f"retried {request.item}")

    @retry.validator
    def _may_retry(self, request: RetryInput) -> None:
        if request.item == "other":
            raise ApplicationError("other does not wait; what waits: lung")


@pytest.fixture
async def client(temporal_server: str) -> Client:
    return await temporal.connect(TemporalSettings(address=temporal_server))


@pytest.fixture
async def real(engine: Engine, temporal_server: str, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """The API with a real Temporal server."""
    control = TemporalControl(
        TemporalSettings(address=temporal_server, web_ui_address="http://ui/"), patience=timedelta(seconds=3)
    )
    deps = Dependencies(ConfigurationStore(engine), engine, RunFolder(tmp_path), control)
    transport = httpx.ASGITransport(create_app(deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        yield http


@pytest.mark.usefixtures("happened")
async def test_an_answer_reaches_the_workflow_and_its_words_come_back(real: httpx.AsyncClient, client: Client) -> None:
    queue = "test-api-operations"
    runner = UnsandboxedWorkflowRunner()
    async with Worker(client, task_queue=queue, workflows=[WaitsForPerson], workflow_runner=runner):
        handle = await client.start_workflow(WaitsForPerson.run, id=SUBMISSION_ID, task_queue=queue)
        path = f"/api/submissions/{SUBMISSION_ID}/retry"
        refused = await real.post(path, json={"item": "other"})
        assert (refused.status_code, refused.json()["detail"]) == (409, "other does not wait; what waits: lung")
        answer = await real.post(path, json={"item": "lung"})
        assert answer.json() == {
            "subject": "submissions",
            "id": SUBMISSION_ID,
            "workflowId": SUBMISSION_ID,
            "done": True,
            "changed": 2,
            "message": "retried lung",
        }
        await asyncio.wait_for(handle.result(), 20)
        ended = await real.post(path)
        assert (ended.status_code, ended.json()["title"]) == (404, "Nothing waits here any more.")
        assert (await real.post(path, json={"itme": "lung"})).status_code == 422
    [item] = (await real.get("/api/submissions")).json()["items"]
    assert item["links"]["temporal"] == f"http://ui/namespaces/default/workflows/{SUBMISSION_ID}"


@pytest.mark.usefixtures("happened")
async def test_without_a_worker_or_without_temporal_it_is_said(
    real: httpx.AsyncClient, client: Client, engine: Engine, tmp_path: Path
) -> None:
    handle = await client.start_workflow("WaitsForPerson", id="receive-CLARA-a1", task_queue="test-api-nobody")
    path = "/api/receptions/receive-CLARA-a1/discard"
    nobody = await real.post(path)
    assert (nobody.status_code, nobody.json()["title"]) == (503, "Temporal is unavailable.")
    assert "is a worker running?" in nobody.json()["detail"]
    await handle.terminate()
    nowhere = TemporalControl(TemporalSettings(address="127.0.0.1:1"), patience=timedelta(seconds=2))
    deps = Dependencies(ConfigurationStore(engine), engine, RunFolder(tmp_path), nowhere)
    transport = httpx.ASGITransport(create_app(deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        answer = await http.post(path)
    assert (answer.status_code, answer.json()["title"]) == (503, "Temporal is unavailable.")
