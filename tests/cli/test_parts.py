"""Parts as the supervisor runs them: real processes, a real Temporal server."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.cli import running
from clara_dicom_adapter.cli.running import AdapterState, AdapterStatus, PartState
from clara_dicom_adapter.configuration.settings import DataFolder, TemporalSettings
from clara_dicom_adapter.temporal import client

START = """
import sys
from pathlib import Path
from clara_dicom_adapter.cli.parts.plan import Plan
from clara_dicom_adapter.cli.supervisor import Supervisor
from clara_dicom_adapter.configuration import reader
from clara_dicom_adapter.configuration.settings import DataFolder
import os

data = DataFolder(Path(sys.argv[1]))
plan = Plan(reader.load(None, data, os.environ), data)
wanted = [part for part in plan.parts if part.name in sys.argv[2:]]
sys.exit(Supervisor(data, wanted).run())
"""
ANY_PORTS = """{ "DicomAdapter": {
    "dicom": { "scp": { "port": 0 } },
    "api": { "port": 0 },
    "storage": { "watermarkPercent": 100, "reserveSpaceGB": 0, "preparedSpaceMB": 20 },
    "services": {
        "temporal": { "embeddedPort": 0, "embeddedUiPort": 0 },
        "platform": { "embeddedPort": 0, "embeddedResultsPort": 0 },
    },
} }"""

PARTS = ("temporal", "platform", "worker", "api", "receiver")


def awaited(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class Started:
    """``clara dicom start`` for some parts."""

    def __init__(self, data: DataFolder, *parts: str) -> None:
        self.data = data
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(data.root), *parts], stderr=subprocess.PIPE, text=True
        )

    def wait_until_running(self) -> None:
        awaited(lambda: self.process.poll() is not None or self._is_running())

    def _is_running(self) -> bool:
        status = running.read_status(self.data)
        return status is not None and status.state is AdapterState.RUNNING

    @property
    def status(self) -> AdapterStatus:
        status = running.read_status(self.data)
        assert status is not None
        return status


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    (tmp_path / "appsettings.json").write_text(ANY_PORTS)
    return DataFolder(tmp_path)


@pytest.fixture
def start(data: DataFolder, temporal_executable: Path) -> Iterator[Callable[..., Started]]:
    assert temporal_executable
    begun: list[Started] = []

    def start(*parts: str) -> Started:
        begun.append(Started(data, *parts))
        begun[-1].wait_until_running()
        return begun[-1]

    yield start
    for each in begun:
        each.process.kill()
        each.process.communicate()


async def test_a_killed_temporal_part_comes_back_where_it_was_with_what_it_knew(start: Callable[..., Started]) -> None:
    adapter = start("temporal")
    address = adapter.status.addresses["temporal"]
    connected = await client.connect(TemporalSettings(), address)
    await connected.start_workflow("ReceiveWorkflow", id="held", task_queue="nobody")

    before = adapter.status.part("temporal").pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    awaited(lambda: adapter.status.part("temporal").pid not in {before, None})
    awaited(lambda: adapter.status.part("temporal").state is PartState.READY)

    assert adapter.status.addresses["temporal"] == address
    assert (await connected.get_workflow_handle("held").describe()).id == "held"
    adapter.process.send_signal(signal.SIGTERM)
    adapter.process.communicate(timeout=30)
    assert adapter.process.returncode == 0
    assert adapter.status.part("temporal").last_exit == "exit status 0"


def test_the_platform_serves_before_temporal_is_there(start: Callable[..., Started]) -> None:
    adapter = start("platform")
    with PlatformClient(adapter.status.addresses["platform"]) as platform:
        assert platform.version()
    adapter.process.send_signal(signal.SIGTERM)
    adapter.process.communicate(timeout=30)
    assert adapter.process.returncode == 0
    assert adapter.status.part("platform").last_exit == "exit status 0"


def test_all_parts_come_up_are_ready_come_back_and_end_in_order(start: Callable[..., Started]) -> None:
    adapter = start(*PARTS)
    health = httpx.get(adapter.status.addresses["api"] + "/health/ready")
    assert health.status_code == 200
    assert set(health.json()["roles"]) == set(PARTS)
    host, port = adapter.status.addresses["dicom"].split(":")
    assert host == "0.0.0.0"

    for name in ("receiver", "worker"):
        before = adapter.status.part(name).pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        awaited(partial(_is_back, adapter, name, before))

    assert adapter.status.addresses["dicom"] == f"{host}:{port}"
    socket.create_connection(("127.0.0.1", int(port))).close()
    assert running.stop(adapter.data, patience_seconds=60)
    _, heard = adapter.process.communicate(timeout=10)
    assert {part.name: part.last_exit for part in adapter.status.parts} == dict.fromkeys(PARTS, "exit status 0")
    assert "Traceback" not in heard
    assert not list(adapter.data.run.iterdir())


def _is_back(adapter: Started, name: str, before: int) -> bool:
    part = adapter.status.part(name)
    return part.pid not in {before, None} and part.state is PartState.READY


def test_settings_that_are_wrong_end_the_part_with_status_2(data: DataFolder) -> None:
    (data.root / "appsettings.json").write_text('{ "DicomAdapter": { "dicom": { "scp": { "prot": 104 } } } }')
    ended = subprocess.run(
        [sys.executable, "-m", "clara_dicom_adapter.cli.parts.temporal_part", "--data-dir", data.root],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 2
    assert "did you mean port" in ended.stderr
