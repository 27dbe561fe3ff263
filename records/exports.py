"""What the Results Service has offered for export, what each destination has got, and what was reported."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, delete, func, select, update

from clara_dicom_adapter.configuration.tables import CounterRow, reading
from clara_dicom_adapter.records.tables import (
    ExportObjectRow,
    ExportRow,
    ResultObjectRow,
    SubmissionJobRow,
    SubmissionRow,
)
from clara_dicom_adapter.records.texts import bounded, plain
from clara_dicom_adapter.records.upsert import Clock, event, now, upsert

_REPORTS = "reports"
OFFERED = "Offered"
REPORTED = "Reported"
UNKNOWN = "unknown"
"""The verdict on what was sent without being told what became of it."""
_LONGEST_IDENTIFIER: Final = 64
_MOST_RETRIES: Final = 2**31 - 1


class OfferedTask(Protocol):
    """A pending task, as the Results Service client read it."""

    @property
    def task_id(self) -> str: ...
    @property
    def job_id(self) -> str: ...
    @property
    def pipeline_id(self) -> str: ...
    @property
    def payload_id(self) -> str: ...
    @property
    def parameters(self) -> str: ...
    @property
    def retries(self) -> int: ...
    @property
    def uris(self) -> Sequence[str]: ...


class Outcome(Protocol):
    """The result of one object for one destination."""

    @property
    def index(self) -> int: ...
    @property
    def verdict(self) -> str: ...
    @property
    def status(self) -> int | None: ...
    @property
    def reason(self) -> str: ...
    @property
    def comment(self) -> str: ...
    @property
    def delivered(self) -> bool: ...


@dataclass(frozen=True)
class ResultObject:
    """Which object a file of a task is; a UID that cannot be read is empty.

    Attributes:
        number: Place in the task's list of uris, from 0.
    """

    number: int
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


@dataclass(frozen=True)
class ExportTask:
    """A task as it is stored.

    Attributes:
        offer: Counts how often the Results Service has offered it.
        open: Whether the report of that offer is outstanding.
        pipeline: As the AE title names it, when the job is ours; else empty.
        called_ae_title: Our AE title that received what the job was made of, when the job is ours; else empty.
    """

    task_id: str
    agent: str
    offer: int
    open: bool
    job_id: str
    pipeline_id: str
    payload_id: str
    parameters: str
    retries: int
    uris: tuple[str, ...]
    pipeline: str = ""
    called_ae_title: str = ""


class ExportRecords:
    """Written by the poller and by activities of the ExportWorkflow; every call may be repeated."""

    def __init__(self, engine: Engine, clock: Clock = now) -> None:
        self._engine = engine
        self._clock = clock

    # ---- offers ----

    def report_mark(self) -> int:
        """Grows with every confirmed report."""
        with reading(self._engine) as connection:
            return connection.scalar(select(CounterRow.value).where(CounterRow.name == _REPORTS)) or 0

    def offer(self, agent: str, task: OfferedTask, mark: int) -> int | None:
        """Store a pending task and return the number of its open offer, begun now or before.

        None: its last report was confirmed after ``mark``, so that the answer it stands in proves nothing.
        """
        at = self._clock()
        with self._engine.begin() as connection:
            known = connection.execute(
                select(ExportRow.offer, ExportRow.open, ExportRow.report_mark, ExportRow.uris)
                .where(ExportRow.task_id == task.task_id)
                .with_for_update()
            ).first()
            if known is not None and known.open:
                return int(known.offer)
            if known is not None and known.report_mark > mark:
                return None
            if known is None:
                upsert(connection, ExportRow, [_new_row(agent, task) | {"offered_at": at, "changed_at": at}])
            else:
                _renumber(connection, task.task_id, known.uris, _told(task)["uris"])
                connection.execute(
                    update(ExportRow)
                    .where(ExportRow.task_id == task.task_id, ExportRow.open.is_(False))
                    .values(
                        _told(task) | {"offer": ExportRow.offer + 1, "open": True, "state": OFFERED, "changed_at": at}
                    )
                )
            number = connection.scalars(select(ExportRow.offer).where(ExportRow.task_id == task.task_id)).one()
            event(connection, at, kind="export", subject=task.task_id, what=OFFERED, text=f"offer {number}")
            return number

    def in_flight(self, agent: str) -> int:
        """How many tasks of an agent have a report outstanding."""
        with reading(self._engine) as connection:
            statement = select(func.count()).where(ExportRow.agent == agent, ExportRow.open.is_(True))
            return connection.scalars(statement).one()

    def is_open(self, task_id: str, offer: int) -> bool:
        """Whether the report of this very offer is outstanding."""
        task = self.task(task_id)
        return task is not None and task.open and task.offer == offer

    def reported(
        self, task_id: str, offer: int, *, success: bool, retry_later: bool, accepted: bool, message: str
    ) -> None:
        """The Results Service has answered the report of an offer; only the first answer counts."""
        at = self._clock()
        with self._engine.begin() as connection:
            mark = _next_mark(connection)
            closed = connection.execute(
                update(ExportRow)
                .where(ExportRow.task_id == task_id, ExportRow.offer == offer, ExportRow.open.is_(True))
                .values(
                    open=False,
                    report_mark=mark,
                    success=success,
                    retry_later=retry_later,
                    accepted=accepted,
                    message=bounded(message),
                    reported_at=at,
                    changed_at=at,
                )
            )
            if closed.rowcount:
                outcome = "success" if success else "failure, to be offered again" if retry_later else "failure"
                text = outcome if accepted else f"{outcome}; refused by the Results Service"
                event(connection, at, kind="export", subject=task_id, what=REPORTED, text=text)

    # ---- the task and its objects ----

    def task(self, task_id: str) -> ExportTask | None:
        """A stored task, with all its uris."""
        with reading(self._engine) as connection:
            row = connection.execute(select(ExportRow.__table__).where(ExportRow.task_id == task_id)).first()
            if row is None:
                return None
            ours = connection.execute(
                select(SubmissionJobRow.pipeline, SubmissionRow.called_ae_title)
                .join(SubmissionRow, SubmissionRow.submission_id == SubmissionJobRow.submission_id)
                .where(SubmissionJobRow.job_id == row.job_id, SubmissionJobRow.job_id != "")
            ).first()
        return ExportTask(
            task_id=row.task_id,
            agent=row.agent,
            offer=row.offer,
            open=row.open,
            job_id=row.job_id,
            pipeline_id=row.pipeline_id,
            payload_id=row.payload_id,
            parameters=row.parameters,
            retries=row.retries,
            uris=tuple(row.uris),
            pipeline=ours.pipeline if ours else "",
            called_ae_title=ours.called_ae_title if ours else "",
        )

    def delivered(self, task_id: str, destination: str) -> frozenset[int]:
        """Places in the task's list of what a destination has confirmed; its name is compared without case."""
        with reading(self._engine) as connection:
            return _delivered(connection, task_id, _known_as(connection, task_id, destination))

    def unknown(self, task_id: str, destination: str) -> Mapping[int, str]:
        """Places in the task's list of what a destination may have, and why nobody knows; its name as above."""
        with reading(self._engine) as connection:
            statement = select(ExportObjectRow.number, ExportObjectRow.reason).where(
                ExportObjectRow.task_id == task_id,
                ExportObjectRow.destination == _known_as(connection, task_id, destination),
                ExportObjectRow.verdict == UNKNOWN,
                ExportObjectRow.number >= 0,
            )
            return {int(row.number): str(row.reason) for row in connection.execute(statement)}

    def save_results(self, task_id: str, destination: str, results: Sequence[Outcome]) -> None:
        """Results in the order they came; what was delivered once stays delivered.

        A destination keeps the name that its first results came under, whatever the case of it now.
        """
        at = self._clock()
        newest: dict[int, Outcome] = {}
        for result in results:
            before = newest.get(result.index)
            if before is None or result.delivered or not before.delivered:
                newest[result.index] = result
        rows: list[dict[str, Any]] = [
            {
                "task_id": task_id,
                "number": result.index,
                "delivered": result.delivered,
                "verdict": str(result.verdict),
                "status": result.status,
                "reason": bounded(result.reason),
                "comment": bounded(result.comment, 64),
                "at": at,
            }
            for result in newest.values()
        ]
        with self._engine.begin() as connection:
            known = _known_as(connection, task_id, destination)
            done = _delivered(connection, task_id, known)
            todo = [row | {"destination": known} for row in rows if row["number"] not in done]
            upsert(connection, ExportObjectRow, todo, ("delivered", "verdict", "status", "reason", "comment", "at"))

    def save_objects(self, task_id: str, objects: Sequence[ResultObject]) -> None:
        """Which objects the task's files are; what was known of them before is replaced."""
        uids = ("sop_instance_uid", "study_instance_uid", "series_instance_uid")
        with self._engine.begin() as connection:
            upsert(connection, ResultObjectRow, [{"task_id": task_id, **asdict(each)} for each in objects], uids)

    def note(self, task_id: str, state: str, message: str) -> None:
        """The export is in this state now."""
        at = self._clock()
        with self._engine.begin() as connection:
            mine = ExportRow.task_id == task_id
            changed = connection.execute(
                update(ExportRow).where(mine, ExportRow.state != state).values(state=state, changed_at=at)
            )
            connection.execute(update(ExportRow).where(mine).values(message=bounded(message)))
            if changed.rowcount:
                event(connection, at, kind="export", subject=task_id, what=state, text=message)


