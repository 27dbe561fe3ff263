"""One part of the adapter as a child process: started, watched, heard, and judged when it dies.

The supervisor's loop calls everything here from its one thread.
"""

import json
import os
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from clara_dicom_adapter.cli.running import PartLog, PartState, PartStatus
from clara_dicom_adapter.temporal.children import kill_group, spawn

log = structlog.get_logger("clara_dicom_adapter.cli")

MAXIMUM_LINE = 65536
"""Longer output without a line end is cut into lines of this many bytes."""
INVALID_CONFIGURATION = 2
"""Exit status of a part, and of the command, when trying again cannot help."""


@dataclass(frozen=True)
class PartSpec:
    """How to run a part."""

    name: str
    command: tuple[str, ...]
    """Gets ``--status-fd N`` in addition, see :mod:`cli.parts.entry`."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Added to the supervisor's own."""
    after: tuple[str, ...] = ()
    """Parts that must be ready before it is started the first time."""
    stop_seconds: float = 10.0
    """How long it may take to stop in order, before it is killed."""


@dataclass(frozen=True)
class Patience:
    """When a part that dies is given up."""

    unready_deaths: int = 5
    """Lives in a row that ended before it was ready."""
    short_lives: int = 20
    """Lives in a row that ended within ``healthy_seconds``, ready or not."""
    healthy_seconds: float = 10.0
    first_pause: float = 0.1
    longest_pause: float = 5.0


