"""Tasks of the Results Service: files of a payload that an agent shall deal with.

A task is offered until it is reported; a failure that asks for it is offered again after a pause that doubles, so that
a PACS may be away for a while before its task has used up its attempts.
"""

import json
import sqlite3
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from clara_dicom_adapter.clara.embedded.database import Database

RETRY_DELAY_SECONDS: Final = 60.0
"""Pause before a failed task is offered again the first time."""
LONGEST_DELAY_SECONDS: Final = 3600.0


class TaskState(StrEnum):
    PENDING = "Pending"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class TaskUnknown(Exception):
    """No task has this id."""


class TaskEnded(Exception):
    """The task was reported with another result."""


@dataclass(frozen=True)
class NewTask:
    job_id: str
    pipeline_id: str
    payload_id: str
    agent: str
    parameters: str
    uris: tuple[str, ...]


@dataclass(frozen=True)
class Task(NewTask):
    task_id: str
    state: TaskState
    retries: int


class TaskStore:
    """Tasks in the database."""

    def __init__(self, database: Database, retry_delay_seconds: float = RETRY_DELAY_SECONDS) -> None:
        self._database = database
        self._retry_delay_seconds = retry_delay_seconds

    @staticmethod
    def register(connection: sqlite3.Connection, tasks: Sequence[NewTask]) -> list[str]:
        """Add tasks within a transaction of the caller's; returns their ids."""
        ids = [str(uuid.uuid4()) for _ in tasks]
        connection.executemany(
            "INSERT INTO task (id, job_id, pipeline_id, payload_id, agent, parameters, state, uris, queued) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    task_id,
                    task.job_id,
                    task.pipeline_id,
                    task.payload_id,
                    task.agent,
                    task.parameters,
                    TaskState.PENDING.value,
                    json.dumps(task.uris),
                    time.time(),
                )
                for task_id, task in zip(ids, tasks, strict=True)
            ],
        )
        return ids

    def add(self, task: NewTask) -> str:
        """Add one task by itself."""
        with self._database.write() as connection:
            return self.register(connection, [task])[0]

    def offered(self, agent: str, size: int) -> list[Task]:
        """Tasks that wait for an agent now, those that have waited longest first."""
        rows = self._database.read().execute(
            "SELECT * FROM task WHERE agent = ? AND state = ? AND queued <= ? ORDER BY queued, rowid LIMIT ?",
            (agent, TaskState.PENDING.value, time.time(), size),
        )
        return [_task(row) for row in rows.fetchall()]

    def find(self, *, agent: str | None = None, state: TaskState | None = None, size: int = 1000) -> list[Task]:
        """Tasks, those that have waited longest first."""
        rows = self._database.read().execute(
            "SELECT * FROM task WHERE (?1 IS NULL OR agent = ?1) AND (?2 IS NULL OR state = ?2) "
            "ORDER BY queued, rowid LIMIT ?3",
            (agent, state.value if state else None, size),
        )
        return [_task(row) for row in rows.fetchall()]

    def succeeded(self, task_id: str) -> None:
        """The agent is done; safe to repeat."""
        self._end(task_id, TaskState.SUCCEEDED)

    def failed(self, task_id: str, *, retry_later: bool) -> None:
        """The agent could not do it; offered again when it asks for that, otherwise over for good."""
        if not retry_later:
            self._end(task_id, TaskState.FAILED)
            return
        with self._database.write() as connection:
            if _state(connection, task_id) is not TaskState.PENDING:
                raise TaskEnded
            (retries,) = connection.execute("SELECT retries FROM task WHERE id = ?", (_key(task_id),)).fetchone()
            pause = min(self._retry_delay_seconds * 2**retries, LONGEST_DELAY_SECONDS)
            connection.execute(
                "UPDATE task SET retries = retries + 1, queued = ? WHERE id = ?", (time.time() + pause, _key(task_id))
            )

    def _end(self, task_id: str, state: TaskState) -> None:
        with self._database.write() as connection:
            before = _state(connection, task_id)
            if before not in (TaskState.PENDING, state):
                raise TaskEnded
            if before is TaskState.PENDING:
                connection.execute(
                    "UPDATE task SET state = ?, ended = ? WHERE id = ?", (state.value, time.time(), _key(task_id))
                )


def _key(task_id: str) -> str:
    return task_id.lower()


def _state(connection: sqlite3.Connection, task_id: str) -> TaskState:
    row = connection.execute("SELECT state FROM task WHERE id = ?", (_key(task_id),)).fetchone()
    if row is None:
        raise TaskUnknown
    return TaskState(row["state"])


def _task(row: sqlite3.Row) -> Task:
    return Task(
        job_id=row["job_id"],
        pipeline_id=row["pipeline_id"],
        payload_id=row["payload_id"],
        agent=row["agent"],
        parameters=row["parameters"],
        uris=tuple(json.loads(row["uris"])),
        task_id=row["id"],
        state=TaskState(row["state"]),
        retries=row["retries"],
    )
