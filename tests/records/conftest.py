"""Both databases: SQLite always, PostgreSQL when its server programs are installed."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.temporal.ports import ReservedPort


def _postgresql_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of a server of our own, without a database name."""
    programs = _postgresql_programs()
    if programs is None:
        reason = "PostgreSQL is not installed: apt-get install postgresql"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with TemporaryDirectory(prefix="clara-postgresql-") as folder:
        Path(folder).chmod(0o755)
        data, reserved = Path(folder) / "data", ReservedPort()
        data.mkdir()
        options: dict[str, Any] = {"capture_output": True, "cwd": "/"}
        if os.geteuid() == 0:  # its programs refuse root
            user = pwd.getpwnam("postgres")
            shutil.chown(data, user.pw_uid, user.pw_gid)
            options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "clara", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C"],
            check=True,
            **options,
        )
        flags = f"-p {reserved.port} -h 127.0.0.1 -k {data} -c fsync=off"
        log = data / "log"
        subprocess.run([programs / "pg_ctl", "-D", data, "-w", "-l", log, "-o", flags, "start"], check=True, **options)
        try:
            yield f"postgresql://clara@127.0.0.1:{reserved.port}"
        finally:
            subprocess.run([programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], check=True, **options)
            reserved.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty database is."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.db'}"
    server: str = request.getfixturevalue("postgresql_server")
    name = f"test_{os.urandom(6).hex()}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server}/{name}"


@pytest.fixture
def engine(database: str, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(database, DataFolder(tmp_path))
    yield engine
    engine.dispose()
