"""The demo's installation: a data folder, the adapter as its user starts it, and a PACS."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from clara_dicom_adapter.cli.demo import pacs as far_end
from clara_dicom_adapter.cli.running import AdapterState, AdapterStatus, PartState, is_locked, read_status
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import TransientError
from clara_dicom_adapter.temporal.children import kill_group, spawn

START_SECONDS: Final = 600.0
"""For the adapter to be ready; the first time ever it may have to build a Temporal server."""
STOP_SECONDS: Final = {"study": 5, "adapter": 60, "pacs": 15}
LOOK_SECONDS: Final = 0.05
COMMAND_SECONDS: Final = 120
INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM)
CLI: Final = (sys.executable, "-m", "clara_dicom_adapter.cli", "dicom")

SETTINGS: Final[dict[str, Any]] = {
    "DicomAdapter": {
        "dicom": {
            "scp": {"port": 0, "host": "127.0.0.1", "interruptedHoldSeconds": 10, "shutdownGraceSeconds": 5},
            "scu": {"export": {"pollFrequencyMs": 200}},
        },
        "services": {
            "platform": {"embeddedPort": 0, "embeddedResultsPort": 0, "retryDelaySeconds": 2},
            "temporal": {"embeddedPort": 0, "embeddedUiPort": 0},
        },
        # a laptop's disk is often nearly full, and the demo needs half a gigabyte
        "storage": {
            "watermarkPercent": 99,
            "reserveSpaceGB": 0.5,
            "preparedSpaceMB": 64,
            "reconcileIntervalSeconds": 5,
        },
        "api": {"port": 0},
        "logJson": False,
    }
}


def wait_until(what: str, condition: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition; raises TransientError, telling what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise TransientError(f"not within {seconds:.0f} s: {what}")
        time.sleep(LOOK_SECONDS)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the end of the block, and raise KeyboardInterrupt there if one came."""
    came: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: came.append(number)) for number in INTERRUPTS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


class Site:
    """Everything that runs for one demo.

    Args:
        detached: Processes go on when this one has ended.
    """

    def __init__(self, root: Path, *, detached: bool) -> None:
        self.root = root
        self.data = DataFolder(root / "data")
        self.pacs = far_end.prepare(root / "pacs")
        self._detached = detached
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    # ---- processes ----

    def begin(self, pipelines: Path) -> None:
        """Start the adapter; :meth:`wait_ready` waits for it."""
        shutil.copytree(pipelines, self.data.pipelines, ignore=shutil.ignore_patterns("__pycache__"))
        settings = self.root / "appsettings.json"
        settings.write_text(json.dumps(SETTINGS, indent=2), encoding="utf-8")
        self._run("adapter", [*CLI, "start", "--config", str(settings), "--data-dir", str(self.data.root)])

    def begin_pacs(self) -> None:
        """Start the PACS, which ends when the adapter does."""
        wait_until("the adapter begins", lambda: is_locked(self.data) or self._ended("adapter"), 60)
        module = "clara_dicom_adapter.cli.demo.pacs"
        command = [sys.executable, "-m", module, str(self.root / "pacs"), "--while-locked", str(self.data.lock)]
        self._run("pacs", command)

    def begin_study(self, script: Path, study: Path, *arguments: str) -> None:
        """Start to make the CT study; :meth:`wait_study` waits for it."""
        self._run("study", [sys.executable, str(script), str(study), *arguments])

    def wait_study(self) -> None:
        """Until it is made."""
        if self._processes["study"].wait() != 0:
            raise TransientError(f"the CT study could not be made: {self._last_words('study')}")

    def _run(self, name: str, command: Sequence[str]) -> None:
        # a process that is started and not noted could not be stopped
        with (self.root / f"{name}.log").open("ab") as output, interrupts_deferred():
            if self._detached:
                self._processes[name] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
            else:
                self._processes[name] = spawn(command, stdout=output.fileno(), stderr=output.fileno())

    def _ended(self, name: str) -> bool:
        status = self._processes[name].poll()
        if status is not None:
            raise TransientError(f"the {name} ended with status {status}:\n{self._last_words(name)}")
        return False

    def _last_words(self, name: str) -> str:
        return "\n".join((self.root / f"{name}.log").read_text(errors="replace").strip().splitlines()[-8:])

    def wait_ready(self) -> None:
        """Until every part, and the PACS, serves."""

        def ready() -> bool:
            status = None if self._ended("adapter") else read_status(self.data)
            return status is not None and status.state is AdapterState.RUNNING and _all_ready(status)

        wait_until("every part of the adapter is ready", ready, START_SECONDS)
        self.pacs.wait()

    def stop(self) -> None:
        """End everything that was started, in order."""
        for name, seconds in STOP_SECONDS.items():
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                continue
            process.terminate()
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                kill_group(process)

    # ---- the adapter, as it runs ----

    @property
    def status(self) -> AdapterStatus:
        status = read_status(self.data)
        if status is None:
            raise TransientError("the adapter has not started")
        return status

    def kill(self, part: str) -> bool:
        """``kill -9`` one part, which the supervisor starts again; False when it did not run."""
        pid = self.status.part(part).pid
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    def restarts(self, part: str) -> int:
        """How often a part has been started again."""
        return self.status.part(part).restarts

    def back_again(self, part: str, before: int) -> bool:
        """Whether a part has been started again since, and serves."""
        status = self.status.part(part)
        return status.restarts > before and status.state is PartState.READY

    def receiver(self) -> tuple[str, int]:
        """Where to send to; KeyError while the receiver is being started."""
        host, _, port = self.status.addresses["dicom"].rpartition(":")
        return host, int(port)

    def clara(self, *arguments: str) -> None:
        """Run a command as a user does; raises TransientError with what it said."""
        command = [*CLI, *arguments, "--data-dir", str(self.data.root)]
        process: subprocess.Popen[str] | None = None
        try:
            with interrupts_deferred():  # as in _run; it would make the data folder anew after its end
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            _, said = process.communicate(timeout=COMMAND_SECONDS)
        except BaseException:
            if process is not None:
                process.kill()
                process.wait()
            raise
        if process.returncode:
            raise TransientError(f"`clara dicom {' '.join(arguments)}` failed: {said.strip()}")


def _all_ready(status: AdapterStatus) -> bool:
    return all(part.state is PartState.READY for part in status.parts)
