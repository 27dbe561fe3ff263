"""From association to export: what is told to the records, twice as activities may, and what a trace then tells."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.event import listen

from clara_dicom_adapter.errors import NotFound
from clara_dicom_adapter.records.associations import AssociationRecords
from clara_dicom_adapter.records.exports import ExportRecords, ResultObject
from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.records.owners import owner_id
from clara_dicom_adapter.records.receptions import ReceptionRecords
from clara_dicom_adapter.records.submissions import SubmissionRecords
from clara_dicom_adapter.records.trace import Tracer
from clara_dicom_adapter.workflows.models import (
    AssociationOutcome,
    HeldNode,
    JobOutcome,
    JobPlan,
    JobRef,
    JobStatus,
    NoteSubmissionInput,
    Owner,
    PinnedAeTitle,
    ReceptionState,
    SubmissionInput,
)

START = datetime(2024, 5, 1, 8, 0, tzinfo=UTC)
RECEIVER = Owner(workflow_id="receive-CLARA-a1", run_id="0190-aaaa-bbbbccccdddd", group=1)
SUBMISSION_ID = "submission-CLARA-20240501T080010-0123456789"
JOB = JobRef(submission_id=SUBMISSION_ID, key="lung", job_id="job-1", payload_id="payload-1")


@dataclass(frozen=True)
class Live:
    association_id: str = "a1"
    calling_ae_title: str = "CT1"
    called_ae_title: str = "CLARA"
    peer: str = "10.1.2.3"
    started_at: datetime = START
    instances: int = 0
    bytes: int = 0
    ignored: int = 0
    failed: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Stored:
    association_id: str
    sequence: int
    study_instance_uid: str = "1.2.3"
    series_instance_uid: str = "1.2.3.1"
    bytes: int = 100
    sop_class_uid: str = "1.2.840.10008.5.1.4.1.1.2"

    @property
    def sop_instance_uid(self) -> str:
        return f"{self.series_instance_uid}.{self.sequence}"

    @property
    def received_ns(self) -> int:
        return int((START + timedelta(seconds=self.sequence)).timestamp()) * 10**9


@dataclass(frozen=True)
class Rejection:
    word: str = "called-ae-title-unknown"
    codes: tuple[int, int, int] = (1, 1, 7)


@dataclass(frozen=True)
class Task:
    task_id: str = "11111111-2222-3333-4444-555555555555"
    job_id: str = "job-1"
    pipeline_id: str = "P1"
    payload_id: str = "payload-1"
    parameters: str = '"PACS"'
    retries: int = 0
    uris: tuple[str, ...] = ("/output/1.dcm", "/output/2.dcm", "/output/3.dcm")


@dataclass(frozen=True)
class Result:
    index: int
    delivered: bool
    verdict: str = "stored"
    status: int | None = 0
    reason: str = ""
    comment: str = ""


class Clock:
    """Starts when the last instance has come, and ticks with every look."""

    def __init__(self) -> None:
        self.time = START + timedelta(minutes=1)

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def stored(count: int, association_id: str = "a1") -> list[Stored]:
    return [Stored(association_id, number) for number in range(1, count + 1)]


def submission(instances: int) -> SubmissionInput:
    return SubmissionInput(
        submission_id=SUBMISSION_ID,
        ae=PinnedAeTitle(ae_title="CLARA", name="CLARA", processor="ae-title"),
        calling_ae_title="CT1",
        nodes=(HeldNode(node_id="n1", instances=instances, bytes=instances * 100),),
        instances=instances,
        received_by=RECEIVER.workflow_id,
    )


def plan(key: str, instances: int) -> JobPlan:
    return JobPlan(key=key, pipeline="P1", selection="set-1", instances=instances, bytes=1, nodes=("n1",))


def test_the_whole_way_is_one_timeline_from_every_identifier(engine: Engine) -> None:
    clock = Clock()
    associations = AssociationRecords(engine, "n1")
    receptions, submissions = ReceptionRecords(engine, clock), SubmissionRecords(engine, clock)
    exports = ExportRecords(engine, clock)
    with associations.together() as changes:
        changes.accepted(Live())
    instances = stored(3)
    for _ in range(2):  # everything may be repeated
        receptions.claimed(RECEIVER, "n1", instances[:2])
        receptions.claimed(RECEIVER, "n1", instances)
    with associations.together() as changes:
        changes.ended(Live(instances=3, bytes=300), AssociationOutcome.RELEASED, START + timedelta(seconds=9))
    with associations.together() as changes:
        changes.accepted(Live())  # comes late: the end stays
    group = submission(3)
    for _ in range(2):
        receptions.submitted(RECEIVER, group, ["n1"])
    receptions.claimed(RECEIVER, "n1", instances)  # a late repetition takes nothing back
    found = submissions.group(group.owner)
    assert [each.sequence for each in found] == [1, 2, 3]
    assert found[0].received_at == (START + timedelta(seconds=1)).timestamp()
    for _ in range(2):
        submissions.planned(group, [plan("lung", 3)], {"set-1": found})
    assert submissions.selection(SUBMISSION_ID, "set-1", "n1") == {("a1", 1), ("a1", 2), ("a1", 3)}
    assert submissions.creating(SUBMISSION_ID, "lung")
    assert not submissions.creating(SUBMISSION_ID, "lung")
    for _ in range(2):
        submissions.created(JOB, "clara-lung-2024")
        submissions.started(JOB)
    status = JobStatus(key="lung", pipeline="P1", state=JobOutcome.STARTED, job_id="job-1", payload_id="payload-1")
    submissions.noted(NoteSubmissionInput(submission_id=SUBMISSION_ID, jobs=(status,), state="Submitted"))
    assert exports.offer("ClaraSCU", Task(), exports.report_mark()) == 1
    exports.save_results(
        Task().task_id, "PACS", [Result(0, True), Result(1, True), Result(2, False, "refused", 0xA700)]
    )
    exports.note(Task().task_id, "Exported", "")
    exports.reported(Task().task_id, 1, success=True, retry_later=False, accepted=True, message="")

    tracer = Tracer(engine)
    story = tracer.trace("1.2.3")
    assert [(event.subject, event.what, event.text) for event in story.events] == [
        ("association", "accepted", "CT1 to CLARA, from 10.1.2.3"),
        ("reception", "opened", "group of 3 instances"),
        ("instances", "received", "3 instances, 300 bytes"),
        ("association", "released", "3 instances, 300 bytes"),
        ("reception", "submitted", ""),
        ("submission", "Submitting", ""),
        ("job", "created", "job-1"),
        ("job", "started", "job-1"),
        ("submission", "Submitted", ""),
        ("export", "Offered", "offer 1"),
        ("export", "delivered", "2 objects to PACS"),
        ("export", "not delivered", "1 objects to PACS"),
        ("export", "Exported", ""),
        ("export", "Reported", "success"),
    ]
    kinds = {
        "1.2.3": "study",
        "1.2.3.1": "series",
        "1.2.3.1.2": "instance",
        "a1": "association",
        owner_id(RECEIVER): "reception",
        RECEIVER.workflow_id: "reception",
        SUBMISSION_ID: "submission",
        "job-1": "job",
        "payload-1": "payload",
        Task().task_id: "export",
    }
    for identifier, kind in kinds.items():
        trace = tracer.trace(identifier)
        assert trace.kind == kind
        assert {event.subject for event in trace.events} == {event.subject for event in story.events}, identifier
    assert "1 instances, 100 bytes" in [event.text for event in tracer.trace("1.2.3.1.2").events]
    for unknown in ("9.9.9", ""):
        assert tracer.trace(unknown).kind is None
    task = exports.task(Task().task_id)
    assert task is not None
    assert (task.pipeline, task.called_ae_title) == ("P1", "CLARA"), "the job is ours"
    result = ResultObject(0, "2.25.1.1", "2.25.1", "2.25.1.0")
    for _ in range(2):
        exports.save_objects(Task().task_id, [result, ResultObject(1, "2.25.1.2", "1.2.3", "2.25.1.0")])
    for identifier, kind in {"2.25.1": "study", "2.25.1.0": "series", "2.25.1.1": "instance"}.items():
        trace = tracer.trace(identifier)
        assert (trace.kind, trace.events) == (kind, story.events), "a result is traced back to what it was made of"
    assert tracer.trace("1.2.3").events == story.events


def test_a_result_is_traced_to_its_own_job_and_to_no_other_of_the_submission(engine: Engine) -> None:
    submissions, exports = SubmissionRecords(engine), ExportRecords(engine)
    submissions.planned(submission(1), [plan("lung", 1), plan("bone", 1)], {})
    submissions.created(JOB, "name")
    bone = JobRef(submission_id=SUBMISSION_ID, key="bone", job_id="job-2", payload_id="payload-2")
    submissions.created(bone, "name")
    other = Task(task_id="task-2", job_id="job-2", payload_id="payload-2")
    strange = Task(task_id="task-3", job_id="job-3", payload_id="payload-3")
    for number, task in enumerate((Task(), other, strange)):
        exports.offer("ClaraSCU", task, exports.report_mark())
        exports.save_objects(task.task_id, [ResultObject(0, f"2.25.{number}", "", "")])
    events = Tracer(engine).trace("2.25.1").events
    assert {event.ids["job_key"] for event in events if event.subject == "job"} == {"bone"}
    assert {event.ids["task_id"] for event in events if event.subject == "export"} == {"task-2"}
    events = Tracer(engine).trace("2.25.2").events
    assert {event.subject for event in events} == {"export"}, "its job is not ours"
    task_of_strange = exports.task("task-3")
    assert task_of_strange is not None
    assert (task_of_strange.pipeline, task_of_strange.called_ae_title) == ("", "")


def test_what_is_merged_into_a_later_group_is_submitted_with_it_and_traced_through_it(engine: Engine) -> None:
    receptions, clock = ReceptionRecords(engine), Clock()
    later = Owner(workflow_id="receive-CLARA-a2", run_id="0190-aaaa-eeeeffff0000", group=1)
    receptions.claimed(RECEIVER, "n1", stored(2))
    receptions.state(RECEIVER, ReceptionState.HELD, incomplete=True, reason="")
    receptions.claimed(later, "n1", stored(3, "a2"))
    receptions.transferred(RECEIVER, later, "n1")
    receptions.state(RECEIVER, ReceptionState.MERGED, incomplete=False, reason="")
    listing = Listing(engine)
    assert listing.get(Subject.RECEPTION, later.workflow_id)["instances"] == 5
    first = listing.get(Subject.RECEPTION, RECEIVER.workflow_id)
    assert (first["state"], first["incomplete"], first["merged_into"]) == ("merged", True, owner_id(later))
    group = submission(5)
    receptions.submitted(later, group, ["n1"])
    assert len(SubmissionRecords(engine, clock).group(group.owner)) == 5
    told = [(event.subject, event.what) for event in Tracer(engine).trace(owner_id(RECEIVER)).events]
    assert ("submission", "Submitting") in told
    assert ("reception", "held") in told


def test_a_group_on_two_nodes_is_complete_only_when_both_have_transferred(engine: Engine) -> None:
    receptions, group = ReceptionRecords(engine), submission(5)
    receptions.claimed(RECEIVER, "n1", stored(2))
    receptions.claimed(RECEIVER, "n2", stored(3, "a2"))
    receptions.transferred(RECEIVER, group.owner, "n1")
    submissions = SubmissionRecords(engine)
    assert len(submissions.group(group.owner)) == 2
    receptions.transferred(RECEIVER, group.owner, "n2")
    assert {each.node_id for each in submissions.group(group.owner)} == {"n1", "n2"}


def test_a_group_that_was_given_back_can_be_claimed_by_another_run(engine: Engine) -> None:
    """Temporal forgot the run; the reconciler hands its batches over again."""
    receptions = ReceptionRecords(engine)
    again = Owner(workflow_id=RECEIVER.workflow_id, run_id="0190-aaaa-111122223333", group=1)
    receptions.claimed(RECEIVER, "n1", stored(3))
    receptions.claimed(again, "n1", stored(3))
    assert len(SubmissionRecords(engine).group(again)) == 3
    assert SubmissionRecords(engine).group(RECEIVER) == []


def test_a_plan_made_again_replaces_only_jobs_that_nothing_has_come_of(engine: Engine) -> None:
    submissions, group = SubmissionRecords(engine), submission(3)
    submissions.planned(group, [plan("lung", 3), plan("bone", 3)], {})
    submissions.creating(SUBMISSION_ID, "lung")
    submissions.created(JOB, "name")
    submissions.planned(group, [plan("liver", 3)], {})
    jobs = Listing(engine).get(Subject.SUBMISSION, SUBMISSION_ID)["jobs"]
    assert [(job["job_key"], job["job_id"]) for job in jobs] == [("liver", ""), ("lung", "job-1")]


def test_a_job_that_the_platform_forgot_may_be_created_again(engine: Engine) -> None:
    submissions = SubmissionRecords(engine)
    submissions.planned(submission(1), [plan("lung", 1)], {})
    submissions.creating(SUBMISSION_ID, "lung")
    submissions.created(JOB, "name")
    newer = JOB.model_copy(update={"job_id": "job-2"})
    submissions.forgotten(newer)  # not the one that is recorded
    record = submissions.job(SUBMISSION_ID, "lung")
    assert record is not None
    assert (record.job_id, record.started) == ("job-1", False)
    submissions.forgotten(JOB)
    record = submissions.job(SUBMISSION_ID, "lung")
    assert record is not None
    assert record.job_id == ""
    assert submissions.creating(SUBMISSION_ID, "lung")
    assert submissions.job(SUBMISSION_ID, "other") is None


def test_a_task_is_offered_anew_only_by_an_answer_that_is_younger_than_its_report(engine: Engine) -> None:
    exports, task = ExportRecords(engine), Task()
    before = exports.report_mark()
    assert exports.offer("ClaraSCU", task, before) == 1
    assert exports.offer("ClaraSCU", task, before) == 1
    assert exports.in_flight("ClaraSCU") == 1
    assert exports.is_open(task.task_id, 1)
    for _ in range(2):
        exports.reported(task.task_id, 1, success=False, retry_later=True, accepted=True, message="")
    assert exports.in_flight("ClaraSCU") == 0
    assert exports.offer("ClaraSCU", task, before) is None
    assert exports.offer("ClaraSCU", replace(task, retries=1), exports.report_mark()) == 2
    stored_task = exports.task(task.task_id)
    assert stored_task is not None
    assert (stored_task.offer, stored_task.open, stored_task.retries, stored_task.uris) == (2, True, 1, task.uris)
    exports.reported(task.task_id, 1, success=True, retry_later=False, accepted=True, message="late")
    assert exports.is_open(task.task_id, 2)
    assert exports.task("unknown") is None


def test_what_was_delivered_stays_delivered(engine: Engine) -> None:
    exports, task = ExportRecords(engine), Task()
    exports.offer("ClaraSCU", task, 0)
    exports.save_results(task.task_id, "PACS", [Result(0, True), Result(1, False, "refused", 0xA700)])
    exports.save_results(task.task_id, "PACS", [Result(0, False, "lost", None), Result(1, True), Result(2, True)])
    exports.save_results(task.task_id, "PACS", [Result(2, False, "lost", None)])
    assert exports.delivered(task.task_id, "PACS") == {0, 1, 2}
    assert exports.delivered(task.task_id, "OTHER") == frozenset()
    listed = Listing(engine).get(Subject.EXPORT, task.task_id)
    assert listed["destinations"] == [{"name": "PACS", "delivered": 3, "failed": 0}]
    assert listed["objects"] == 3


def test_a_group_that_was_opened_before_its_association_was_recorded_gets_the_ae_titles(engine: Engine) -> None:
    receptions, listing = ReceptionRecords(engine), Listing(engine)
    receptions.claimed(RECEIVER, "n1", stored(2))
    (group,) = listing.page(Subject.RECEPTION, Filter({})).items
    assert (group["called_ae_title"], group["calling_ae_title"]) == ("", "")
    with AssociationRecords(engine, "n1").together() as changes:
        changes.accepted(Live())
        changes.rejected("r1", Live(called_ae_title="OTHER"), Rejection(), START)
    (group,) = listing.page(Subject.RECEPTION, Filter({})).items
    assert (group["called_ae_title"], group["calling_ae_title"]) == (Live().called_ae_title, Live().calling_ae_title)


def test_changes_of_associations_are_recorded_together_or_not_at_all(engine: Engine) -> None:
    records, listing = AssociationRecords(engine), Listing(engine)

    def fail() -> None:
        with records.together() as changes:
            changes.accepted(Live())
            raise ConnectionError

    with pytest.raises(ConnectionError):
        fail()
    assert listing.counts(Subject.ASSOCIATION) == {}
    with records.together() as changes:
        changes.ended(Live(instances=2), AssociationOutcome.RELEASED, START)
        changes.accepted(Live())
        changes.rejected("r1", Live(), Rejection(), START)
    assert listing.counts(Subject.ASSOCIATION) == {"released": 1, "rejected": 1}
    assert listing.get(Subject.ASSOCIATION, Live().association_id)["instances"] == 2


def test_lists_are_filtered_paged_and_newest_first(engine: Engine) -> None:
    with AssociationRecords(engine).together() as associations:
        for number in range(5):
            live = Live(association_id=f"a{number}", started_at=START + timedelta(minutes=number))
            associations.accepted(live)
            if number % 2:
                associations.ended(live, AssociationOutcome.ABORTED, START)
        associations.rejected("r1", Live(called_ae_title="BAD\x1b\\"), Rejection(), START)
    listing = Listing(engine)
    page = listing.page(Subject.ASSOCIATION, Filter({"state": ["open"]}, limit=2))
    assert ([row["association_id"] for row in page.items], page.total) == (["a4", "a2"], 3)
    page = listing.page(Subject.ASSOCIATION, Filter({"state": []}, since=START + timedelta(minutes=3), offset=1))
    assert [row["association_id"] for row in page.items] == ["a3"]
    assert listing.counts(Subject.ASSOCIATION) == {"open": 3, "aborted": 2, "rejected": 1}
    rejected = listing.get(Subject.ASSOCIATION, "r1")
    assert (rejected["called_ae_title"], rejected["reason"]) == ("BAD?\\", "called-ae-title-unknown")
    assert [event.what for event in Tracer(engine).trace("r1").events] == ["rejected"]
    with pytest.raises(NotFound):
        listing.get(Subject.ASSOCIATION, "nothing")


def test_what_a_long_window_has_already_is_not_written_again_with_each_batch(engine: Engine) -> None:
    receptions, all_of_them = ReceptionRecords(engine), stored(8_000)
    inserts: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if statement.startswith("INSERT INTO instance"):
            inserts.append(statement)

    listen(engine, "before_cursor_execute", count)
    for end in range(500, 8_001, 500):
        receptions.claimed(RECEIVER, "n1", all_of_them[:end])
    reception = Listing(engine).get(Subject.RECEPTION, RECEIVER.workflow_id)
    assert (reception["instances"], reception["bytes"]) == (8_000, 800_000)
    assert len(inserts) == 16


def test_a_destination_is_the_same_one_in_any_case(engine: Engine) -> None:
    exports, task = ExportRecords(engine), Task()
    exports.offer("ClaraSCU", task, 0)
    exports.save_results(task.task_id, "PACS", [Result(0, delivered=True), Result(1, delivered=False)])
    exports.save_results(task.task_id, "Pacs", [Result(0, delivered=False), Result(1, delivered=True)])
    assert exports.delivered(task.task_id, "pacs") == {0, 1}
    (export,) = Listing(engine).page(Subject.EXPORT, Filter({})).items
    assert export["destinations"] == [{"name": "PACS", "delivered": 2, "failed": 0}]


def test_what_is_known_of_objects_follows_their_uris_when_a_task_is_offered_with_others(engine: Engine) -> None:
    """Also of those that it lists twice."""
    exports, task = ExportRecords(engine), replace(Task(), uris=("a", "b", "b", "c"))
    exports.offer("ClaraSCU", task, 0)
    exports.save_objects(task.task_id, [ResultObject(number, f"2.25.{number}", "", "") for number in range(4)])
    exports.save_results(task.task_id, "PACS", [Result(number, delivered=number != 3) for number in range(4)])
    exports.reported(task.task_id, 1, success=False, retry_later=True, accepted=True, message="")
    exports.offer("ClaraSCU", replace(task, uris=("d", "c", "b", "b")), exports.report_mark())
    assert exports.delivered(task.task_id, "PACS") == {2, 3}
    listed = Listing(engine).export_objects(task.task_id, Filter({})).items
    assert [(each["number"], each["sop_instance_uid"]) for each in listed] == [
        (1, "2.25.3"),
        (2, "2.25.1"),
        (3, "2.25.2"),
        (-1, "2.25.0"),
    ]


def test_what_a_destination_may_have_is_known_by_uri_and_in_any_case_of_its_name(engine: Engine) -> None:
    exports, task = ExportRecords(engine), replace(Task(), uris=("a", "b"))
    exports.offer("ClaraSCU", task, 0)
    lost = Result(0, False, "unknown", None, "lost on its way")
    exports.save_results(task.task_id, "PACS", [lost, Result(1, False, "refused", 0xA700)])
    assert exports.unknown(task.task_id, "pacs") == {0: "lost on its way"}
    exports.reported(task.task_id, 1, success=False, retry_later=True, accepted=True, message="")
    exports.offer("ClaraSCU", replace(task, uris=("c", "b", "a")), exports.report_mark())
    assert exports.unknown(task.task_id, "Pacs") == {2: "lost on its way"}
    exports.save_results(task.task_id, "Pacs", [Result(2, True)])
    assert exports.unknown(task.task_id, "PACS") == {}
