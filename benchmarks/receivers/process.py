"""A receiver as a process: started, waited for, looked at, ended."""

import os
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from machine import cpu_seconds, descendants, memory_mb

_START_SECONDS: Final = 60.0
_END_SECONDS: Final = 20.0


class LeftOut(Exception):
    """A receiver cannot be measured here; the text says why and how to get it."""


class Failed(Exception):
    """A receiver did not do what it was measured for."""


class Receiver:
    """One that runs."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port = 0
        self._process = process
        self._log = log

    @property
    def processes(self) -> list[int]:
        """Itself and everything it has started."""
        return [self._process.pid, *descendants(self._process.pid)]

    def cpu_seconds(self) -> float:
        """Used so far, with that of children that have been waited for."""
        return cpu_seconds(self.processes)

    def peaks_mb(self) -> list[float]:
        """The most that was ever resident of each process that lives."""
        return [memory_mb([pid], "VmHWM") for pid in self.processes]

    def check(self) -> None:
        """Raise Failed when it has ended."""
        if self._process.poll() is not None:
            raise Failed(f"it ended with {self._process.returncode}: {self.tail()}")

    def tail(self) -> str:
        """The last of what it wrote."""
        return self._log.read_text(errors="replace")[-1500:].strip()

    def end(self) -> None:
        """End it with its children."""
        members = self.processes
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in members[1:]:  # dcmtk's children outlive it
            with suppress(ProcessLookupError):
                os.kill(pid, 15)


def start(
    command: Sequence[str | Path], folder: Path, port: int, *, environment: Mapping[str, str] | None = None
) -> Receiver:
    """Start a receiver and wait until it listens; raises Failed."""
    receiver = launch(command, folder, environment=environment)
    receiver.port = port
    wait_until_listening(receiver)
    return receiver


def launch(command: Sequence[str | Path], folder: Path, *, environment: Mapping[str, str] | None = None) -> Receiver:
    """Start a receiver; its port is for the caller to find out."""
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **(environment or {})},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    return Receiver(process, log)


def wait_until_listening(receiver: Receiver) -> None:
    """Wait until its port takes a connection; ends it and raises Failed when that takes too long."""
    deadline = time.monotonic() + _START_SECONDS
    while not _listens(receiver.port):
        try:
            receiver.check()
            if time.monotonic() > deadline:
                raise Failed(f"it does not listen: {receiver.tail()}")
        except Failed:
            receiver.end()
            raise
        time.sleep(0.02)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    # looked up in /proc (state 0A, LISTEN): a connection that says nothing would be a first association to a receiver
    address = f"0100007F:{port:04X}", f"00000000:{port:04X}", f"{'0' * 32}:{port:04X}"
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] in address and fields[3] == "0A":
                return True
    return False
