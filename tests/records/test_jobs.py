"""How started jobs end, in the records: once, and not undone by what their submission still says."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from clara_dicom_adapter.records.jobs import JobEnd, JobRecords, RunningJob
from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.records.submissions import SubmissionRecords
from clara_dicom_adapter.records.trace import Tracer
from clara_dicom_adapter.workflows.models import (
    HeldNode,
    JobOutcome,
    JobPlan,
    JobRef,
    JobStatus,
    NoteSubmissionInput,
    PinnedAeTitle,
    SubmissionInput,
)

START = datetime(2024, 5, 1, 8, 0, tzinfo=UTC)
SUBMISSION_ID = "submission-CLARA-20240501T080010-0123456789"
JOB = JobRef(submission_id=SUBMISSION_ID, key="lung", job_id="job-1", payload_id="payload-1")
RUNNING = RunningJob(SUBMISSION_ID, "lung", "job-1")


class Clock:
    """Ticks with every look."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def submissions(engine: Engine, clock: Clock) -> SubmissionRecords:
    """A submission with two planned jobs, of which one has been created."""
    records = SubmissionRecords(engine, clock)
    group = SubmissionInput(
        submission_id=SUBMISSION_ID,
        ae=PinnedAeTitle(ae_title="CLARA", name="CLARA", processor="ae-title"),
        calling_ae_title="CT1",
        nodes=(HeldNode(node_id="n1", instances=1, bytes=100),),
        instances=1,
        received_by="receive-CLARA-a1",
    )
    jobs = [
        JobPlan(key=key, pipeline="P1", selection="s", instances=1, bytes=1, nodes=("n1",)) for key in ("a", "lung")
    ]
    records.planned(group, jobs, {})
    records.created(JOB, "name")
    return records


def job(engine: Engine) -> dict[str, object]:
    jobs = Listing(engine).get(Subject.SUBMISSION, SUBMISSION_ID)["jobs"]
    return {name: jobs[1][name] for name in ("state", "message", "ended_at")}


def test_a_started_job_runs_until_its_end_is_recorded_once(
    engine: Engine, clock: Clock, submissions: SubmissionRecords
) -> None:
    jobs = JobRecords(engine, clock)
    assert jobs.running() == [], "created is not started"
    submissions.started(JOB)
    assert jobs.running() == jobs.running(1) == [RUNNING]
    ended_at = clock.time + timedelta(seconds=1)
    clock.time += timedelta(minutes=1)
    assert jobs.ended(RUNNING, JobEnd.FAULTED, "operator lung: exit status 3", ended_at)
    assert not jobs.ended(RUNNING, JobEnd.COMPLETED, "", None), "the first answer counts"
    assert jobs.running() == []
    # the submission closes later than a short job ends
    status = JobStatus(key="lung", pipeline="P1", state=JobOutcome.STARTED, job_id="job-1")
    submissions.noted(NoteSubmissionInput(submission_id=SUBMISSION_ID, jobs=(status,), state="Submitted"))
    submissions.started(JOB)
    assert job(engine) == {"state": "faulted", "message": "operator lung: exit status 3", "ended_at": ended_at}
    story = Tracer(engine).trace("job-1").events
    assert [(line.what, line.text) for line in story if line.subject == "job"] == [
        ("created", "job-1"),
        ("started", "job-1"),
        ("faulted", "operator lung: exit status 3"),
    ]
    assert Listing(engine).counts(Subject.JOB) == {"planned": 1, "faulted": 1}
    page = Listing(engine).page(Subject.JOB, Filter({"state": ["faulted"]}))
    assert [(row["job_id"], row["called_ae_title"]) for row in page.items] == [("job-1", "CLARA")]


@pytest.mark.parametrize("off", [timedelta(days=-1), timedelta(days=1)])
def test_a_platform_whose_clock_is_wrong_does_not_turn_the_story_round(
    engine: Engine, clock: Clock, submissions: SubmissionRecords, off: timedelta
) -> None:
    submissions.started(JOB)
    JobRecords(engine, clock).ended(RUNNING, JobEnd.COMPLETED, "", START + off)
    assert [line.what for line in Tracer(engine).trace("job-1").events if line.subject == "job"][-1] == "completed"
    ended_at = job(engine)["ended_at"]
    assert isinstance(ended_at, datetime)
    assert START < ended_at <= clock.time


def test_a_job_that_is_made_again_after_its_end_is_another_one(engine: Engine, submissions: SubmissionRecords) -> None:
    jobs = JobRecords(engine)
    submissions.started(JOB)
    assert not jobs.ended(RunningJob(SUBMISSION_ID, "lung", "job-0"), JobEnd.FAULTED, "", None)
    assert jobs.ended(RUNNING, JobEnd.UNKNOWN, "", None)
    submissions.forgotten(JOB)
    again = JOB.model_copy(update={"job_id": "job-2"})
    submissions.created(again, "name")
    submissions.started(again)
    assert jobs.running() == [RunningJob(SUBMISSION_ID, "lung", "job-2")]
    assert job(engine)["ended_at"] is None
