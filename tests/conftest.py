"""Fixtures that every room's tests may use."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal.finding import find
from clara_dicom_adapter.temporal.server import ServerOptions, TemporalServer


@pytest.fixture(scope="session")
def temporal_executable() -> Path:
    """The server program, found as the adapter finds it."""
    try:
        return find()
    except TemporalUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def temporal_server(temporal_executable: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real server with a database file, one for the whole session.

    Tests share it: use workflow ids and task queues of your own.
    """
    database = tmp_path_factory.mktemp("temporal") / "temporal.db"
    server = TemporalServer(temporal_executable, ServerOptions(database=database))
    server.start()
    try:
        asyncio.run(server.ready())
        yield server.address
    finally:
        server.close()
