"""The supervisor with real processes: parts are killed, refuse to start, refuse to stop, and lose their parent."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from machine import alive, state

from clara_dicom_adapter.cli import running
from clara_dicom_adapter.cli.running import AdapterState, AdapterStatus, PartState
from clara_dicom_adapter.cli.supervisor import Console
from clara_dicom_adapter.configuration.settings import DataFolder

SUPERVISE = Path(__file__).with_name("supervise.py")


def awaited(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition of another process."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


class Adapter:
    """A supervisor in a process of its own."""

    def __init__(self, root: Path) -> None:
        self.data = DataFolder(root)
        self.process: subprocess.Popen[str] | None = None

    def start(self, *parts: str) -> "subprocess.Popen[str]":
        self.process = subprocess.Popen(
            [sys.executable, str(SUPERVISE), str(self.data.root), *parts], stderr=subprocess.PIPE, text=True
        )
        return self.process

    @property
    def status(self) -> AdapterStatus:
        status = running.read_status(self.data)
        assert status is not None
        return status

    def is_running(self) -> bool:
        status = running.read_status(self.data)
        return status is not None and status.state is AdapterState.RUNNING

    @property
    def journal(self) -> list[str]:
        return (self.data.root / "journal").read_text().splitlines()


@pytest.fixture
def adapter(tmp_path: Path) -> Iterator[Adapter]:
    adapter = Adapter(tmp_path / "data")
    yield adapter
    if adapter.process is not None:
        adapter.process.kill()
        adapter.process.communicate()


def test_parts_start_in_order_and_stop_in_the_opposite_one(adapter: Adapter) -> None:
    process = adapter.start("temporal=serves", "worker=serves", "receiver=serves")
    awaited(adapter.is_running)
    assert adapter.status.addresses["worker"] == f"127.0.0.1:{adapter.status.part('worker').pid}"

    process.send_signal(signal.SIGTERM)
    _, heard = process.communicate(timeout=20)

    assert process.returncode == 0
    assert adapter.journal == [
        "temporal started",
        "worker started",
        "receiver started",
        "receiver stopped",
        "worker stopped",
        "temporal stopped",
    ]
    assert adapter.status.state is AdapterState.STOPPED
    assert "  worker | worker speaks" in heard
    assert (adapter.data.logs / "worker.log").read_text() == "worker speaks\n"


def test_a_killed_part_is_started_again_and_the_others_are_left_alone(adapter: Adapter) -> None:
    adapter.start("temporal=serves", "worker=serves")
    awaited(adapter.is_running)
    temporal, worker = adapter.status.part("temporal").pid, adapter.status.part("worker").pid
    assert temporal is not None

    os.kill(temporal, signal.SIGKILL)

    awaited(lambda: adapter.status.part("temporal").pid not in {temporal, None})
    awaited(lambda: adapter.status.part("temporal").state is PartState.READY)
    assert adapter.status.part("temporal").restarts == 1
    assert adapter.status.part("temporal").last_exit == "ended by SIGKILL"
    assert adapter.status.part("worker").pid == worker
    assert adapter.status.state is AdapterState.RUNNING


def test_the_end_of_a_part_may_be_seen_before_the_end_of_its_output(adapter: Adapter) -> None:
    """Both in one look of the supervisor: the first closes what the second would read."""
    process = adapter.start("worker=parent")
    awaited(adapter.is_running)
    worker = adapter.status.part("worker").pid
    child = int(adapter.journal[-1].split()[-1])  # holds the output open
    assert worker is not None

    process.send_signal(signal.SIGSTOP)
    awaited(lambda: state(process.pid) == "T")
    for pid in (worker, child):
        ended = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        assert select.select([ended], [], [], 20)[0]
        os.close(ended)
    process.send_signal(signal.SIGCONT)

    awaited(lambda: adapter.status.part("worker").pid not in {worker, None})
    assert adapter.status.state is AdapterState.RUNNING


def test_a_supervisor_killed_outright_leaves_no_process(adapter: Adapter) -> None:
    process = adapter.start("temporal=guardian", "worker=serves")
    awaited(adapter.is_running)
    pids = [part.pid for part in adapter.status.parts if part.pid is not None]
    pids += [int(line.split()[-1]) for line in adapter.journal if line.startswith("temporal child")]
    assert len(pids) == 3

    process.kill()
    process.wait()

    awaited(lambda: not any(alive(pid) for pid in pids), seconds=5)
    assert adapter.status.state is AdapterState.KILLED
    assert not running.is_locked(adapter.data)


def test_a_part_that_never_gets_ready_stops_everything_with_its_reason(adapter: Adapter) -> None:
    process = adapter.start("temporal=serves", "worker=dies")
    process.communicate(timeout=30)

    assert process.returncode == 1
    assert adapter.status.state is AdapterState.FAILED
    assert "worker ended 5 times without getting ready (exit status 1)" in adapter.status.reason
    assert "no luck today" in adapter.status.reason
    assert adapter.journal.count("worker started") == 5
    assert adapter.journal[-1] == "temporal stopped"


def test_a_part_that_refuses_its_configuration_is_not_tried_twice(adapter: Adapter) -> None:
    process = adapter.start("temporal=serves", "worker=misconfigured")
    process.communicate(timeout=30)

    assert process.returncode == 2
    assert adapter.journal.count("worker started") == 1


def test_a_second_start_on_the_same_data_folder_is_refused(adapter: Adapter) -> None:
    adapter.start("temporal=serves")
    awaited(adapter.is_running)
    pid = adapter.status.pid

    second = subprocess.run(
        [sys.executable, str(SUPERVISE), str(adapter.data.root), "temporal=serves"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert second.returncode == 3
    assert f"already served by process {pid}" in second.stderr
    assert adapter.is_running()
    assert adapter.journal == ["temporal started"]


def test_stop_waits_until_the_adapter_has_ended(adapter: Adapter) -> None:
    process = adapter.start("temporal=serves", "worker=serves")
    awaited(adapter.is_running)

    assert running.stop(adapter.data, patience_seconds=20)
    assert process.wait(timeout=5) == 0
    assert not running.stop(adapter.data)


def test_what_a_part_started_dies_with_it(adapter: Adapter) -> None:
    adapter.start("temporal=parent")
    awaited(adapter.is_running)
    part = adapter.status.part("temporal").pid
    grandchild = int(adapter.journal[1].split()[-1])
    assert part is not None
    assert alive(grandchild)

    os.kill(part, signal.SIGKILL)

    awaited(lambda: not alive(grandchild), seconds=5)


def test_a_part_that_does_not_stop_is_killed_after_its_grace(adapter: Adapter) -> None:
    process = adapter.start("temporal=serves", "worker=stubborn")
    awaited(adapter.is_running)

    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)

    assert process.returncode == 0
    assert adapter.status.part("worker").last_exit == "ended by SIGKILL"
    assert adapter.journal[-1] == "temporal stopped"


def test_a_second_signal_ends_everything_at_once(adapter: Adapter) -> None:
    process = adapter.start("temporal=stubborn", "worker=stubborn")
    awaited(adapter.is_running)

    process.send_signal(signal.SIGTERM)
    awaited(lambda: adapter.status.state is AdapterState.STOPPING)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)

    assert process.returncode == 1
    assert all(part.pid is None for part in adapter.status.parts)


def test_a_reader_that_has_stopped_reading_does_not_stop_the_parts() -> None:
    reading, writing = os.pipe()
    try:
        console = Console(writing)
        for _ in range(1000):
            console("worker", b"x" * 1000)
        os.read(reading, 1_000_000)
        console("worker", b"read again")
        assert os.read(reading, 1_000_000).endswith(b"  worker | read again\n")
    finally:
        os.close(reading)
        os.close(writing)
