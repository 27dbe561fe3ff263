"""Opening the SQL database: SQLite in the data folder, or PostgreSQL by URL; its schema is brought up to date first.

Several processes may open it at once: one upgrades the schema under a lock, the others find it done.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import DatabaseError, InterfaceError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from clara_dicom_adapter.configuration.connection import database_url
from clara_dicom_adapter.configuration.settings import DataFolder, Settings
from clara_dicom_adapter.configuration.tables import READ_ONLY, reading
from clara_dicom_adapter.errors import ConfigurationInvalid, DatabaseUnavailable

BUSY_SECONDS: Final = 30
"""How long a writer waits for another one."""
_POOL: Final[dict[str, Any]] = {"pool_size": 10, "max_overflow": 40, "pool_timeout": BUSY_SECONDS}
"""More than the threads of any part, so that nobody waits for a connection that a waiting thread holds."""
_MY_TURN: Final = "clara_writing"
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_NEWER: Final = "The database was written by a newer version of the adapter; this one cannot use it."
_UPGRADE_LOCK: Final = 0x436C617261  # of PostgreSQL's advisory locks: "Clara"


def open_engine(database: str | Settings, data: DataFolder) -> Engine:
    """Open the configured database, and upgrade its schema.

    Args:
        database: SQLAlchemy URL, ``Data Source=FILE``, or settings that hold it; empty: a file in the data folder.

    Raises:
        ConfigurationInvalid: The text is no database that we know.
    """
    url = database_url(database.database if isinstance(database, Settings) else database, data)
    engine = _engine(url)
    try:
        upgrade(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        engine = create_engine(url, pool_pre_ping=True, hide_parameters=True, **_POOL)
        event.listen(engine, "handle_error", _translate)
        return engine
    file = Path(str(url.database))
    file.parent.mkdir(parents=True, exist_ok=True)
    # autocommit in the driver: transactions begin where SQLAlchemy says, see _begin
    engine = create_engine(
        url, connect_args={"timeout": BUSY_SECONDS, "isolation_level": None}, hide_parameters=True, **_POOL
    )
    event.listen(engine, "handle_error", _translate)
    event.listen(engine, "connect", _setting_pragmas(file))
    queue = _WritersQueue()
    event.listen(engine, "begin", queue.begin)
    event.listen(engine, "checkin", queue.leave)
    return engine


def _translate(context: ExceptionContext) -> None:
    """A database that cannot be reached is ours to name; the driver's text may hold what was to be written."""
    error = context.sqlalchemy_exception
    # of DatabaseError its very self, which SQLite raises for a damaged file; most others under it are defects of ours
    unusable = isinstance(error, OperationalError | InterfaceError) or type(error) is DatabaseError
    if unusable and not context.is_pre_ping:
        name = "PostgreSQL" if context.dialect.name == "postgresql" else "SQLite"
        raise DatabaseUnavailable(name, type(context.original_exception).__name__) from context.original_exception


def _setting_pragmas(file: Path) -> Callable[[DBAPIConnection, ConnectionPoolEntry], None]:
    """For each new connection to SQLite's file."""

    def set_pragmas(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        del entry
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode")
        if cursor.fetchone() != ("wal",):
            # the file keeps its mode. Two processes that change it at once do not wait for each other, as they do to
            # write: one is refused. SQLite is asked, for whoever else opens and closes its file takes its locks away
            with _locked(file.with_name(f"{file.name}.mode-lock")):
                cursor.execute("PRAGMA journal_mode=WAL")
        # FULL: what a workflow was told is recorded must survive a power cut
        for pragma in ("synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return set_pragmas


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among the processes that do the same; DatabaseUnavailable when the lock cannot be had."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise DatabaseUnavailable("SQLite", type(error).__name__) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


class _WritersQueue:
    """Lets the threads of this process write one after the other.

    Left to SQLite alone, writers that find the file locked sleep for up to 100 ms at a time and get in by luck: with 30
    threads some wait for many seconds. Other processes are still met there, but they are few.
    """

    def __init__(self) -> None:
        self._writing = threading.Lock()

    def begin(self, connection: Connection) -> None:
        # a transaction that reads first and writes later fails at once when somebody wrote in between; so it queues
        # first
        if connection.get_execution_options().get(READ_ONLY, False):
            connection.exec_driver_sql("BEGIN")
            return
        if self._writing.acquire(timeout=BUSY_SECONDS):
            connection.info[_MY_TURN] = True
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def leave(self, connection: DBAPIConnection | None, entry: ConnectionPoolEntry) -> None:
        """The connection is given back: committed or rolled back."""
        del connection
        if entry.info.pop(_MY_TURN, False):
            self._writing.release()


def upgrade(engine: Engine) -> None:
    """Bring the schema to the newest version; several processes may call this at once."""
    newest = max(path.stem.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py"))
    if _version(engine) == newest:
        return
    # not before it is needed: every part opens the database, and Alembic takes 10 MB
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with _upgrade_lock(engine):
        if _version(engine) != newest:
            with engine.begin() as connection:
                config.attributes["connection"] = connection
                try:
                    command.upgrade(config, "head")
                except CommandError as error:
                    raise ConfigurationInvalid([_NEWER]) from error


def _version(engine: Engine) -> str | None:
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        version: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
        return version


@contextmanager
def _upgrade_lock(engine: Engine) -> Iterator[None]:
    if engine.url.get_backend_name() == "sqlite":
        with _locked(Path(f"{engine.url.database}.upgrade-lock")):
            yield
        return
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _UPGRADE_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _UPGRADE_LOCK})
