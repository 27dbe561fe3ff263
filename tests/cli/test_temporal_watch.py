"""A part's health follows Temporal's."""

import asyncio
import time
from pathlib import Path

import pytest

from clara_dicom_adapter.cli.parts import temporal_watch
from clara_dicom_adapter.cli.parts.temporal_watch import TemporalWatch
from clara_dicom_adapter.configuration.settings import TemporalSettings
from clara_dicom_adapter.temporal import client
from clara_dicom_adapter.temporal.server import ServerOptions, TemporalServer


async def until(watch: TemporalWatch, reachable: bool) -> None:
    deadline = time.monotonic() + 60
    while watch.reachable is not reachable:
        assert time.monotonic() < deadline, watch.status()
        await asyncio.sleep(0.02)


async def test_a_server_that_goes_is_noticed_and_one_that_comes_back_too(
    temporal_executable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporal_watch, "_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(temporal_watch, "_STALE_SECONDS", 1.0)
    server = TemporalServer(temporal_executable, ServerOptions(database=tmp_path / "temporal.db"))
    server.start()
    try:
        await server.ready()
        connected = await client.connect(TemporalSettings(), server.address)
        watch = TemporalWatch()
        async with watch.watching(connected):
            server.close()
            await until(watch, False)
            assert watch.status() == {"ready": False, "reason": "Temporal does not answer"}
            server = TemporalServer(
                temporal_executable,
                ServerOptions(database=tmp_path / "temporal.db", port=int(server.address.rpartition(":")[2])),
            )
            server.start()
            await server.ready()
            await until(watch, True)
            assert watch.status() == {"ready": True}
    finally:
        server.close()
