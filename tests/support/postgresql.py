"""A PostgreSQL server for tests; in CI its absence is a failure."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psycopg
import pytest

from clara_dicom_adapter.temporal.ports import ReservedPort


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextmanager
def server() -> Iterator[str]:
    """URL of a server of our own, without a database name."""
    programs = _programs()
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


def new_database(server: str) -> str:
    """URL of an empty database."""
    name = f"test_{os.urandom(6).hex()}"
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"{server}/{name}"
