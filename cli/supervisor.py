"""Runs the parts of the adapter as child processes, for ``clara dicom start``.

One thread and one loop, because Linux ties the life of a child to the thread that started it. Parts are started in
the order given, each when those it comes ``after`` are ready, and stopped in the opposite order.
"""

import os
import select
import selectors
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

import structlog

from clara_dicom_adapter.cli.part_process import INVALID_CONFIGURATION, PartProcess, PartSpec, Patience
from clara_dicom_adapter.cli.running import (
    AdapterState,
    AdapterStatus,
    DataLock,
    PartLog,
    PartState,
    write_status,
)
from clara_dicom_adapter.configuration.settings import DataFolder

log = structlog.get_logger("clara_dicom_adapter.cli")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)


class Console:
    """Shows what parts write on standard error, each line with its part's name.

    Never waits for a reader that has stopped reading (a paused terminal or pager): that would stop the parts too. What
    is not shown is in the parts' log files.
    """

    def __init__(self, descriptor: int = 2, *, names: bool = True) -> None:
        """Args:
        names: Not for JSON lines, which carry the name already.
        """
        self._descriptor = descriptor
        self._names = names
        self._patience_seconds = 0.1

    def __call__(self, part: str, line: bytes) -> None:
        """Show a line, or drop it."""
        text = (f"{part:>8} | ".encode() if self._names else b"") + line + b"\n"
        for start in range(0, len(text), select.PIPE_BUF):
            # writable means that this much fits without waiting (pipe(7), PIPE_BUF)
            writable = bool(select.select([], [self._descriptor], [], self._patience_seconds)[1])
            self._patience_seconds = 0.1 if writable else 0.0
            if not writable:
                return
            with suppress(OSError):  # the terminal was closed, which is no reason to stop
                os.write(self._descriptor, text[start : start + select.PIPE_BUF])


