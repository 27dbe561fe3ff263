"""Where is my study: everything recorded about an object, in the order it happened.

An identifier is widened to all it belongs to, upwards and downwards (association, reception, submission, job, export),
and what these have recorded is told as one timeline.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, or_, select

from clara_dicom_adapter.configuration.tables import reading
from clara_dicom_adapter.records.associations import OPEN, REJECTED
from clara_dicom_adapter.records.tables import (
    AssociationRow,
    EventRow,
    ExportObjectRow,
    ExportRow,
    InstanceRow,
    ReceptionRow,
    SubmissionJobRow,
    SubmissionRow,
)

_AT_ONCE = 500


@dataclass(frozen=True)
class TraceEvent:
    """One line of the timeline.

    Attributes:
        subject: ``association``, ``instances``, ``reception``, ``submission``, ``job`` or ``export``.
        ids: What it is about, by kind, such as ``job_id``.
    """

    at: datetime
    subject: str
    what: str
    text: str
    ids: dict[str, str]


@dataclass(frozen=True)
class Trace:
    """What is known of an identifier.

    Attributes:
        kind: ``study``, ``series``, ``instance``, ``association``, ``reception``, ``submission``, ``job``,
            ``payload`` or ``export``; None when nothing is known of it.
    """

    identifier: str
    kind: str | None
    events: tuple[TraceEvent, ...] = ()


@dataclass
class _Found:
    kind: str | None = None
    instances: Any = None
    """Condition for the instances that are meant; None when they are all of what was found."""
    associations: set[str] = field(default_factory=set[str])
    receptions: set[str] = field(default_factory=set[str])
    submissions: set[str] = field(default_factory=set[str])
    job_keys: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    """Of the jobs that are meant; empty for all of the submissions."""
    tasks: set[str] = field(default_factory=set[str])


class Tracer:
    """Reads only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def trace(self, identifier: str) -> Trace:
        """The timeline of a study, series, instance, association, reception, submission, job, payload or export."""
        identifier = identifier.strip()
        with reading(self._engine) as connection:
            found = _find(connection, identifier)
            if found.kind is None:
                return Trace(identifier, None)
            _widen(connection, found)
            events = [
                *_associations(connection, found),
                *_instances(connection, found),
                *_receptions(connection, found),
                *_submissions(connection, found),
                *_exports(connection, found),
            ]
        return Trace(identifier, found.kind, tuple(sorted(events, key=lambda event: event.at)))


# ---- what an identifier is ----


def _find(connection: Connection, identifier: str) -> _Found:
    for kind, column in (
        ("study", InstanceRow.study_instance_uid),
        ("series", InstanceRow.series_instance_uid),
        ("instance", InstanceRow.sop_instance_uid),
    ):
        if connection.execute(select(InstanceRow.sequence).where(column == identifier).limit(1)).first():
            return _Found(kind, instances=column == identifier)
    if _one(connection, AssociationRow.association_id, identifier):
        here = InstanceRow.association_id == identifier
        return _Found("association", instances=here, associations={identifier})
    receptions = connection.scalars(
        select(ReceptionRow.reception_id).where(
            or_(ReceptionRow.reception_id == identifier, ReceptionRow.workflow_id == identifier)
        )
    ).all()
    if receptions:
        return _Found("reception", receptions=set(receptions))
    if _one(connection, SubmissionRow.submission_id, identifier):
        return _Found("submission", submissions={identifier})
    for kind, column in (("job", SubmissionJobRow.job_id), ("payload", SubmissionJobRow.payload_id)):
        jobs = connection.execute(
            select(SubmissionJobRow.submission_id, SubmissionJobRow.job_key).where(column == identifier)
        ).all()
        if jobs and identifier:
            keys = {(job.submission_id, job.job_key) for job in jobs}
            return _Found(kind, submissions={submission for submission, _ in keys}, job_keys=keys)
    return _find_export(connection, identifier)


def _find_export(connection: Connection, identifier: str) -> _Found:
    task = connection.execute(
        select(ExportRow.task_id, ExportRow.job_id).where(
            or_(ExportRow.task_id == identifier, ExportRow.job_id == identifier)
        )
    ).first()
    if task is None or not identifier:
        return _Found()
    found = _Found("export" if task.task_id == identifier else "job", tasks={task.task_id})
    jobs = connection.execute(
        select(SubmissionJobRow.submission_id, SubmissionJobRow.job_key).where(
            SubmissionJobRow.job_id == task.job_id, SubmissionJobRow.job_id != ""
        )
    )
    found.job_keys = {(job.submission_id, job.job_key) for job in jobs}
    found.submissions = {submission for submission, _ in found.job_keys}
    return found


def _one(connection: Connection, column: Any, identifier: str) -> bool:
    return connection.execute(select(column).where(column == identifier)).first() is not None


# ---- what it belongs to ----


