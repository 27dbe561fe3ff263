"""The schema: what the migrations make is what the code declares, whoever comes first."""

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import DateTime, Engine, bindparam, create_engine, insert, text
from support.site import wait_until

from clara_dicom_adapter import records
from clara_dicom_adapter.configuration.connection import database_url
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.configuration.tables import reading
from clara_dicom_adapter.errors import ConfigurationInvalid, DatabaseUnavailable
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.jobs import JobRecords, RunningJob
from clara_dicom_adapter.records.tables import METADATA, SiteSecretRow

START = datetime(2024, 5, 1, 8, 0)  # noqa: DTZ001 - as it is stored: UTC
OPEN_IT = """
import sys
from pathlib import Path
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.secret import SiteSecret
print("ready", flush=True)
for database in sys.stdin:
    engine = open_engine(database.strip(), DataFolder(Path(sys.argv[1])))
    print(SiteSecret(engine).get_or_create(), flush=True)
    engine.dispose()
"""


def test_the_migrations_make_exactly_the_tables_that_are_declared(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_records_of_the_first_version_are_brought_forward(database: str, tmp_path: Path) -> None:
    old = create_engine(database_url(database, DataFolder(tmp_path)))
    config = Config()
    config.set_main_option("script_location", str(Path(records.__file__).parent / "migrations"))
    job: dict[str, object] = {
        "submission_id": "s",
        "job_key": "k",
        "pipeline": "p",
        "state": "started",
        "job_id": "j",
        "payload_id": "q",
    }
    job |= {"job_name": "n", "creating": True, "started": True, "instances": 1, "message": "", "changed_at": START}
    with old.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        names, values = ", ".join(job), ", ".join(f":{name}" for name in job)
        statement = text(f"INSERT INTO submission_job ({names}) VALUES ({values})")
        # typed: the driver's own way of writing times has been deprecated since Python 3.12
        connection.execute(statement.bindparams(bindparam("changed_at", type_=DateTime)), job)
    old.dispose()
    engine = open_engine(database, DataFolder(tmp_path))
    try:
        assert JobRecords(engine).running() == [RunningJob("s", "k", "j")]
    finally:
        engine.dispose()


@pytest.fixture
def racers(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Five processes that have imported all they need, which takes longer than to make a database."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", OPEN_IT, str(tmp_path)]
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(5)]
    try:
        assert [told(process) for process in processes] == ["ready"] * 5
        yield processes
    finally:
        for process in processes:
            process.communicate(timeout=60)


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def secrets_of(racers: list[subprocess.Popen[str]], database: str) -> list[str]:
    """The secret that each of them finds in the database, which all open at once."""
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write(f"{database}\n")
        racer.stdin.flush()
    return [told(racer) for racer in racers]


def test_several_processes_that_start_at_once_upgrade_it_once_and_share_one_secret(
    database: str, racers: list[subprocess.Popen[str]]
) -> None:
    first, *others = secrets_of(racers, database)
    assert len(bytes.fromhex(first)) == 32
    assert others == [first] * 4


def test_no_process_is_refused_a_new_file_that_others_open_at_once(
    tmp_path: Path, racers: list[subprocess.Popen[str]]
) -> None:
    for number in range(20):
        first, *others = secrets_of(racers, f"sqlite:///{tmp_path / f'{number}.db'}")
        assert len(bytes.fromhex(first)) == 32
        assert others == [first] * 4


def test_the_journal_mode_of_a_new_file_is_changed_by_one_at_a_time(tmp_path: Path) -> None:
    """SQLite refuses one of two that do it at once."""
    path = tmp_path / "dicomadapter.db"
    engines: list[Engine] = []
    opening = threading.Thread(target=lambda: engines.append(open_engine("", DataFolder(tmp_path))), daemon=True)
    with (tmp_path / "dicomadapter.db.mode-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        opening.start()
        wait_until("it waits", lambda: any("-> FLOCK" in line for line in locks_of(Path(lock.name))))
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    opening.join(30)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    engines[0].dispose()


def test_to_open_it_once_more_takes_no_lock_of_sqlite_away(tmp_path: Path) -> None:
    """As a close of its file would; then the last one of another process would take the log with it."""
    first = open_engine("", DataFolder(tmp_path))
    path = tmp_path / "dicomadapter.db"
    mine = f" {os.getpid()} "
    assert any("POSIX" in line and mine in line for line in locks_of(path))
    second = open_engine("", DataFolder(tmp_path))
    assert any("POSIX" in line and mine in line for line in locks_of(path))
    second.dispose()
    first.dispose()


def locks_of(path: Path) -> list[str]:
    """What the kernel says of who holds, or waits for, a lock on a file."""
    inode = f":{path.stat().st_ino} "
    return [line for line in Path("/proc/locks").read_text().splitlines() if inode in line]


def test_a_lock_that_cannot_be_had_is_told_as_a_database_that_cannot(tmp_path: Path) -> None:
    (tmp_path / "dicomadapter.db.mode-lock").mkdir()
    with pytest.raises(DatabaseUnavailable, match="SQLite"):
        open_engine("", DataFolder(tmp_path))


def test_sqlite_is_opened_as_durably_as_promised(tmp_path: Path) -> None:
    engine = open_engine("", DataFolder(tmp_path))
    with reading(engine) as connection:
        pragmas = {
            name: connection.execute(text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")
        }
    engine.dispose()
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}  # 2: FULL
    assert (tmp_path / "dicomadapter.db").exists()


def test_a_reader_is_not_kept_waiting_by_a_writer(engine: Engine) -> None:
    with engine.begin() as writer:
        writer.execute(insert(SiteSecretRow).values(id=7, secret="x"))
        with reading(engine) as reader:
            assert reader.execute(text("SELECT count(*) FROM site_secret")).scalar() == 0


@pytest.mark.parametrize(
    ("configured", "url"),
    [
        ("", "sqlite:////data/dicomadapter.db"),
        ("Data Source=dicomadapter.db", "sqlite:////data/dicomadapter.db"),
        ("data source = /database/x.db;", "sqlite:////database/x.db"),
        ("sqlite:///x.db", "sqlite:////data/x.db"),
        ("postgresql://u:p@h/d", "postgresql+psycopg://u:p@h/d"),
    ],
)
def test_connection_strings_of_every_form(configured: str, url: str) -> None:
    found = database_url(configured, DataFolder(Path("/data")))
    assert found.render_as_string(hide_password=False) == url


@pytest.mark.parametrize("configured", ["mysql://h/d", "nonsense", "sqlite://"])
def test_what_is_no_database_of_ours_is_told(configured: str) -> None:
    with pytest.raises(ConfigurationInvalid, match="DicomAdapterDatabase"):
        database_url(configured, DataFolder(Path("/data")))


def test_a_database_that_cannot_be_reached_is_a_transient_error_without_the_drivers_text(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable, match=r"the PostgreSQL database cannot be used: \w+$"):
        open_engine("postgresql://nobody@127.0.0.1:1/nothing", DataFolder(tmp_path))


def test_a_database_of_a_newer_version_is_left_alone(database: str, tmp_path: Path) -> None:
    engine = open_engine(database, DataFolder(tmp_path))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(ConfigurationInvalid, match="written by a newer version"):
        open_engine(database, DataFolder(tmp_path))


def test_a_damaged_file_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "dicomadapter.db").write_bytes(b"no database, and long enough to be looked at" * 100)
    with pytest.raises(DatabaseUnavailable, match="the SQLite database cannot be used: DatabaseError"):
        open_engine("", DataFolder(tmp_path))