def _has_terminal() -> bool:
    """Whether this process has a controlling terminal; it has none any more when that was closed."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


class Supervisor:
    """The parts of one data folder."""

    def __init__(
        self,
        data: DataFolder,
        parts: Sequence[PartSpec],
        *,
        ready: Callable[[AdapterStatus], None] | None = None,
        heard: Callable[[str, bytes], None] | None = None,
        patience: Patience | None = None,
        reload: Callable[[], None] | None = None,
    ) -> None:
        """Prepare; :meth:`run` takes the lock and starts.

        Args:
            parts: In the order to start them.
            ready: Told once, when every part is ready.
            heard: Told each line of every part; none: a :class:`Console`.
        reload: Reads the log levels again, for this process; on SIGHUP, which every part gets as well.
        """
        self._data = data
        self._ready = ready
        self._reload = reload
        self._had_terminal = _has_terminal()
        self._selector = selectors.DefaultSelector()
        heard = heard or Console()
        self._parts = [
            PartProcess(spec, self._selector, PartLog(data.logs / f"{spec.name}.log"), heard, patience or Patience())
            for spec in parts
        ]
        self._state = AdapterState.STARTING
        self._started_at = time.time()
        self._reason = ""
        self._exit_status = 0
        self._written: AdapterStatus | None = None

    @property
    def status(self) -> AdapterStatus:
        return AdapterStatus(
            pid=os.getpid(),
            state=self._state,
            started_at=self._started_at,
            reason=self._reason,
            parts=[part.status.model_copy() for part in self._parts],
        )

    def run(self) -> int:
        """Run until a signal or a hopeless part ends it; from the main thread.

        Returns:
            Exit status: 0 after a stop in order, 1 when a part kept dying or the stop was forced, 2 for a
            configuration that cannot work.

        Raises:
            SpoolInUse: Another process serves this data folder.
        """
        lock = DataLock(self._data)
        wakeup, restore = self._listen_to_signals()
        try:
            self._loop()
        finally:
            for part in self._parts:
                part.kill()
                part.close()
            restore()
            self._selector.close()
            os.close(wakeup)
            self._write_status()
            lock.release()
        return self._exit_status

    def _listen_to_signals(self) -> tuple[int, Callable[[], None]]:
        """Turn signals into bytes that the loop reads."""

        def noted(_signal: int, _frame: FrameType | None) -> None:
            """The byte in the pipe is what counts."""

        receiving, sending = os.pipe()
        for end in (receiving, sending):
            os.set_blocking(end, False)
        # a signal that is ignored on purpose (nohup, a background job of a shell) stays ignored
        wanted = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, noted) for number in wanted}
        before_wakeup = signal.set_wakeup_fd(sending)
        self._selector.register(receiving, selectors.EVENT_READ, lambda: self._signalled(os.read(receiving, 64)))

        def restore() -> None:
            signal.set_wakeup_fd(before_wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(sending)

        return receiving, restore

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number not in SIGNALS:
                continue
            if number == signal.SIGHUP and not (self._had_terminal and not _has_terminal()):
                self._read_levels_again()
                continue
            if self._state in {AdapterState.STARTING, AdapterState.RUNNING}:
                log.info("stopping", signal=signal.Signals(number).name)
                self._state = AdapterState.STOPPING
            elif number != signal.SIGHUP:  # of which a terminal that is closed may send several
                log.warning("stopping_hard", signal=signal.Signals(number).name)
                self._exit_status = self._exit_status or 1
                for part in self._parts:
                    part.kill()

    def _read_levels_again(self) -> None:
        if self._reload is not None:
            self._reload()
        for part in self._parts:
            part.hang_up()

    def _loop(self) -> None:
        while self._step():
            self._write_status()
            for key, _events in self._selector.select(self._patience()):
                # what was reported before it may have been the end of the part, which closed this one as well
                if self._selector.get_map().get(key.fd) == key:
                    key.data()

    def _step(self) -> bool:
        """Do what is due; False when everything has ended."""
        now = time.monotonic()
        for part in self._parts:
            if part.kill_at is not None and now >= part.kill_at:
                log.warning("part_killed", name=part.spec.name, seconds=part.spec.stop_seconds)
                part.kill()
        if self._state in {AdapterState.STARTING, AdapterState.RUNNING}:
            for part in self._parts:
                if part.hopeless:
                    self._give_up(part)
        if self._state in {AdapterState.STOPPING, AdapterState.FAILED}:
            return self._stop_next()
        for part in self._parts:
            restart = part.restart_at is not None and now >= part.restart_at
            if restart or (part.status.state is PartState.WAITING and all(map(self._is_ready, part.spec.after))):
                part.start()
        if self._state is AdapterState.STARTING and all(part.status.state is PartState.READY for part in self._parts):
            self._state = AdapterState.RUNNING
            log.info("adapter_ready", seconds=round(time.time() - self._started_at, 1), addresses=self.status.addresses)
            self._write_status()
            if self._ready is not None:
                self._ready(self.status)
        return True

    def _is_ready(self, name: str) -> bool:
        return any(part.status.state is PartState.READY for part in self._parts if part.spec.name == name)

    def _give_up(self, part: PartProcess) -> None:
        self._reason = "\n".join([part.hopeless + ". Its last lines:", *("  " + line for line in part.last_lines)])
        self._state = AdapterState.FAILED
        self._exit_status = INVALID_CONFIGURATION if part.exit_status == INVALID_CONFIGURATION else 1
        log.error("adapter_given_up", name=part.spec.name, reason=part.hopeless)
        part.stop()

    def _stop_next(self) -> bool:
        """Stop the last part that is not stopped yet; False when there is none."""
        for part in reversed(self._parts):
            if part.status.state not in {PartState.STOPPING, PartState.STOPPED}:
                part.stop()  # which stops one that does not run at once
            if part.status.state is not PartState.STOPPED:
                return True
        if self._state is AdapterState.STOPPING:
            self._state = AdapterState.STOPPED
        log.info("adapter_stopped", exit_code=self._exit_status)
        return False

    def _patience(self) -> float | None:
        """How long the loop may wait for events."""
        due = [at for part in self._parts for at in (part.restart_at, part.kill_at) if at is not None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _write_status(self) -> None:
        status = self.status
        if status == self._written:
            return
        try:
            write_status(self._data, status)
            self._written = status
        except OSError as error:  # a full disk must not end what stores studies on another one
            log.warning("status_not_written", reason=str(error))
