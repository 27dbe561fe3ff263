"""The embedded platform's SQLite database: what it has answered for is on the disk.

One file, ``platform.db``; one connection per thread. Times are seconds since 1970.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from clara_dicom_adapter.errors import SpoolUnusable

_VERSION: Final = 1
_SCHEMA: Final = """
CREATE TABLE payload (
    id TEXT PRIMARY KEY, type INTEGER NOT NULL, job_id TEXT, metadata TEXT NOT NULL, created REAL NOT NULL, removed REAL
);
CREATE TABLE job (
    id TEXT PRIMARY KEY, payload_id TEXT NOT NULL REFERENCES payload (id), pipeline_id TEXT NOT NULL,
    name TEXT NOT NULL, priority INTEGER NOT NULL, state INTEGER NOT NULL, status INTEGER NOT NULL,
    created REAL NOT NULL, started REAL, stopped REAL, metadata TEXT NOT NULL, messages TEXT NOT NULL,
    definition TEXT NOT NULL, definition_folder TEXT NOT NULL, variables TEXT NOT NULL,
    handed_over INTEGER NOT NULL DEFAULT 0, cancel_reason TEXT
);
CREATE INDEX job_state ON job (state);
CREATE TABLE operator (
    job_id TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE, position INTEGER NOT NULL, name TEXT NOT NULL,
    status INTEGER NOT NULL, started REAL, stopped REAL, attempt TEXT, message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job_id, name)
);
CREATE TABLE task (
    id TEXT PRIMARY KEY, job_id TEXT NOT NULL, pipeline_id TEXT NOT NULL, payload_id TEXT NOT NULL,
    agent TEXT NOT NULL, parameters TEXT NOT NULL, state TEXT NOT NULL, retries INTEGER NOT NULL DEFAULT 0,
    uris TEXT NOT NULL, queued REAL NOT NULL, ended REAL
);
CREATE INDEX task_pending ON task (state, agent, queued);
CREATE INDEX task_job ON task (job_id);
CREATE TABLE pipeline (id TEXT PRIMARY KEY, revision TEXT NOT NULL);
CREATE TABLE pipeline_metadata (id TEXT PRIMARY KEY, metadata TEXT NOT NULL);
"""


class Database:
    """Connections to ``platform.db``; every :meth:`write` is one durable transaction.

    Raises:
        SpoolUnusable: The file is damaged, or of another version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            raise SpoolUnusable(f"{path} cannot be used: {error}") from error

    def _prepare(self) -> None:
        with self.write() as connection:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise SpoolUnusable(f"{self._path} has format {version}, this version knows {_VERSION}")
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {_VERSION}")

    def read(self) -> sqlite3.Connection:
        """This thread's connection, for single statements that change nothing."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")  # a power cut must not forget what was answered
            connection.execute("PRAGMA foreign_keys = ON")
            self._local.connection = connection
            with self._lock:
                self._connections.append(connection)
        return connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction that others' writes wait for; committed, and on the disk, when the block ends well."""
        connection = self.read()
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def close(self) -> None:
        """Close every thread's connection; nobody may use the database afterwards."""
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()
