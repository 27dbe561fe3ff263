"""What an identifier of a trace means, and all that it belongs to: upwards and downwards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, or_, select

from clara_dicom_adapter.records.tables import (
    AssociationRow,
    ExportRow,
    InstanceRow,
    ReceptionRow,
    ResultObjectRow,
    SubmissionJobRow,
    SubmissionRow,
)

_AT_ONCE = 500
_UIDS = (
    ("study", InstanceRow.study_instance_uid, ResultObjectRow.study_instance_uid),
    ("series", InstanceRow.series_instance_uid, ResultObjectRow.series_instance_uid),
    ("instance", InstanceRow.sop_instance_uid, ResultObjectRow.sop_instance_uid),
)
"""Kinds of UIDs, and where they stand: of what was received, and of results."""


@dataclass
class Found:
    """What an identifier is, and everything found so far that it has to do with."""

    kind: str | None = None
    instances: Any = None
    """Condition for the instances that are meant; None when they are all of what was found."""
    associations: set[str] = field(default_factory=set[str])
    receptions: set[str] = field(default_factory=set[str])
    submissions: set[str] = field(default_factory=set[str])
    job_keys: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Of the jobs that are meant; empty for all of the submissions."""
    tasks: set[str] = field(default_factory=set[str])


# ---- what an identifier is ----


def find(connection: Connection, identifier: str) -> Found:
    """What an identifier is; of kind None when nothing is known of it."""
    for kind, received, result in _UIDS:
        tasks = _tasks_with(connection, result == identifier) if identifier else set[str]()
        if connection.execute(select(InstanceRow.sequence).where(received == identifier).limit(1)).first():
            return Found(kind, instances=received == identifier, tasks=tasks)
        if tasks:
            found = Found(kind, tasks=tasks)
            _take_jobs_of_tasks(connection, found)
            return found
    if _one(connection, AssociationRow.association_id, identifier):
        here = InstanceRow.association_id == identifier
        return Found("association", instances=here, associations={identifier})
    receptions = connection.scalars(
        select(ReceptionRow.reception_id).where(
            or_(ReceptionRow.reception_id == identifier, ReceptionRow.workflow_id == identifier)
        )
    ).all()
    if receptions:
        return Found("reception", receptions=set(receptions))
    if _one(connection, SubmissionRow.submission_id, identifier):
        return Found("submission", submissions={identifier})
    for kind, column in (("job", SubmissionJobRow.job_id), ("payload", SubmissionJobRow.payload_id)):
        jobs = connection.execute(
            select(SubmissionJobRow.submission_id, SubmissionJobRow.job_key).where(column == identifier)
        ).all()
        if jobs and identifier:
            keys = {(job.submission_id, job.job_key) for job in jobs}
            return Found(kind, submissions={submission for submission, _ in keys}, job_keys=keys)
    return _find_export(connection, identifier)


def _find_export(connection: Connection, identifier: str) -> Found:
    task = connection.execute(
        select(ExportRow.task_id, ExportRow.job_id).where(
            or_(ExportRow.task_id == identifier, ExportRow.job_id == identifier)
        )
    ).first()
    if task is None or not identifier:
        return Found()
    found = Found("export" if task.task_id == identifier else "job", tasks={task.task_id})
    _take_jobs_of_tasks(connection, found)
    return found


def _tasks_with(connection: Connection, condition: ColumnElement[bool]) -> set[str]:
    """Tasks that have such an object."""
    return set(connection.scalars(select(ResultObjectRow.task_id).where(condition).distinct()))


def _take_jobs_of_tasks(connection: Connection, found: Found) -> None:
    """What is meant is results: the jobs that made them, and no other job of the same submission."""
    for some in slices(found.tasks):
        jobs = connection.execute(
            select(SubmissionJobRow.submission_id, SubmissionJobRow.job_key)
            .join(ExportRow, ExportRow.job_id == SubmissionJobRow.job_id)
            .where(ExportRow.task_id.in_(some), SubmissionJobRow.job_id != "")
        )
        found.job_keys.update((job.submission_id, job.job_key) for job in jobs)
    found.submissions = {submission for submission, _ in found.job_keys}


def _one(connection: Connection, column: Any, identifier: str) -> bool:
    return connection.execute(select(column).where(column == identifier)).first() is not None


# ---- what it belongs to ----


def widen(connection: Connection, found: Found) -> None:
    """Add all that what was found belongs to, and all that belongs to it."""
    if found.instances is not None:
        where = [found.instances]
    else:
        if found.receptions:
            _take_submissions(connection, found)
        where = [
            or_(InstanceRow.reception_id.in_(some), InstanceRow.submission_id.in_(some))
            for some in slices(found.receptions | found.submissions)
        ]
    for condition in where:
        rows = connection.execute(
            select(InstanceRow.association_id, InstanceRow.reception_id, InstanceRow.submission_id)
            .where(condition)
            .distinct()
        )
        for row in rows:
            found.associations.add(row.association_id)
            found.receptions.update({row.reception_id} - {None})
            found.submissions.update({row.submission_id} - {None})
    merged = set(found.receptions)
    while merged:  # a group may have become part of another one, and that of yet another
        into = connection.scalars(
            select(ReceptionRow.merged_into).where(
                ReceptionRow.reception_id.in_(merged), ReceptionRow.merged_into.is_not(None)
            )
        )
        merged = {each for each in into if each is not None} - found.receptions
        found.receptions |= merged
    _take_submissions(connection, found)
    for some in slices(found.submissions):
        statement = select(SubmissionJobRow.__table__).where(SubmissionJobRow.submission_id.in_(some))
        jobs = [job for job in connection.execute(statement).mappings() if is_meant(found, job)]
        ids = {name: {job[name] for job in jobs if job[name]} for name in ("job_id", "payload_id")}
        tasks = connection.scalars(
            select(ExportRow.task_id).where(
                or_(ExportRow.job_id.in_(ids["job_id"]), ExportRow.payload_id.in_(ids["payload_id"]))
            )
        )
        found.tasks.update(tasks)


def _take_submissions(connection: Connection, found: Found) -> None:
    for some in slices(found.receptions):
        rows = connection.scalars(select(ReceptionRow.submission_id).where(ReceptionRow.reception_id.in_(some)))
        found.submissions.update(row for row in rows if row is not None)


def is_meant(found: Found, job: Any) -> bool:
    """Whether a job of a submission that was found is one of those that were asked for."""
    return not found.job_keys or (job["submission_id"], job["job_key"]) in found.job_keys


def slices(ids: Iterable[str]) -> Iterator[list[str]]:
    """Ids in portions that a statement can hold."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]
