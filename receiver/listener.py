"""One listener: serves connections, stores what comes, and reports; what a listener process does.

Run by the receiver (``receiver/listener_process.py``) with inherited descriptors: the channel of reports and orders,
the memory of the places, and a socket that listens for each address. It imports neither Temporal nor a database, so
that receiving has a process of its own, which stays small.
"""

import queue
import signal
import socket
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from clara_dicom_adapter import log as logging_setup
from clara_dicom_adapter import log_levels
from clara_dicom_adapter.configuration.settings import Durability, ScpSettings
from clara_dicom_adapter.dicom.tls_server import TlsServer
from clara_dicom_adapter.receiver import descriptors
from clara_dicom_adapter.receiver.acceptance import KnownApplicationEntities
from clara_dicom_adapter.receiver.filing import AskedFiles
from clara_dicom_adapter.receiver.known import KnownCopy, snapshot
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.places import Places
from clara_dicom_adapter.receiver.report_channel import ReportChannel
from clara_dicom_adapter.receiver.reports import (
    FilesMade,
    Listening,
    LogLevels,
    Progress,
    Report,
    Secure,
    Stop,
)
from clara_dicom_adapter.receiver.scp import ScpParts, StorageScp
from clara_dicom_adapter.receiver.space import SpaceGate
from clara_dicom_adapter.spool import Arrivals
from clara_dicom_adapter.spool.space import StorageSpace

log = structlog.get_logger("clara_dicom_adapter.receiver")

_TICK_SECONDS: Final = 0.2


class Listener:
    """A Storage SCP that reports what happens to it."""

    def __init__(
        self,
        scp: ScpSettings,
        arrivals: Arrivals,
        *,
        places: Places,
        number: int,
        can_store: Callable[[], bool],
        tell: Callable[[Report], bool],
    ) -> None:
        """Args:
        number: Of this listener among those that share the places.
        tell: Takes reports, from any thread; must return at once, and say whether it has taken this one. Only
            progress may be refused.
        """
        self._arrivals = arrivals
        self._tell = tell
        self._known: KnownApplicationEntities | None = None
        self._told: dict[str, tuple[object, ...]] = {}
        self._stopping = threading.Event()
        parts = ScpParts(arrivals, places, number, lambda: self._known, can_store, tell)
        self.scp = StorageScp(scp, parts)
        self._ticker = threading.Thread(target=self._tick, name="progress", daemon=True)

    def know(self, known: KnownCopy) -> None:
        """The configuration has changed."""
        self._known = snapshot(known)

    def use(self, tls: TlsServer | None) -> None:
        """Speak TLS with this certificate from the next association on."""
        self.scp.use(tls)

    def start(self, listening: Sequence[socket.socket], secure: Sequence[socket.socket] = ()) -> None:
        """Serve connections, and report.

        Args:
            secure: Sockets on which TLS is spoken.
        """
        self.scp.start(listening, secure)
        self._ticker.start()
        self._tell(Listening())

    def stop(self, grace_seconds: float) -> None:
        """Take no new association, let open ones finish for a time, abort the rest."""
        self.scp.stop(grace_seconds)
        self._stopping.set()
        self._ticker.join()
        self.scp.try_again()
        self._arrivals.close()

    def _tick(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            self.scp.try_again()
            self.tell_progress()

    def tell_progress(self) -> None:
        """Report what has happened in open associations since it was reported last."""
        associations = [live.copy() for live in self.scp.live.snapshot()]
        state = {live.association_id: _state(live) for live in associations}
        moved = [live for live in associations if self._told.get(live.association_id) != state[live.association_id]]
        if not moved or self._tell(Progress(moved)):
            self._told = state


def _state(live: LiveAssociation) -> tuple[object, ...]:
    return live.instances, live.ignored, live.failed, live.refused, live.last_fragment_at


def serve(connection: int, places: int, *listening: int) -> None:
    """Serve until told to stop; the arguments are descriptors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the receiver says when to stop
    # pydicom's warnings quote what a stranger has sent, and each that is new would be remembered for ever
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    channel = ReportChannel(socket.socket(fileno=connection))
    setup = channel.setup()
    logging_setup.configure(setup.log, part=f"receiver-{setup.number}")
    descriptors.allow_all(setup.scp)
    files = AskedFiles(channel.tell)
    durable = setup.storage.durability is Durability.FLUSH
    listener = Listener(
        setup.scp,
        Arrivals(setup.spool, durable=durable, elsewhere=files.make),
        places=Places(places),
        number=setup.number,
        can_store=SpaceGate(StorageSpace(setup.spool, setup.storage).check),
        tell=channel.tell,
    )
    if setup.known is not None:
        listener.know(setup.known)
    listener.use(setup.tls)
    sockets = [socket.socket(fileno=descriptor) for descriptor in listening]
    plain = len(setup.scp.host) if setup.scp.plain else 0  # the others come behind them
    listener.start(sockets[:plain], sockets[plain:])
    stop: queue.SimpleQueue[float] = queue.SimpleQueue()
    threading.Thread(target=_obey, args=(channel, listener, files, stop.put), name="orders", daemon=True).start()
    listener.stop(stop.get())
    channel.close()


def _obey(channel: ReportChannel, listener: Listener, files: AskedFiles, stop: Callable[[float], None]) -> None:
    """Follow orders; also behind the one to stop, for files are made until the end."""
    try:
        for order in channel.orders():
            if isinstance(order, FilesMade):
                files.made(order)
            elif isinstance(order, Stop):
                stop(order.grace_seconds)
            elif isinstance(order, LogLevels):
                log_levels.apply(order.levels)
            elif isinstance(order, Secure):
                listener.use(order.tls)
            else:
                listener.know(order.known)
    finally:
        files.gone()
        stop(0)  # the receiver has gone