def _widen(connection: Connection, found: _Found) -> None:
    if found.instances is not None:
        where = [found.instances]
    else:
        if found.receptions:
            _take_submissions(connection, found)
        where = [
            or_(InstanceRow.reception_id.in_(some), InstanceRow.submission_id.in_(some))
            for some in _slices(found.receptions | found.submissions)
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
    for some in _slices(found.submissions):
        statement = select(SubmissionJobRow.__table__).where(SubmissionJobRow.submission_id.in_(some))
        jobs = [job for job in connection.execute(statement).mappings() if _is_meant(found, job)]
        ids = {name: {job[name] for job in jobs if job[name]} for name in ("job_id", "payload_id")}
        tasks = connection.scalars(
            select(ExportRow.task_id).where(
                or_(ExportRow.job_id.in_(ids["job_id"]), ExportRow.payload_id.in_(ids["payload_id"]))
            )
        )
        found.tasks.update(tasks)


def _take_submissions(connection: Connection, found: _Found) -> None:
    for some in _slices(found.receptions):
        rows = connection.scalars(select(ReceptionRow.submission_id).where(ReceptionRow.reception_id.in_(some)))
        found.submissions.update(row for row in rows if row is not None)


def _is_meant(found: _Found, job: Any) -> bool:
    return not found.job_keys or (job["submission_id"], job["job_key"]) in found.job_keys


def _slices(ids: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(ids)
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]


# ---- what has been recorded about it ----


def _associations(connection: Connection, found: _Found) -> Iterator[TraceEvent]:
    for some in _slices(found.associations):
        rows = connection.execute(select(AssociationRow.__table__).where(AssociationRow.association_id.in_(some)))
        for row in rows:
            ids = {"association_id": row.association_id, "node_id": row.node_id}
            who = f"{row.calling_ae_title} to {row.called_ae_title}, from {row.peer}"
            if row.state == REJECTED:
                codes = f"{row.reject_result}/{row.reject_source}/{row.reject_reason}"
                yield TraceEvent(row.started_at, "association", "rejected", f"{who}: {row.reason} ({codes})", ids)
                continue
            yield TraceEvent(row.started_at, "association", "accepted", who, ids)
            if row.state != OPEN:
                text = f"{row.instances} instances, {row.bytes} bytes"
                text += f", {row.failed} failed" if row.failed else ""
                yield TraceEvent(row.ended_at, "association", row.state, text, ids)


def _instances(connection: Connection, found: _Found) -> Iterator[TraceEvent]:
    for some in _slices(found.associations):
        meant = _of(found) if found.instances is None else found.instances
        rows = connection.execute(
            select(
                InstanceRow.association_id,
                InstanceRow.reception_id,
                func.count().label("instances"),
                func.sum(InstanceRow.bytes).label("bytes"),
                func.max(InstanceRow.received_ns).label("last"),
            )
            .where(InstanceRow.association_id.in_(some), meant)
            .group_by(InstanceRow.association_id, InstanceRow.reception_id)
        )
        for row in rows:
            ids = {"association_id": row.association_id, "reception_id": row.reception_id or ""}
            at = datetime.fromtimestamp(row.last / 1e9, UTC)
            yield TraceEvent(at, "instances", "received", f"{row.instances} instances, {row.bytes} bytes", ids)


def _of(found: _Found) -> Any:
    return or_(
        *(
            or_(InstanceRow.reception_id.in_(some), InstanceRow.submission_id.in_(some))
            for some in _slices(found.receptions | found.submissions)
        )
    )


def _receptions(connection: Connection, found: _Found) -> Iterator[TraceEvent]:
    workflows: dict[str, dict[str, str]] = {}
    for some in _slices(found.receptions):
        for row in connection.execute(select(ReceptionRow.__table__).where(ReceptionRow.reception_id.in_(some))):
            ids = {"reception_id": row.reception_id, "workflow_id": row.workflow_id}
            workflows[row.reception_id] = ids
            text = f"group of {row.instances} instances" + (", incomplete" if row.incomplete else "")
            yield TraceEvent(row.opened_at, "reception", "opened", text, ids)
    for event in _events(connection, "reception", workflows):
        yield TraceEvent(event.at, "reception", event.what, event.text, workflows[event.subject])


def _submissions(connection: Connection, found: _Found) -> Iterator[TraceEvent]:
    for event in _events(connection, "submission", found.submissions):
        ids = {"submission_id": event.subject, "workflow_id": event.subject}
        yield TraceEvent(event.at, "submission", event.what, event.text, ids)
    jobs: dict[str, dict[str, str]] = {}
    for some in _slices(found.submissions):
        rows = connection.execute(
            select(SubmissionJobRow.__table__).where(SubmissionJobRow.submission_id.in_(some))
        ).mappings()
        for job in rows:
            if _is_meant(found, job):
                jobs[f"{job['submission_id']}/{job['job_key']}"] = {
                    name: job[name] for name in ("submission_id", "job_key", "pipeline", "job_id", "job_name")
                }
    for event in _events(connection, "job", jobs):
        ids = jobs[event.subject]
        yield TraceEvent(event.at, "job", event.what, event.text or ids["pipeline"], ids)


def _exports(connection: Connection, found: _Found) -> Iterator[TraceEvent]:
    for event in _events(connection, "export", found.tasks):
        yield TraceEvent(event.at, "export", event.what, event.text, {"task_id": event.subject})
    for some in _slices(found.tasks):
        rows = connection.execute(
            select(
                ExportObjectRow.task_id,
                ExportObjectRow.destination,
                ExportObjectRow.delivered,
                func.count().label("objects"),
                func.max(ExportObjectRow.at).label("last"),
            )
            .where(ExportObjectRow.task_id.in_(some))
            .group_by(ExportObjectRow.task_id, ExportObjectRow.destination, ExportObjectRow.delivered)
            .order_by(ExportObjectRow.delivered.desc())
        )
        for row in rows:
            what = "delivered" if row.delivered else "not delivered"
            ids = {"task_id": row.task_id, "destination": row.destination}
            yield TraceEvent(row.last, "export", what, f"{row.objects} objects to {row.destination}", ids)


def _events(connection: Connection, kind: str, subjects: Collection[str]) -> Iterator[Any]:
    for some in _slices(subjects):
        yield from connection.execute(
            select(EventRow.__table__)
            .where(EventRow.kind == kind, EventRow.subject.in_(some))
            .order_by(EventRow.number)
        )
