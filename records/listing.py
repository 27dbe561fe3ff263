"""Pages of what is recorded, newest first, for the API and the command line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, Integer, cast, func, select
from sqlalchemy.orm import InstrumentedAttribute

from clara_dicom_adapter.configuration.tables import Base, reading
from clara_dicom_adapter.errors import NotFound
from clara_dicom_adapter.records.tables import (
    AssociationRow,
    ExportObjectRow,
    ExportRow,
    ReceptionRow,
    ResultObjectRow,
    SubmissionJobRow,
    SubmissionRow,
)


class Subject(Enum):
    """What there are lists of: its table, its id, and the time it is ordered by."""

    ASSOCIATION = (AssociationRow, "association_id", "started_at")
    RECEPTION = (ReceptionRow, "reception_id", "opened_at")
    SUBMISSION = (SubmissionRow, "submission_id", "created_at")
    JOB = (SubmissionJobRow, "job_id", "changed_at")
    EXPORT = (ExportRow, "task_id", "offered_at")

    @property
    def table(self) -> type[Base]:
        table: type[Base] = self.value[0]
        return table

    @property
    def key(self) -> str:
        """Name of its id."""
        name: str = self.value[1]
        return name

    def column(self, name: str) -> InstrumentedAttribute[Any]:
        found: InstrumentedAttribute[Any] = getattr(self.table, name)
        return found


@dataclass(frozen=True)
class Page:
    """Some of what matches, and how many there are of it."""

    items: Sequence[Mapping[str, Any]]
    total: int


@dataclass(frozen=True)
class Filter:
    """What is asked for.

    Attributes:
        equal: Column to the values it may have; columns without values are not looked at.
        since: Not older than this.
    """

    equal: Mapping[str, Sequence[str]]
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 50
    offset: int = 0


class Listing:
    """Reads only."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def page(self, subject: Subject, wanted: Filter) -> Page:
        """One page; submissions come with their jobs, jobs with their AE titles, exports with their destinations."""
        at = subject.column(subject.value[2])
        conditions: list[ColumnElement[bool]] = [
            subject.column(name).in_(values) for name, values in wanted.equal.items() if values
        ]
        if wanted.since:
            conditions.append(at >= wanted.since)
        if wanted.until:
            conditions.append(at < wanted.until)
        statement = (
            select(subject.table.__table__)
            .where(*conditions)
            .order_by(at.desc(), subject.column(subject.key).desc())
            .limit(wanted.limit)
            .offset(wanted.offset)
        )
        with reading(self._engine) as connection:
            total = connection.scalars(select(func.count()).select_from(subject.table).where(*conditions)).one()
            rows = [dict(row) for row in connection.execute(statement).mappings()]
            return Page(_with_parts(connection, subject, rows), total)

    def get(self, subject: Subject, key: str) -> Mapping[str, Any]:
        """One by its id, of a reception also by its workflow id, the newest then; raises NotFound."""
        columns = [subject.key, *(["workflow_id"] if subject is Subject.RECEPTION else [])]
        for column in columns:
            found = self.page(subject, Filter({column: [key]}, limit=1))
            if found.items:
                return found.items[0]
        raise NotFound(subject.name.lower(), key)

    def export_objects(self, task_id: str, wanted: Filter) -> Page:
        """The newest result of each object of an export at each destination, in the order of the task.

        Behind them those that an earlier offer of it named and the newest does not; their numbers are below 0.

        ``equal`` may name ``destination`` and ``verdict``; times are not looked at. Raises NotFound.
        """
        result, known = ExportObjectRow, ResultObjectRow
        conditions: list[ColumnElement[bool]] = [
            result.task_id == task_id,
            *(getattr(result, name).in_(values) for name, values in wanted.equal.items() if values),
        ]
        statement = (
            select(
                result.number,
                result.destination,
                result.delivered,
                result.verdict,
                result.status,
                result.reason,
                result.comment,
                result.at,
                func.coalesce(known.sop_instance_uid, "").label("sop_instance_uid"),
            )
            .outerjoin(known, (known.task_id == result.task_id) & (known.number == result.number))
            .where(*conditions)
            .order_by(result.number < 0, func.abs(result.number), result.destination)
            .limit(wanted.limit)
            .offset(wanted.offset)
        )
        with reading(self._engine) as connection:
            if connection.scalar(select(ExportRow.task_id).where(ExportRow.task_id == task_id)) is None:
                raise NotFound("export", task_id)
            total = connection.scalars(select(func.count()).select_from(result).where(*conditions)).one()
            return Page([dict(row) for row in connection.execute(statement).mappings()], total)

    def counts(self, subject: Subject) -> Mapping[str, int]:
        """How many there are in each state."""
        state = subject.column("state")
        with reading(self._engine) as connection:
            rows = connection.execute(select(state, func.count()).group_by(state))
            return {str(name): int(count) for name, count in rows}


def _with_parts(connection: Connection, subject: Subject, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    match subject:
        case Subject.SUBMISSION:
            _add_jobs(connection, rows)
        case Subject.JOB:
            _add_ae_titles(connection, rows)
        case Subject.EXPORT:
            _add_destinations(connection, rows)
        case _:
            pass
    return rows


def _add_jobs(connection: Connection, submissions: list[dict[str, Any]]) -> None:
    keys = [row["submission_id"] for row in submissions]
    jobs = connection.execute(
        select(SubmissionJobRow.__table__)
        .where(SubmissionJobRow.submission_id.in_(keys))
        .order_by(SubmissionJobRow.job_key)
    ).mappings()
    by_submission: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}
    for job in jobs:
        by_submission[job["submission_id"]].append(dict(job))
    for row in submissions:
        row["jobs"] = by_submission[row["submission_id"]]


def _add_ae_titles(connection: Connection, jobs: list[dict[str, Any]]) -> None:
    titles = connection.execute(
        select(SubmissionRow.submission_id, SubmissionRow.called_ae_title, SubmissionRow.calling_ae_title).where(
            SubmissionRow.submission_id.in_({job["submission_id"] for job in jobs})
        )
    )
    known = {row.submission_id: (row.called_ae_title, row.calling_ae_title) for row in titles}
    for job in jobs:
        job["called_ae_title"], job["calling_ae_title"] = known.get(job["submission_id"], ("", ""))


def _add_destinations(connection: Connection, exports: list[dict[str, Any]]) -> None:
    keys = [row["task_id"] for row in exports]
    sent = connection.execute(
        select(
            ExportObjectRow.task_id,
            ExportObjectRow.destination,
            func.count().label("results"),
            func.sum(cast(ExportObjectRow.delivered, Integer)).label("delivered"),
        )
        .where(ExportObjectRow.task_id.in_(keys), ExportObjectRow.number >= 0)
        .group_by(ExportObjectRow.task_id, ExportObjectRow.destination)
        .order_by(ExportObjectRow.destination)
    )
    destinations: dict[str, list[dict[str, Any]]] = {key: [] for key in keys}
    for each in sent:
        delivered = int(each.delivered)
        destinations[each.task_id].append(
            {"name": each.destination, "delivered": delivered, "failed": each.results - delivered}
        )
    for row in exports:
        row["destinations"] = destinations[row["task_id"]]
        row["objects"] = len(row["uris"])
