"""The spool's SQLite file: one connection per thread, every write its own durable transaction.

A damaged file is set aside and made anew, but only by a process that is alone with it: everybody else holds a shared
lock. What instances and associations there are is on disk as files, so nothing is lost but who owned what.
"""

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.errors import SpoolUnavailable, SpoolUnusable
from clara_dicom_adapter.spool.node import FileLock
from clara_dicom_adapter.spool.schema import MIGRATIONS

log = structlog.get_logger("clara_dicom_adapter.spool")

DATABASE: Final = "ownership.db"
_BUSY_SECONDS: Final = 30.0


class _Connection(sqlite3.Connection):
    """One that can be referred to weakly, so that a thread's connection ends with the thread."""


class Database:
    """``ownership.db`` of one spool."""

    def __init__(self, root: Path, *, durable: bool) -> None:
        self.path = root / DATABASE
        self.durable = durable
        self._local = threading.local()
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._closed = False
        self._lock = FileLock(root / "ownership.lock")
        try:
            if self._lock.take():
                self._prepare()
            self._lock.take(shared=True, wait=True)  # another process may be preparing it
            if not self.path.exists():
                raise SpoolUnusable(f"{self.path} was removed while other processes use the spool: stop them first")
            with self.read() as connection:
                version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != len(MIGRATIONS):
                raise SpoolUnusable(f"{self.path} has version {version}; this one needs {len(MIGRATIONS)}")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections of all threads."""
        self._closed = True
        for connection in list(self._connections):
            connection.close()
        self._lock.release()

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view."""
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, durable when it ends without an exception."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._connection()
            connection.execute(begin)
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
        except (sqlite3.IntegrityError, sqlite3.DataError):
            raise  # a fault of this program, not of the file
        except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:  # locked, disk full; closed meanwhile
            raise SpoolUnavailable(f"{self.path}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise SpoolUnusable(f"{self.path}: {error}; it is rebuilt when the adapter starts again") from error

    def _connection(self) -> sqlite3.Connection:
        if self._closed:
            raise SpoolUnavailable(f"{self.path} is closed")
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            self._local.connection = connection
            self._connections.add(connection)
        return connection

    def _connect(self) -> _Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False, factory=_Connection
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {'FULL' if self.durable else 'NORMAL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    # ---- alone with the file ----

    def _prepare(self) -> None:
        known = self.path.exists()
        if not known:  # a log without its database is of no use, and would be applied to the new one
            for suffix in ("-wal", "-shm"):
                self.path.with_name(DATABASE + suffix).unlink(missing_ok=True)
        try:
            self._migrate()
        except sqlite3.OperationalError as error:  # the disk, not the file
            raise SpoolUnusable(f"{self.path} cannot be opened: {error}") from error
        except sqlite3.DatabaseError as error:
            self._set_aside(str(error))
            self._migrate()
        else:
            if not known and any((self.path.parent / "associations").glob("*")):
                log.warning(
                    "ownership_missing",
                    path=str(self.path),
                    remedy="made anew; every instance on disk is indexed and handed over again",
                )

    def _migrate(self) -> None:
        with closing(self._connect()) as connection:
            problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise SpoolUnusable(f"{self.path} has version {version}, made by a newer version of the adapter")
            for number, statements in enumerate(MIGRATIONS[version:], start=version + 1):
                connection.execute("BEGIN IMMEDIATE")
                for statement in statements:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
                connection.execute("COMMIT")

    def _set_aside(self, reason: str) -> None:
        aside = self.path.with_name(f"{DATABASE}.damaged-{time.time_ns()}")
        self.path.rename(aside)
        for suffix in ("-wal", "-shm"):
            companion = self.path.with_name(DATABASE + suffix)
            if companion.exists():
                companion.rename(aside.with_name(aside.name + suffix))
        log.error(
            "ownership_damaged",
            path=str(aside),
            reason=reason,
            remedy="set aside; every instance on disk is indexed and handed over again",
        )
