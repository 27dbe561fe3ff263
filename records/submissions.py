"""What has been submitted to the platform: groups, their jobs, and which instances make up which job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, delete, select, update

from clara_dicom_adapter.configuration.processors import GroupedInstance
from clara_dicom_adapter.configuration.tables import reading
from clara_dicom_adapter.records.owners import owner_id
from clara_dicom_adapter.records.tables import InstanceRow, SelectionRow, SubmissionJobRow, SubmissionRow
from clara_dicom_adapter.records.texts import bounded
from clara_dicom_adapter.records.upsert import Clock, event, now, upsert
from clara_dicom_adapter.workflows.models import (
    JobOutcome,
    JobPlan,
    JobRef,
    JobStatus,
    NoteSubmissionInput,
    Owner,
    SubmissionInput,
)

SUBMITTING = "Submitting"


@dataclass(frozen=True)
class JobRecord:
    """What is known of a job; ids are empty while it has not been created."""

    job_id: str
    payload_id: str
    job_name: str
    started: bool


class SubmissionRecords:
    """Written by activities of the SubmissionWorkflow; every call may be repeated."""

    def __init__(self, engine: Engine, clock: Clock = now) -> None:
        self._engine = engine
        self._clock = clock

    # ---- what a group holds, and what is made of it ----

    def group(self, owner: Owner) -> Sequence[GroupedInstance]:
        """The instances that are the owner's, on every node, in the order they came."""
        statement = (
            select(InstanceRow.__table__)
            .where(InstanceRow.owner == owner_id(owner))
            .order_by(InstanceRow.received_ns, InstanceRow.association_id, InstanceRow.sequence)
        )
        with reading(self._engine) as connection:
            return [
                GroupedInstance(
                    node_id=row.node_id,
                    association_id=row.association_id,
                    sequence=row.sequence,
                    received_at=row.received_ns / 1e9,
                    sop_class_uid=row.sop_class_uid,
                    sop_instance_uid=row.sop_instance_uid,
                    study_instance_uid=row.study_instance_uid,
                    series_instance_uid=row.series_instance_uid,
                    bytes=row.bytes,
                )
                for row in connection.execute(statement)
            ]

    def planned(
        self,
        submission: SubmissionInput,
        jobs: Sequence[JobPlan],
        selections: Mapping[str, Sequence[GroupedInstance]],
    ) -> None:
        """These jobs are to be made; an earlier plan that nothing has come of yet is replaced."""
        submission_id = submission.submission_id
        mine = SubmissionJobRow.submission_id == submission_id
        with self._engine.begin() as connection:
            at = self._clock()
            opened(connection, submission, at)
            kept = [job.key for job in jobs]
            connection.execute(
                delete(SubmissionJobRow).where(
                    mine, SubmissionJobRow.creating.is_(False), SubmissionJobRow.job_key.not_in(kept)
                )
            )
            rows = [_job_row(submission_id, job, at) for job in jobs]
            upsert(connection, SubmissionJobRow, rows, ("pipeline", "instances"))
            connection.execute(delete(SelectionRow).where(SelectionRow.submission_id == submission_id))
            for name, instances in selections.items():
                upsert(connection, SelectionRow, [_selection_row(submission_id, name, each) for each in instances])

    def selection(self, submission_id: str, selection: str, node_id: str) -> frozenset[tuple[str, int]]:
        """Association id and sequence of a selection's instances on one node."""
        statement = select(SelectionRow.association_id, SelectionRow.sequence).where(
            SelectionRow.submission_id == submission_id,
            SelectionRow.name == selection,
            SelectionRow.node_id == node_id,
        )
        with reading(self._engine) as connection:
            return frozenset((row.association_id, row.sequence) for row in connection.execute(statement))

    # ---- jobs ----

    def job(self, submission_id: str, key: str) -> JobRecord | None:
        """What is known of a job; None when it was not planned."""
        with reading(self._engine) as connection:
            row = connection.execute(select(SubmissionJobRow.__table__).where(*_is(submission_id, key))).first()
        return None if row is None else JobRecord(row.job_id, row.payload_id, row.job_name, row.started)

    def creating(self, submission_id: str, key: str) -> bool:
        """Note that Create is about to be called; False when that was noted before: the job may exist."""
        with self._engine.begin() as connection:
            at = self._clock()
            blank = JobPlan(key=key, pipeline="", instances=0, bytes=0, nodes=())
            upsert(connection, SubmissionJobRow, [_job_row(submission_id, blank, at)])
            first = connection.execute(
                update(SubmissionJobRow)
                .where(*_is(submission_id, key), SubmissionJobRow.creating.is_(False))
                .values(creating=True, changed_at=at)
            )
            return first.rowcount == 1

    def created(self, job: JobRef, job_name: str) -> None:
        """The platform has this job."""
        values = {"job_id": job.job_id, "payload_id": job.payload_id, "job_name": job_name, "creating": True}
        with self._engine.begin() as connection:
            known = connection.execute(
                select(SubmissionJobRow.job_id, SubmissionJobRow.started).where(*_is(job.submission_id, job.key))
            ).first()
            if known is not None and known.started and known.job_id == job.job_id:
                return  # a late repetition
            self._set_job(connection, job.submission_id, job.key, JobOutcome.CREATED, values=values, text=job.job_id)

    def started(self, job: JobRef) -> None:
        """The platform has started it."""
        values = {"job_id": job.job_id, "payload_id": job.payload_id, "started": True, "creating": True}
        with self._engine.begin() as connection:
            self._set_job(connection, job.submission_id, job.key, JobOutcome.STARTED, values=values, text=job.job_id)

    def forgotten(self, job: JobRef) -> None:
        """The platform does not know it any more, so that it is created once more."""
        with self._engine.begin() as connection:
            forgot = connection.execute(
                update(SubmissionJobRow)
                .where(*_is(job.submission_id, job.key), SubmissionJobRow.job_id == job.job_id)
                .values(
                    job_id="",
                    payload_id="",
                    creating=False,
                    started=False,
                    state=JobOutcome.PLANNED.value,
                    ended_at=None,
                )
            )
            if forgot.rowcount:
                event(
                    connection,
                    self._clock(),
                    kind="job",
                    subject=f"{job.submission_id}/{job.key}",
                    what="forgotten",
                    text=job.job_id,
                )

    def noted(self, note: NoteSubmissionInput) -> None:
        """The submission and its jobs are in these states now."""
        with self._engine.begin() as connection:
            at = self._clock()
            mine = SubmissionRow.submission_id == note.submission_id
            if note.state:
                changed = connection.execute(
                    update(SubmissionRow)
                    .where(mine, SubmissionRow.state != note.state)
                    .values(state=note.state, changed_at=at)
                )
                if changed.rowcount:
                    event(connection, at, kind="submission", subject=note.submission_id, what=note.state)
            for status in note.jobs:
                values = _status_values(status)
                self._set_job(
                    connection, note.submission_id, status.key, status.state, values=values, text=status.message
                )

    def _set_job(
        self,
        connection: Connection,
        submission_id: str,
        key: str,
        state: JobOutcome,
        *,
        values: Mapping[str, Any],
        text: str,
    ) -> None:
        at = self._clock()
        known = select(SubmissionJobRow.state, SubmissionJobRow.ended_at).where(*_is(submission_id, key))
        row = connection.execute(known).first()
        if row is not None and row.ended_at is not None:
            return  # it has ended on the platform; what its submission still has to say of it is older
        if row is None:
            blank = JobPlan(key=key, pipeline=str(values.get("pipeline", "")), instances=0, bytes=0, nodes=())
            upsert(connection, SubmissionJobRow, [_job_row(submission_id, blank, at)])
        changed = row is None or row.state != state.value
        connection.execute(
            update(SubmissionJobRow)
            .where(*_is(submission_id, key))
            .values({**values, "state": state.value, **({"changed_at": at} if changed else {})})
        )
        if changed:
            event(connection, at, kind="job", subject=f"{submission_id}/{key}", what=state.value, text=text)