def _renumber(connection: Connection, task_id: str, before: Sequence[str], uris: Sequence[str]) -> None:
    """What is known of objects follows their uris to other places; what is no longer asked for goes before the first.

    There it tells an operator what has been, and nobody else asks.
    """
    if before == uris:
        return
    places: dict[str, list[int]] = {}
    for number in reversed(range(len(uris))):
        places.setdefault(uris[number], []).append(number)
    moved = {number: places[uri].pop() for number, uri in enumerate(before) if places.get(uri)}
    tables = (ExportObjectRow, ResultObjectRow)
    known = {
        table: connection.execute(select(table.__table__).where(table.task_id == task_id)).mappings().all()
        for table in tables
    }
    numbers = sorted({row["number"] for rows in known.values() for row in rows})
    lowest = min([0, *numbers])
    dropped = [number for number in numbers if number >= 0 and number not in moved]
    moved |= {number: lowest - count for count, number in enumerate(dropped, start=1)}
    moved |= {number: number for number in numbers if number < 0}
    for table, rows in known.items():
        connection.execute(delete(table).where(table.task_id == task_id))
        upsert(connection, table, [dict(row) | {"number": moved[row["number"]]} for row in rows])


def _known_as(connection: Connection, task_id: str, destination: str) -> str:
    """The name under which the results of a destination are stored; compared here, for SQLite folds ASCII only."""
    names = connection.scalars(select(ExportObjectRow.destination).where(ExportObjectRow.task_id == task_id).distinct())
    return next((name for name in names if name.casefold() == destination.casefold()), destination)


