"""Jobs of the embedded platform: their states, in the database.

PENDING -> RUNNING -> STOPPED. ``handed_over`` tells whether Temporal has the job's workflow; a started job without it
is handed over again and again, so that a job which was answered as started always runs.
"""

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clara_dicom_adapter.clara.embedded.database import Database
from clara_dicom_adapter.clara.embedded.definition import PipelineDefinition
from clara_dicom_adapter.clara.embedded.names import checked_id, with_added, without
from clara_dicom_adapter.clara.embedded.payloads import PayloadStore, PayloadType
from clara_dicom_adapter.clara.embedded.pipelines import StoredPipeline
from clara_dicom_adapter.clara.embedded.refusal import (
    JOB_ID_MALFORMED,
    JOB_NAME_INVALID,
    JOB_UNKNOWN,
    Refusal,
)
from clara_dicom_adapter.clara.metadata import MAX_JOB_NAME
from clara_dicom_adapter.clara.model import JobPriority, JobState, JobStatus, OperatorStatus


@dataclass(frozen=True)
class Job:
    job_id: str
    payload_id: str
    pipeline_id: str
    name: str
    priority: JobPriority
    state: JobState
    status: JobStatus
    created: float
    started: float | None
    stopped: float | None
    metadata: Mapping[str, str]
    messages: tuple[str, ...]
    definition: PipelineDefinition
    """As it was when the job was created."""
    definition_folder: Path
    variables: Mapping[str, str]
    handed_over: bool
    cancel_reason: str | None
    """Set once someone has asked for the job's end."""


@dataclass(frozen=True)
class OperatorRecord:
    name: str
    status: OperatorStatus
    started: float | None
    stopped: float | None
    attempt: str | None
    message: str