def opened(connection: Connection, submission: SubmissionInput, at: datetime) -> None:
    """See to it that a submission has its row."""
    submission_id = submission.submission_id
    known = connection.scalar(select(SubmissionRow.state).where(SubmissionRow.submission_id == submission_id))
    if known is not None:
        return
    row = {
        "submission_id": submission_id,
        "called_ae_title": submission.ae.ae_title,
        "calling_ae_title": submission.calling_ae_title,
        "received_by": submission.received_by,
        "state": SUBMITTING,
        "instances": submission.instances,
        "incomplete": submission.incomplete,
        "created_at": at,
        "changed_at": at,
    }
    upsert(connection, SubmissionRow, [row])
    event(connection, at, kind="submission", subject=submission_id, what=SUBMITTING)


def _is(submission_id: str, key: str) -> tuple[Any, Any]:
    return SubmissionJobRow.submission_id == submission_id, SubmissionJobRow.job_key == key


def _job_row(submission_id: str, job: JobPlan, at: datetime) -> dict[str, Any]:
    return {
        "submission_id": submission_id,
        "job_key": job.key,
        "pipeline": job.pipeline,
        "state": JobOutcome.PLANNED.value,
        "job_id": "",
        "payload_id": "",
        "job_name": "",
        "creating": False,
        "started": False,
        "instances": job.instances,
        "message": "",
        "changed_at": at,
        "ended_at": None,
    }


def _selection_row(submission_id: str, name: str, instance: GroupedInstance) -> dict[str, Any]:
    return {
        "submission_id": submission_id,
        "name": name,
        "node_id": instance.node_id,
        "association_id": instance.association_id,
        "sequence": instance.sequence,
    }


def _status_values(status: JobStatus) -> dict[str, Any]:
    known = {"job_id": status.job_id, "payload_id": status.payload_id, "pipeline": status.pipeline}
    return {"message": bounded(status.message), **{name: value for name, value in known.items() if value}}