class PartProcess:
    """The process of one part, over all its lives."""

    def __init__(
        self,
        spec: PartSpec,
        selector: selectors.BaseSelector,
        written: PartLog,
        heard: Callable[[str, bytes], None],
        patience: Patience,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            selector: The supervisor's; its data are functions to call when a descriptor is readable.
            heard: Told the part's name and each line that it writes.
        """
        self.spec = spec
        self.status = PartStatus(name=spec.name)
        self.restart_at: float | None = None
        self.kill_at: float | None = None
        self.exit_status: int | None = None
        self._selector = selector
        self._written = written
        self._heard = heard
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._open: list[int] = []
        self._output = bytearray()
        self._report = bytearray()
        self.last_lines: deque[str] = deque(maxlen=12)
        self._born = 0.0
        self._unready_deaths = 0
        self._short_lives = 0

    @property
    def alive(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start the process; it is STARTING until it reports."""
        self.restart_at = None
        self._output.clear()
        self._report.clear()
        output, output_end = os.pipe()
        report, report_end = os.pipe()
        try:
            self._process = spawn(
                [*self.spec.command, "--status-fd", str(report_end)],
                # glibc gives each thread a heap of its own, which only grows; two suffice for threads that mostly wait
                env={"MALLOC_ARENA_MAX": "2", **os.environ, "PYTHONUNBUFFERED": "1", **self.spec.environment},
                stdout=output_end,
                stderr=output_end,
                pass_fds=(report_end,),
            )
        except OSError as error:  # out of processes or memory for the moment
            os.close(output)
            os.close(report)
            self.exit_status = None
            self.status.last_exit = f"could not be started: {error.strerror}"
            self._born = time.monotonic()
            self._judge(was_ready=False)
            return
        finally:
            os.close(output_end)
            os.close(report_end)
        self._born = time.monotonic()
        self._watch(output, lambda: self._read_output(output))
        self._watch(report, lambda: self._read_report(report))
        ended = os.pidfd_open(self._process.pid)
        self._watch(ended, self._ended)
        self.status.pid = self._process.pid
        self.status.state = PartState.STARTING
        self.status.started_at = time.time()
        self.status.addresses = {}

    def _watch(self, descriptor: int, act: Callable[[], None]) -> None:
        os.set_blocking(descriptor, False)
        self._open.append(descriptor)
        self._selector.register(descriptor, selectors.EVENT_READ, act)

    def _read(self, descriptor: int) -> bytes | None:
        """What is there; empty at the end, when the descriptor is not watched any more; None when there is nothing."""
        try:
            data = os.read(descriptor, MAXIMUM_LINE)
        except BlockingIOError:
            return None
        if not data:
            with suppress(KeyError):
                self._selector.unregister(descriptor)
        return data

    def _read_output(self, descriptor: int) -> None:
        data = self._read(descriptor)
        self._output += data or b""
        while (end := self._output.find(b"\n")) >= 0 or len(self._output) >= MAXIMUM_LINE:
            cut = end if end >= 0 else MAXIMUM_LINE
            line = bytes(self._output[:cut])
            del self._output[: cut + (end >= 0)]
            self._line(line)

    def _line(self, line: bytes) -> None:
        self._written.write(line)
        self._heard(self.spec.name, line)
        self.last_lines.append(line.decode(errors="replace"))

    def _read_report(self, descriptor: int) -> None:
        self._report += self._read(descriptor) or b""
        while (end := self._report.find(b"\n")) >= 0:
            message = json.loads(bytes(self._report[:end]))
            del self._report[: end + 1]
            self.status.addresses = {str(name): str(address) for name, address in message["addresses"].items()}
            if self.status.state is PartState.STARTING:
                self.status.state = PartState.READY

    def _ended(self) -> None:
        """The process has ended: take its last words, and judge."""
        if self._process is None:
            return
        kill_group(self._process)  # before it is reaped its process group cannot be anybody else's
        self.exit_status = status = self._process.wait()
        self._process = None
        for descriptor, read in zip(self._open[:2], (self._read_output, self._read_report), strict=True):
            if descriptor in self._selector.get_map():
                read(descriptor)
        if self._output:
            self._line(bytes(self._output))
        for descriptor in self._open:
            with suppress(KeyError):
                self._selector.unregister(descriptor)
            os.close(descriptor)
        self._open.clear()
        self.kill_at = None
        self.status.pid = None
        self.status.last_exit = _in_words(status)
        if self.status.state is PartState.STOPPING:
            self.status.state = PartState.STOPPED
            return
        self._judge(was_ready=self.status.state is PartState.READY)

    def _judge(self, *, was_ready: bool) -> None:
        lived = time.monotonic() - self._born
        self._unready_deaths = 0 if was_ready else self._unready_deaths + 1
        self._short_lives = 0 if was_ready and lived >= self._patience.healthy_seconds else self._short_lives + 1
        pause = min(self._patience.first_pause * 2 ** max(self._short_lives - 1, 0), self._patience.longest_pause)
        self.restart_at = time.monotonic() + pause
        self.status.state = PartState.RESTARTING
        self.status.restarts += 1
        log.warning("part_ended", name=self.spec.name, reason=self.status.last_exit, seconds=round(lived, 1))

    @property
    def hopeless(self) -> str:
        """Why it is not worth starting it again; empty while it is."""
        if self.status.state is not PartState.RESTARTING:
            return ""
        name = self.spec.name
        if self.exit_status == INVALID_CONFIGURATION:
            return f"{name} cannot work with this configuration"
        if self._unready_deaths >= self._patience.unready_deaths:
            return f"{name} ended {self._unready_deaths} times without getting ready ({self.status.last_exit})"
        if self._short_lives >= self._patience.short_lives:
            return f"{name} ended {self._short_lives} times shortly after its start ({self.status.last_exit})"
        return ""

    def stop(self) -> None:
        """Ask it to end; what does not run is stopped already."""
        self.restart_at = None
        if self._process is None:
            self.status.state = PartState.STOPPED
            return
        self.status.state = PartState.STOPPING
        self.kill_at = time.monotonic() + self.spec.stop_seconds
        with suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGTERM)

    def hang_up(self) -> None:
        """Have it read its log levels again; one that does not serve yet reads them anyway."""
        if self._process is not None and self.status.state is PartState.READY:
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGHUP)

    def kill(self) -> None:
        """End it now."""
        self.restart_at = None
        if self._process is not None:
            self.status.state = PartState.STOPPING
            kill_group(self._process)
            self._ended()

    def close(self) -> None:
        self._written.close()


def _in_words(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    return f"ended by {signal.Signals(-status).name}"