def _delivered(connection: Connection, task_id: str, destination: str) -> frozenset[int]:
    statement = select(ExportObjectRow.number).where(
        ExportObjectRow.task_id == task_id,
        ExportObjectRow.destination == destination,
        ExportObjectRow.delivered.is_(True),
        ExportObjectRow.number >= 0,
    )
    return frozenset(connection.scalars(statement))


def _next_mark(connection: Connection) -> int:
    """Count a report; the counter's row also makes reports wait for each other, so that marks grow as they commit."""
    counted = update(CounterRow).where(CounterRow.name == _REPORTS).values(value=CounterRow.value + 1)
    return int(connection.execute(counted.returning(CounterRow.value)).scalar_one())


def _told(task: OfferedTask) -> dict[str, Any]:
    return {
        "job_id": _identifier(task.job_id),
        "pipeline_id": _identifier(task.pipeline_id),
        "payload_id": _identifier(task.payload_id),
        "parameters": plain(task.parameters),
        "uris": [plain(uri) for uri in task.uris],
        "retries": min(max(task.retries, 0), _MOST_RETRIES),
    }


def _identifier(text: str) -> str:
    """What cannot be an id becomes one that nothing has; what it leads to is then missing, and reported as such."""
    fits = len(text) <= _LONGEST_IDENTIFIER and text == plain(text)
    return text if fits else bounded(text, _LONGEST_IDENTIFIER - 1) + "?"


def _new_row(agent: str, task: OfferedTask) -> dict[str, Any]:
    return _told(task) | {
        "task_id": task.task_id,
        "agent": agent,
        "offer": 1,
        "open": True,
        "report_mark": 0,
        "state": OFFERED,
        "message": "",
        **dict.fromkeys(("success", "retry_later", "accepted", "reported_at")),
    }
