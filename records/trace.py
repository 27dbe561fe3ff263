"""Where is my study: everything recorded about an object, in the order it happened.

An identifier is widened to all it belongs to, upwards and downwards (association, reception, submission, job, export),
and what these have recorded is told as one timeline.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, func, or_, select

from clara_dicom_adapter.configuration.tables import reading
from clara_dicom_adapter.records.associations import OPEN, REJECTED
from clara_dicom_adapter.records.finding import Found, find, is_meant, slices, widen
from clara_dicom_adapter.records.tables import (
    AssociationRow,
    EventRow,
    ExportObjectRow,
    InstanceRow,
    ReceptionRow,
    SubmissionJobRow,
)


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


class Tracer:
    """Reads only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def trace(self, identifier: str) -> Trace:
        """The timeline of a study, series, instance, association, reception, submission, job, payload or export.

        Studies, series and instances are found by what was received, and by what was made of it and exported.
        """
        identifier = identifier.strip()
        with reading(self._engine) as connection:
            found = find(connection, identifier)
            if found.kind is None:
                return Trace(identifier, None)
            widen(connection, found)
            events = [
                *_associations(connection, found),
                *_instances(connection, found),
                *_receptions(connection, found),
                *_submissions(connection, found),
                *_exports(connection, found),
            ]
        return Trace(identifier, found.kind, tuple(sorted(events, key=lambda event: event.at)))


# ---- what has been recorded about it ----


def _associations(connection: Connection, found: Found) -> Iterator[TraceEvent]:
    for some in slices(found.associations):
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


def _instances(connection: Connection, found: Found) -> Iterator[TraceEvent]:
    for some in slices(found.associations):
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


def _of(found: Found) -> Any:
    return or_(
        *(
            or_(InstanceRow.reception_id.in_(some), InstanceRow.submission_id.in_(some))
            for some in slices(found.receptions | found.submissions)
        )
    )


def _receptions(connection: Connection, found: Found) -> Iterator[TraceEvent]:
    workflows: dict[str, dict[str, str]] = {}
    for some in slices(found.receptions):
        for row in connection.execute(select(ReceptionRow.__table__).where(ReceptionRow.reception_id.in_(some))):
            ids = {"reception_id": row.reception_id, "workflow_id": row.workflow_id}
            workflows[row.reception_id] = ids
            text = f"group of {row.instances} instances" + (", incomplete" if row.incomplete else "")
            yield TraceEvent(row.opened_at, "reception", "opened", text, ids)
    for event in _events(connection, "reception", workflows):
        yield TraceEvent(event.at, "reception", event.what, event.text, workflows[event.subject])


def _submissions(connection: Connection, found: Found) -> Iterator[TraceEvent]:
    for event in _events(connection, "submission", found.submissions):
        ids = {"submission_id": event.subject, "workflow_id": event.subject}
        yield TraceEvent(event.at, "submission", event.what, event.text, ids)
    jobs: dict[str, dict[str, str]] = {}
    for some in slices(found.submissions):
        rows = connection.execute(
            select(SubmissionJobRow.__table__).where(SubmissionJobRow.submission_id.in_(some))
        ).mappings()
        for job in rows:
            if is_meant(found, job):
                jobs[f"{job['submission_id']}/{job['job_key']}"] = {
                    name: job[name] for name in ("submission_id", "job_key", "pipeline", "job_id", "job_name")
                }
    for event in _events(connection, "job", jobs):
        ids = jobs[event.subject]
        yield TraceEvent(event.at, "job", event.what, event.text or ids["pipeline"], ids)


def _exports(connection: Connection, found: Found) -> Iterator[TraceEvent]:
    for event in _events(connection, "export", found.tasks):
        yield TraceEvent(event.at, "export", event.what, event.text, {"task_id": event.subject})
    for some in slices(found.tasks):
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
    for some in slices(subjects):
        yield from connection.execute(
            select(EventRow.__table__)
            .where(EventRow.kind == kind, EventRow.subject.in_(some))
            .order_by(EventRow.number)
        )
