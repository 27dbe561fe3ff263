"""Fixtures that every room's tests may use."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.capture import CaptureManager
from support import programs
from support.steady_reactor import steadied

from clara_dicom_adapter.temporal.server import ServerOptions, TemporalServer


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Build what a test needs before its time limit begins, where whoever waits can see it."""
    if wanted := programs.wanted(getattr(item, "fixturenames", ())):
        capture = item.config.pluginmanager.getplugin("capturemanager")
        assert isinstance(capture, CaptureManager)
        with capture.global_and_fixture_disabled():
            for fixture in wanted:
                programs.look_for(fixture)
    return (yield)


@pytest.fixture(scope="session", autouse=True)
def steady_reactors() -> Iterator[None]:
    """Who sends with pynetdicom gets the response that the peer has sent."""
    with steadied():
        yield


@pytest.fixture(scope="session")
def temporal_executable() -> Path:
    """The server program, found as the adapter finds it."""
    return programs.program("temporal_executable")


@pytest.fixture(scope="session")
def temporal_server(temporal_executable: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real server with a database file, one for each process of tests.

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