class JobStore:
    """Jobs and their operators."""

    def __init__(self, database: Database, payloads: PayloadStore) -> None:
        self._database = database
        self._payloads = payloads

    # ---- reading ----

    def get(self, job_id: str) -> Job:
        """One job by an id from the wire."""
        return _job(_row(self._database.read(), job_id))

    def operators(self, job_id: str) -> list[OperatorRecord]:
        """A job's operators in order."""
        rows = self._database.read().execute("SELECT * FROM operator WHERE job_id = ? ORDER BY position", (job_id,))
        return [_operator(row) for row in rows]

    def find(
        self,
        states: Iterable[int] = (),
        statuses: Iterable[int] = (),
        pipeline_ids: Iterable[str] = (),
        completed_before: float | None = None,
        created_after: float | None = None,
    ) -> list[Job]:
        """Jobs that meet every given condition, oldest first."""
        conditions, values = ["1 = 1"], list[object]()
        for column, wanted in (("state", [*states]), ("status", [*statuses]), ("pipeline_id", [*pipeline_ids])):
            if wanted:
                conditions.append(f"{column} IN ({', '.join('?' * len(wanted))})")
                values += wanted
        if completed_before is not None:
            conditions.append("stopped < ?")
            values.append(completed_before)
        if created_after is not None:
            conditions.append("created > ?")
            values.append(created_after)
        query = f"SELECT * FROM job WHERE {' AND '.join(conditions)} ORDER BY created, rowid"  # noqa: S608 - fixed words
        return [_job(row) for row in self._database.read().execute(query, values).fetchall()]

    def to_hand_over(self) -> list[Job]:
        """Running jobs that Temporal has not been told of, or whose end it may not have been told of."""
        rows = self._database.read().execute(
            "SELECT * FROM job WHERE state = ? AND (handed_over = 0 OR cancel_reason IS NOT NULL) ORDER BY started",
            (JobState.RUNNING.value,),
        )
        return [_job(row) for row in rows.fetchall()]

    # ---- what clients ask for ----

    def create(
        self,
        pipeline: StoredPipeline,
        name: str,
        priority: JobPriority,
        metadata: Mapping[str, str],
        input_payloads: Sequence[str] = (),
    ) -> Job:
        """A pending job with an empty payload, or one that holds copies of reusable payloads."""
        if not 0 < len(name) <= MAX_JOB_NAME or not name.isprintable():
            raise Refusal(f"a job's name has 1 to {MAX_JOB_NAME} printable characters", JOB_NAME_INVALID)
        entries = with_added({}, metadata)
        job_id, payload_id = uuid.uuid4().hex, uuid.uuid4().hex
        self._payloads.make_folder(payload_id)
        try:
            self._payloads.copy_inputs(payload_id, input_payloads)
            with self._database.write() as connection:
                self._payloads.add_row(connection, payload_id, PayloadType.PIPELINE, job_id, {})
                connection.execute(
                    "INSERT INTO job (id, payload_id, pipeline_id, name, priority, state, status, created, metadata, "
                    "messages, definition, definition_folder, variables) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, '[]', ?, ?, '{}')",
                    (
                        job_id,
                        payload_id,
                        pipeline.pipeline_id,
                        name,
                        (priority or JobPriority.NORMAL).value,
                        JobState.PENDING.value,
                        JobStatus.HEALTHY.value,
                        time.time(),
                        json.dumps(entries),
                        pipeline.definition.model_dump_json(by_alias=True),
                        str(pipeline.folder),
                    ),
                )
                connection.executemany(
                    "INSERT INTO operator (job_id, position, name, status) VALUES (?, ?, ?, ?)",
                    [
                        (job_id, position, operator.name, OperatorStatus.PENDING.value)
                        for position, operator in enumerate(pipeline.definition.operators)
                    ],
                )
        except BaseException:
            self._payloads.remove_files(payload_id)
            raise
        return self.get(job_id)

    def start(self, job_id: str, variables: Mapping[str, str]) -> Job:
        """Make a pending job a running one; from here on it runs, whatever is killed."""
        with self._database.write() as connection:
            job = _job(_row(connection, job_id))
            if job.state is not JobState.PENDING:
                raise Refusal(f"the job is {job.state.name} already")
            unknown = sorted(set(variables) - set(job.definition.parameters))
            if unknown:
                raise Refusal(f"the pipeline has no parameter {', '.join(unknown)}")
            connection.execute(
                "UPDATE job SET state = ?, started = ?, variables = ? WHERE id = ?",
                (JobState.RUNNING.value, time.time(), json.dumps(dict(variables)), job.job_id),
            )
        return self.get(job_id)

    def cancel(self, job_id: str, reason: str) -> Job:
        """End a pending job at once; note for a running one that it shall end; leave an ended one as it is."""
        with self._database.write() as connection:
            job = _job(_row(connection, job_id))
            if job.state is JobState.PENDING:
                _stop(connection, job.job_id, JobStatus.CANCELED, [reason] if reason else [])
            elif job.state is JobState.RUNNING and job.cancel_reason is None:
                connection.execute("UPDATE job SET cancel_reason = ? WHERE id = ?", (reason, job.job_id))
        return self.get(job_id)

    def add_metadata(self, job_id: str, added: Mapping[str, str]) -> None:
        self._change_metadata(job_id, lambda existing: with_added(existing, added))

    def remove_metadata(self, job_id: str, keys: Iterable[str]) -> dict[str, str]:
        return self._change_metadata(job_id, lambda existing: without(existing, keys))

    def _change_metadata(self, job_id: str, change: Callable[[Mapping[str, str]], dict[str, str]]) -> dict[str, str]:
        with self._database.write() as connection:
            job = _job(_row(connection, job_id))
            changed = change(job.metadata)
            connection.execute("UPDATE job SET metadata = ? WHERE id = ?", (json.dumps(changed), job.job_id))
        return changed

    # ---- what happens to a started job ----

    def handed_over(self, job_id: str) -> None:
        """Temporal has the job's workflow."""
        with self._database.write() as connection:
            connection.execute("UPDATE job SET handed_over = 1 WHERE id = ?", (job_id,))

    def operator_started(self, job_id: str, name: str, attempt: str) -> None:
        """An attempt of an operator begins; whatever an earlier one does no longer counts."""
        with self._database.write() as connection:
            connection.execute(
                "UPDATE operator SET status = ?, started = ?, attempt = ?, message = '' WHERE job_id = ? AND name = ?",
                (OperatorStatus.RUNNING.value, time.time(), attempt, job_id, name),
            )

    def operator_ended(
        self, job_id: str, name: str, attempt: str, message: str, publish: Callable[[], None] | None
    ) -> bool:
        """An attempt has ended; False when it is no longer the one that counts.

        Args:
            publish: Puts the output in its place; None when the operator failed.
        """
        status = OperatorStatus.FAULTED if publish is None else OperatorStatus.COMPLETED
        with self._database.write() as connection:
            row = connection.execute(
                "SELECT attempt FROM operator WHERE job_id = ? AND name = ?", (job_id, name)
            ).fetchone()
            if row is None or row["attempt"] != attempt:
                return False
            if publish is not None:
                publish()
            connection.execute(
                "UPDATE operator SET status = ?, stopped = ?, message = ? WHERE job_id = ? AND name = ?",
                (status.value, time.time(), message, job_id, name),
            )
        return True

    def finish(
        self,
        job_id: str,
        status: JobStatus,
        messages: Sequence[str],
        register: Callable[[sqlite3.Connection], int],
    ) -> int:
        """End a running job and register its results, both or neither; safe to repeat.

        Returns:
            How many tasks were registered, now or by an earlier call.
        """
        with self._database.write() as connection:
            job = _job(_row(connection, job_id))
            if job.state is JobState.STOPPED:
                found = connection.execute("SELECT count(*) FROM task WHERE job_id = ?", (job_id,)).fetchone()
                return int(found[0])
            registered = register(connection)
            _stop(connection, job_id, status, messages)
        return registered

    # ---- clearing up ----

    def payloads_to_remove(self, ended_before: float) -> list[str]:
        """Payloads of jobs that ended before a time, as did all their tasks."""
        rows = self._database.read().execute(
            "SELECT payload.id FROM payload JOIN job ON job.id = payload.job_id "
            "WHERE payload.removed IS NULL AND job.state = ? AND job.stopped < ? AND NOT EXISTS "
            "(SELECT 1 FROM task WHERE task.job_id = job.id AND (task.ended IS NULL OR task.ended >= ?))",
            (JobState.STOPPED.value, ended_before, ended_before),
        )
        return [row["id"] for row in rows.fetchall()]

    def definition_folders_in_use(self) -> list[str]:
        """Folders of the definitions of jobs that have not ended."""
        rows = self._database.read().execute(
            "SELECT DISTINCT definition_folder FROM job WHERE state != ?", (JobState.STOPPED.value,)
        )
        return [row["definition_folder"] for row in rows.fetchall()]

    def forget(self, ended_before: float) -> list[str]:
        """Delete the rows of jobs that ended before a time and have no payload any more; returns their ids."""
        with self._database.write() as connection:
            rows = connection.execute(
                "SELECT job.id, job.payload_id FROM job JOIN payload ON payload.id = job.payload_id "
                "WHERE job.state = ? AND job.stopped < ? AND payload.removed IS NOT NULL",
                (JobState.STOPPED.value, ended_before),
            ).fetchall()
            for row in rows:
                connection.execute("DELETE FROM task WHERE job_id = ?", (row["id"],))
                connection.execute("DELETE FROM job WHERE id = ?", (row["id"],))
                connection.execute("DELETE FROM payload WHERE id = ?", (row["payload_id"],))
        return [row["id"] for row in rows]


