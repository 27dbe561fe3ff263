"""Log levels change while the adapter runs: by SIGHUP, over REST, and on the command line."""

import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from anyio import to_thread
from pynetdicom import AE
from support.api import dependencies, serving
from support.signals import heed

from clara_dicom_adapter import part_status
from clara_dicom_adapter.cli import running
from clara_dicom_adapter.cli.running import AdapterState
from clara_dicom_adapter.configuration import run_time_levels
from clara_dicom_adapter.configuration.reader import load, read
from clara_dicom_adapter.configuration.run_time_levels import RunTimeLevels
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import ConfigurationInvalid
from clara_dicom_adapter.records.database import open_engine

SUPERVISE = Path(__file__).with_name("supervise.py")
SCP = "Nvidia.Clara.DicomAdapter.Server.Services.Scp"
VERIFICATION = "1.2.840.10008.1.1"


def awaited(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


# ---- one receiver with its listeners ----


def configured(levels: dict[str, str]) -> str:
    scp = {"port": 0, "host": "127.0.0.1", "receivers": 1}
    storage = {"watermarkPercent": 100, "reserveSpaceGB": 0}
    return json.dumps(
        {"DicomAdapter": {"logJson": True, "dicom": {"scp": scp}, "storage": storage}, "Logging": {"LogLevel": levels}}
    )


class Receiver:
    """The receiver as a part alone; its one listener process tells of associations."""

    def __init__(self, data: DataFolder) -> None:
        self.log = data.root / "heard.log"
        with self.log.open("wb") as log:
            command = [
                sys.executable,
                "-m",
                "clara_dicom_adapter.cli.parts.receiver_part",
                "--data-dir",
                str(data.root),
            ]
            self.process = subprocess.Popen(command, stderr=log)
        self.port = 0

    def wait_until_ready(self, data: DataFolder) -> None:
        awaited(lambda: self._file(data) is not None)
        part = self._file(data)
        assert part is not None
        self.port = int(part.addresses["dicom"].rpartition(":")[2])

    @staticmethod
    def _file(data: DataFolder) -> part_status.PartFile | None:
        return part_status.read_one(data.run / "receiver.json") if (data.run / "receiver.json").exists() else None

    def associate(self) -> None:
        """Ask for an association; whether it is accepted or not, it is told at the level of Information or Warning."""
        ae = AE(ae_title="CT1")
        ae.add_requested_context(VERIFICATION)
        association = ae.associate("127.0.0.1", self.port, ae_title="CLARA")
        if association.is_established:
            association.release()

    def heard(self, event: str) -> int:
        return sum(json.loads(line)["event"] == event for line in self.log.read_text().splitlines() if line[:1] == "{")

    def tells_of_associations(self) -> bool:
        self.associate()
        return self.heard("association_rejected") + self.heard("association_accepted") > 0


@pytest.fixture
def receiver(data: DataFolder) -> Iterator[Receiver]:
    (data.root / "appsettings.json").write_text(configured({"Default": "Warning", SCP: "None"}))
    receiver = Receiver(data)
    try:
        receiver.wait_until_ready(data)
        yield receiver
    finally:
        receiver.process.kill()
        receiver.process.wait()


def test_a_sighup_after_an_edit_changes_the_levels_of_the_receiver_and_its_listeners(
    receiver: Receiver, data: DataFolder
) -> None:
    receiver.associate()
    (data.root / "appsettings.json").write_text(configured({"Default": "Warning", SCP: "Information"}))
    receiver.process.send_signal(signal.SIGHUP)
    awaited(lambda: receiver.heard("log_levels_read") == 1)
    assert receiver.heard("association_rejected") == 0
    awaited(receiver.tells_of_associations)
    assert receiver.process.poll() is None


async def test_what_the_api_is_told_changes_the_levels_of_running_parts_and_wins_over_the_file(
    receiver: Receiver, data: DataFolder
) -> None:
    receiver.associate()
    engine = open_engine("", data)
    async with serving(dependencies(engine, data)) as api:
        changed = (await api.put("/api/logging/levels", json={SCP: "Information"})).json()
    engine.dispose()
    assert changed == {
        "levels": {"Default": "Warning", SCP: "Information"},
        "changed": {SCP: "Information"},
        "told": ["receiver"],
    }
    await to_thread.run_sync(awaited, receiver.tells_of_associations)
    assert read(None, data, {}).origin(("logging", "LogLevel", SCP)).startswith("changed while running")


def test_a_file_that_has_become_wrong_changes_nothing_and_is_told(receiver: Receiver, data: DataFolder) -> None:
    (data.root / "appsettings.json").write_text('{"DicomAdapter": {"dicom": {"scp": {"port": "x"}}}}')
    receiver.process.send_signal(signal.SIGHUP)
    awaited(lambda: receiver.heard("log_levels_stay") == 1)
    assert receiver.process.poll() is None


# ---- what is remembered ----


def test_changes_add_up_are_taken_back_and_are_forgotten_at_a_start(data: DataFolder) -> None:
    (data.root / "appsettings.json").write_text(configured({"Default": "Warning"}))
    levels = RunTimeLevels(data, lambda: load(None, data, {}).logging.levels)
    assert levels.change({"Default": "debug", SCP: "Trace"}) == [], "nobody runs who could be told"
    assert load(None, data, {}).logging.levels == {"Default": "Debug", SCP: "Trace"}
    levels.change({"default": None})
    assert levels.changed() == {SCP: "Trace"}
    assert load(None, data, {}).logging.levels == {"Default": "Warning", SCP: "Trace"}
    levels.replace({"Default": "Error"})
    assert levels.in_force() == {"Default": "Error"}
    run_time_levels.forget(data)
    assert load(None, data, {}).logging.levels == {"Default": "Warning"}


def test_a_level_that_is_none_changes_nothing(data: DataFolder) -> None:
    levels = RunTimeLevels(data, lambda: load(None, data, {}).logging.levels)
    with pytest.raises(ConfigurationInvalid) as refused:
        levels.change({"Default": "Loud", SCP: "Debug", "Nvidia.Clara.Nothing": "Debug"})
    unknown, loud = refused.value.problems
    assert unknown.startswith("'Nvidia.Clara.Nothing' is no category: one of Default, Dicom, ")
    assert loud == ('Default: "Loud" is not allowed: one of Trace, Debug, Information, Warning, Error, Critical, None')
    (data.root / "appsettings.json").write_text("{")
    with pytest.raises(ConfigurationInvalid, match=r"appsettings\.json"):
        levels.change({"Default": "Debug"})
    assert levels.changed() == {}


# ---- the supervisor ----


def on_a_terminal() -> None:
    """The process that begins has its standard input as its terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    heed()


def test_the_supervisor_passes_a_sighup_on_and_goes_on(data: DataFolder) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SUPERVISE), str(data.root), "one=ok"],
        stderr=subprocess.DEVNULL,
        preexec_fn=heed,  # noqa: PLW1509 - nothing else runs in this test
    )
    try:
        awaited(lambda: is_running(data))
        process.send_signal(signal.SIGHUP)
        awaited(lambda: "one heard a SIGHUP" in (data.root / "journal").read_text())
        assert is_running(data)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()


def test_the_supervisor_stops_when_its_terminal_is_closed(data: DataFolder) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(SUPERVISE), str(data.root), "one=ok"],
        stdin=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=on_a_terminal,  # noqa: PLW1509 - nothing else runs in this test
    )
    os.close(theirs)
    try:
        awaited(lambda: is_running(data))
        os.close(ours)
        assert process.wait(20) == 0
    finally:
        process.kill()


def is_running(data: DataFolder) -> bool:
    status = running.read_status(data)
    return status is not None and status.state is AdapterState.RUNNING
