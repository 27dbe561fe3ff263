"""What is known about an adapter that runs on a data folder: its lock, its status, and how to stop it.

The lock says whether one runs, and is the kernel's, so it cannot be stale; ``status.json`` says what it looks like.
"""

import fcntl
import os
import signal
import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from pydantic import BaseModel, ValidationError

from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import SpoolInUse, TransientError

_PROBE_SECONDS = 0.5
"""How long a start tries for the lock: :func:`is_locked` holds it for an instant."""


class PartState(StrEnum):
    WAITING = "waiting"
    """For another part to be ready."""
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    """It died, and is started again after a pause."""
    STOPPING = "stopping"
    STOPPED = "stopped"


class AdapterState(StrEnum):
    STARTING = "starting"
    RUNNING = "running"
    """Every part has been ready; one that restarts is seen at the part."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    """A part kept dying, so everything was stopped; the reason is given."""
    KILLED = "killed"
    """It ended without saying so."""


class PartStatus(BaseModel):
    """One part, as ``clara dicom status`` shows it."""

    name: str
    state: PartState = PartState.WAITING
    pid: int | None = None
    restarts: int = 0
    started_at: float | None = None
    """Seconds since the epoch, of the process that runs now or ran last."""
    addresses: dict[str, str] = {}
    """What it listens on, by service: ``host:port`` or a URL."""
    last_exit: str = ""
    """How it ended the last time, if it did."""


class AdapterStatus(BaseModel):
    """The adapter of one data folder."""

    pid: int
    state: AdapterState
    started_at: float
    reason: str = ""
    parts: list[PartStatus] = []

    def part(self, name: str) -> PartStatus:
        """One part by its name; KeyError when it has none of that name."""
        for part in self.parts:
            if part.name == name:
                return part
        raise KeyError(name)

    @property
    def addresses(self) -> dict[str, str]:
        """What all parts listen on, by service."""
        return {service: address for part in self.parts for service, address in part.addresses.items()}


class DataLock:
    """The right to serve a data folder, held until the process ends."""

    def __init__(self, data: DataFolder) -> None:
        """Take the lock; raises SpoolInUse when another process has it."""
        data.root.mkdir(parents=True, exist_ok=True)
        self._file = data.lock.open("a+")
        deadline = time.monotonic() + _PROBE_SECONDS
        while not _try_lock(self._file):
            if time.monotonic() >= deadline:
                self._file.close()
                raise SpoolInUse(f"{data.root} is already served by process {holder(data)}")
            time.sleep(0.02)
        self._file.truncate(0)
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        self._file.truncate(0)
        self._file.close()


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_locked(data: DataFolder) -> bool:
    """Whether an adapter runs on this folder."""
    try:
        with data.lock.open("r") as file:
            return not _try_lock(file)
    except FileNotFoundError:
        return False


def holder(data: DataFolder) -> int | None:
    """Process id in the lock file; only true while the lock is held."""
    with suppress(OSError, ValueError):
        return int(data.lock.read_text())
    return None


def write_status(data: DataFolder, status: AdapterStatus) -> None:
    """Replace the status file at once, so that no reader sees half of it."""
    partial = data.status.with_suffix(".json.part")
    partial.write_text(status.model_dump_json(indent=2) + "\n")
    partial.replace(data.status)


def read_status(data: DataFolder) -> AdapterStatus | None:
    """The last status; None when no adapter ever ran here. What ended without a word is shown as killed."""
    try:
        status = AdapterStatus.model_validate_json(data.status.read_text())
    except (FileNotFoundError, ValidationError):
        return None
    if status.state in {AdapterState.STOPPED, AdapterState.FAILED} or is_locked(data):
        return status
    gone = [part.model_copy(update={"state": PartState.STOPPED, "pid": None}) for part in status.parts]
    return status.model_copy(update={"state": AdapterState.KILLED, "parts": gone})


def stop(data: DataFolder, *, patience_seconds: float = 120.0) -> bool:
    """Ask the adapter of a data folder to stop, and wait until it has.

    Returns:
        False when none runs there.

    Raises:
        TransientError: It has not ended in time; asking again makes it stop hard.
    """
    pid = holder(data)
    if pid is None or not is_locked(data):
        return False
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience_seconds
    while is_locked(data) and holder(data) in {pid, None}:
        if time.monotonic() >= deadline:
            raise TransientError(f"process {pid} has not ended within {patience_seconds:.0f} s")
        time.sleep(0.05)
    return True


class PartLog:
    """What a part wrote, in ``<data>/logs/<part>.log``; one older file is kept beside it."""

    MAXIMUM_BYTES = 10_000_000

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)

    def write(self, line: bytes) -> None:
        """Append a line; a full disk costs the log, not the part."""
        with suppress(OSError):
            if self._file.tell() > self.MAXIMUM_BYTES:
                self._file.close()
                self._path.replace(self._path.with_suffix(".log.1"))
                self._file = self._path.open("ab", buffering=0)
            self._file.write(line + b"\n")

    def close(self) -> None:
        self._file.close()
