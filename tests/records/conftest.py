"""Both databases: SQLite always, PostgreSQL when its server programs are installed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support import postgresql

from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """URL of a server of our own, without a database name."""
    with postgresql.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty database is."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'records.db'}"
    return postgresql.new_database(request.getfixturevalue("postgresql_server"))


@pytest.fixture
def engine(database: str, tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(database, DataFolder(tmp_path))
    yield engine
    engine.dispose()
