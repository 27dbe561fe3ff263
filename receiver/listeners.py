"""The listener processes of a receiver: started, told what is configured, replaced when they die, stopped in order.

The receiver binds the port on each address and keeps it; the listeners inherit the sockets and share them. So a
connection that comes while one of them is being replaced waits for the next or is taken by another, and is not refused.
"""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from clara_dicom_adapter.configuration.settings import ScpSettings
from clara_dicom_adapter.dicom.tls_server import TlsServer
from clara_dicom_adapter.receiver.filing import FilesMaker
from clara_dicom_adapter.receiver.known import KnownCopy
from clara_dicom_adapter.receiver.orders import OrderChannel
from clara_dicom_adapter.receiver.places import Places
from clara_dicom_adapter.receiver.reports import (
    REPORTS,
    FilesWanted,
    Know,
    ListenerSetup,
    Listening,
    LogLevels,
    Order,
    Report,
    Secure,
    Stop,
)
from clara_dicom_adapter.spool.filing import MakeFiles
from clara_dicom_adapter.temporal.children import kill_group, spawn
from clara_dicom_adapter.temporal.ports import about_address, bind

log = structlog.get_logger("clara_dicom_adapter.receiver")

BACKLOG: Final = 512
"""Connections that may wait to be accepted."""
_START_SECONDS: Final = 60.0
_STOP_MARGIN_SECONDS: Final = 8.0
_REAP_SECONDS: Final = 10.0
_FIRST_PAUSE_SECONDS: Final = 0.1
_LONGEST_PAUSE_SECONDS: Final = 5.0
_HEALTHY_SECONDS: Final = 30.0
"""A listener that lived for this long is replaced at once."""


class Keeper(Protocol):
    """Who hears of the listeners; called from their threads."""

    def hear(self, listener: int, report: Report) -> None:
        """A report has come."""
        ...

    def dying(self, listener: int) -> None:
        """A listener says no more although nobody has stopped it; :meth:`died` follows."""
        ...

    def died(self, listener: int) -> None:
        """A listener has died, and with it its associations."""
        ...


class Listeners(Protocol):
    """What the receiver wants of its listeners."""

    @property
    def port(self) -> int:
        """The plain port that is listened on, on every address."""
        ...

    @property
    def tls_port(self) -> int:
        """The port of TLS that is listened on, on every address."""
        ...

    @property
    def configured(self) -> int:
        """How many there are to be."""
        ...

    @property
    def listening(self) -> int:
        """How many listen now."""
        ...

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        ...

    def start(self, keeper: Keeper, known: KnownCopy | None) -> None:
        """Listen; raises OSError when the port cannot be had, with the address as its ``filename``."""
        ...

    def know(self, known: KnownCopy) -> None:
        """The configuration has changed."""
        ...

    def use(self, tls: TlsServer) -> None:
        """Speak TLS with this certificate from the next association on."""
        ...

    def stop(self, grace_seconds: float) -> None:
        """Listen no more, let associations finish for a time, and return when all have ended."""
        ...


@dataclass
class _Slot:
    """One listener, whichever process it is at the moment."""

    number: int
    process: "subprocess.Popen[bytes] | None" = None
    channel: OrderChannel | None = None
    listening: threading.Event = field(default_factory=threading.Event)