def _stop(connection: sqlite3.Connection, job_id: str, status: JobStatus, messages: Sequence[str]) -> None:
    connection.execute(
        "UPDATE job SET state = ?, status = ?, stopped = ?, messages = ? WHERE id = ?",
        (JobState.STOPPED.value, status.value, time.time(), json.dumps([*messages]), job_id),
    )
    connection.execute(  # the wire has no word for an operator that was stopped
        "UPDATE operator SET status = ?, stopped = ? WHERE job_id = ? AND status = ?",
        (OperatorStatus.FAULTED.value, time.time(), job_id, OperatorStatus.RUNNING.value),
    )


def _row(connection: sqlite3.Connection, job_id: str) -> sqlite3.Row:
    wanted = checked_id(job_id, "job", JOB_ID_MALFORMED)
    row: sqlite3.Row | None = connection.execute("SELECT * FROM job WHERE id = ?", (wanted,)).fetchone()
    if row is None:
        raise Refusal("job is unknown", JOB_UNKNOWN)
    return row


def _job(row: sqlite3.Row) -> Job:
    return Job(
        job_id=row["id"],
        payload_id=row["payload_id"],
        pipeline_id=row["pipeline_id"],
        name=row["name"],
        priority=JobPriority(row["priority"]),
        state=JobState(row["state"]),
        status=JobStatus(row["status"]),
        created=row["created"],
        started=row["started"],
        stopped=row["stopped"],
        metadata=json.loads(row["metadata"]),
        messages=tuple(json.loads(row["messages"])),
        definition=PipelineDefinition.model_validate_json(row["definition"]),
        definition_folder=Path(row["definition_folder"]),
        variables=json.loads(row["variables"]),
        handed_over=bool(row["handed_over"]),
        cancel_reason=row["cancel_reason"],
    )


def _operator(row: sqlite3.Row) -> OperatorRecord:
    return OperatorRecord(
        row["name"], OperatorStatus(row["status"]), row["started"], row["stopped"], row["attempt"], row["message"]
    )