class ListenerProcesses:
    """Listeners as processes of their own."""

    def __init__(
        self, scp: ScpSettings, setup: Callable[[int, KnownCopy | None], ListenerSetup], make_files: MakeFiles
    ) -> None:
        """Args:
        setup: What a listener is begun with, by its number.
        make_files: Makes files of what listeners have in segments.
        """
        self._files = FilesMaker(make_files)
        self._scp = scp
        self._setup = setup
        self._slots = [_Slot(number) for number in range(scp.receivers)]
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._known: KnownCopy | None = None
        self._levels: dict[str, str] | None = None
        self._tls: TlsServer | None = None
        self._stopping = threading.Event()
        self._places: Places | None = None
        self._plain: list[socket.socket] = []
        self._secure: list[socket.socket] = []

    @property
    def port(self) -> int:
        """The plain port that is listened on, on every address; known after :meth:`start`."""
        return _port(self._plain)

    @property
    def tls_port(self) -> int:
        """The port of TLS that is listened on, on every address; known after :meth:`start`."""
        return _port(self._secure)

    @property
    def configured(self) -> int:
        """How many there are to be."""
        return len(self._slots)

    @property
    def listening(self) -> int:
        """How many listen now."""
        return 0 if self._stopping.is_set() else sum(slot.listening.is_set() for slot in self._slots)

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        processes = [slot.process for slot in self._slots]
        return [process.pid for process in processes if process is not None and process.returncode is None]

    def start(self, keeper: Keeper, known: KnownCopy | None) -> None:
        """Bind the ports and start every listener; raises OSError when one cannot be had on one of the addresses."""
        self._known = known
        self._plain, self._secure = listen_as_configured(self._scp)
        self._places = Places.make()
        for slot in self._slots:
            thread = threading.Thread(
                target=self._keep, args=(slot, keeper), name=f"listener-{slot.number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)
        for slot in self._slots:
            if not slot.listening.wait(_START_SECONDS):
                log.error("listener_does_not_start", number=slot.number)
        for service, sockets in (("dicom", self._plain), ("dicom_tls", self._secure)):
            if sockets:
                host, port = ", ".join(self._scp.host), _port(sockets)
                log.info("listening", service=service, host=host, port=port, count=self.listening)

    def know(self, known: KnownCopy) -> None:
        """Tell every listener what is configured."""
        with self._lock:
            self._known = known
            self._tell(Know(known=known))

    def log_levels(self, levels: Mapping[str, str]) -> None:
        """Have every listener log by these levels, those too that are begun later."""
        with self._lock:
            self._levels = dict(levels)
            self._tell(LogLevels(levels=self._levels))

    def use(self, tls: TlsServer) -> None:
        """Have every listener speak TLS with this certificate, those too that are begun later."""
        with self._lock:
            self._tls = tls
            self._tell(Secure(tls=tls))

    def stop(self, grace_seconds: float) -> None:
        """Listen no more, let associations finish for a time, and return when all have ended."""
        if self._stopping.is_set():
            return
        with self._lock:
            self._stopping.set()
            self._tell(Stop(grace_seconds=grace_seconds))
        for listening in (*self._plain, *self._secure):
            listening.close()
        deadline = time.monotonic() + grace_seconds + _STOP_MARGIN_SECONDS
        for slot, thread in zip(self._slots, self._threads, strict=False):
            thread.join(max(deadline - time.monotonic(), 0.1))
            process = slot.process
            if process is not None and process.poll() is None:
                log.warning("listener_does_not_stop", number=slot.number, pid=process.pid)
                kill_group(process)
                thread.join(1)
        self._files.close()
        if self._places is not None:
            self._places.close()

    # ---- one listener, in a thread that stays: the kernel kills a child when the thread that started it ends ----

    def _keep(self, slot: _Slot, keeper: Keeper) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            begun = time.monotonic()
            try:
                process = self._begin(slot)
            except OSError as error:  # no more processes, threads, descriptors or memory, for now
                log.error("listener_not_started", number=slot.number, reason=error.strerror)
            else:
                if process is None or self._attend(slot, process, keeper):
                    return
            pause = _FIRST_PAUSE_SECONDS if time.monotonic() - begun > _HEALTHY_SECONDS else pause
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _begin(self, slot: _Slot) -> "subprocess.Popen[bytes] | None":
        with self._lock:  # whatever changes from now on is an order behind the setup
            if self._stopping.is_set() or self._places is None:
                return None
            setup = self._setup(slot.number, self._known).model_copy(update={"tls": self._tls})
            ours, theirs = socket.socketpair()
            with theirs:
                channel = OrderChannel(ours, setup)
                listening = (each.fileno() for each in (*self._plain, *self._secure))
                descriptors = (theirs.fileno(), self._places.descriptor, *listening)
                module = "clara_dicom_adapter.receiver.listener_process"
                command = [sys.executable, "-m", module, *map(str, descriptors)]
                try:
                    slot.process = spawn(command, pass_fds=descriptors)
                except OSError:
                    channel.close()
                    raise
            if self._levels is not None:
                channel.tell(LogLevels(levels=self._levels))
            slot.channel = channel
            return slot.process

    def _attend(self, slot: _Slot, process: "subprocess.Popen[bytes]", keeper: Keeper) -> bool:
        """Listen to a listener until it has ended; returns whether it was to end, and has done so in order."""
        self._listen_to(slot, keeper)
        slot.listening.clear()
        unexpected = not self._stopping.is_set()
        if unexpected:
            _have_heard(slot, keeper.dying)
        status = _reaped(process)
        if self._places is not None:
            self._places.clear(slot.number)
        if not unexpected and status == 0:
            return True
        log.error("listener_died", number=slot.number, pid=process.pid, exit_code=status)
        if not unexpected:
            _have_heard(slot, keeper.dying)
        _have_heard(slot, keeper.died)
        return False

    def _listen_to(self, slot: _Slot, keeper: Keeper) -> None:
        channel = slot.channel
        if channel is None:
            return
        with suppress(OSError):
            for line in channel.lines():
                try:
                    report = REPORTS.validate_json(line)
                except ValueError:  # cut off by the death of its process
                    log.warning("report_lost", number=slot.number)
                    continue
                if isinstance(report, FilesWanted):
                    self._files.hear(report, channel)
                    continue
                if isinstance(report, Listening):
                    slot.listening.set()
                _have_heard(slot, keeper.hear, report)
        with self._lock:
            slot.channel = None
        channel.close()

    def _tell(self, order: Order) -> None:
        """Have every listener that runs follow an order; one that is begun later is begun with what is known."""
        for slot in self._slots:
            if slot.channel is not None:
                slot.channel.tell(order)


def _have_heard(slot: _Slot, hear: Callable[..., object], *report: Report) -> None:
    """Have somebody hear of a listener; whatever comes of it, this thread stays, and with it the listener."""
    try:
        hear(slot.number, *report)
    except Exception:
        log.exception("report_failed", number=slot.number)


def _reaped(process: "subprocess.Popen[bytes]") -> int:
    """The exit status of a process whose channel has closed: it ends by itself, or is made to."""
    try:
        return process.wait(_REAP_SECONDS)
    except subprocess.TimeoutExpired:
        kill_group(process)
        return process.returncode


def _port(sockets: Sequence[socket.socket]) -> int:
    if not sockets:
        raise RuntimeError("this port is not listened on")
    return int(sockets[0].getsockname()[1])


def listen_as_configured(scp: ScpSettings) -> tuple[list[socket.socket], list[socket.socket]]:
    """Sockets that listen, plain ones and those for TLS; raises OSError as :func:`listen`."""
    plain = listen(scp.host, scp.port) if scp.plain else []
    try:
        return plain, listen(scp.host, scp.tls.port) if scp.tls.enabled else []
    except OSError:
        for each in plain:
            each.close()
        raise


def listen(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """A socket that listens for each address; raises OSError as :func:`~clara_dicom_adapter.temporal.ports.bind`."""
    listening = bind(hosts, port)
    try:
        for host, each in zip(hosts, listening, strict=True):
            try:
                each.listen(BACKLOG)
            except OSError as error:  # who reserves a port may have been overtaken
                raise about_address(error, host, port) from error
    except OSError:
        for each in listening:
            each.close()
        raise
    return listening
