"""The one hook into pynetdicom: its upper layer with limits, without polling, and with a path of our own for P-DATA.

How it works: listening, negotiation, release, abort and C-ECHO are pynetdicom's. An association has two threads, as
there: one reads, writes and drives the state machine (:class:`LimitedUpperLayer`), one serves the association
(:class:`QuietAssociation`). Ours differ in four things.

* Nothing is polled. The reading thread waits for the connection and for an eventfd that is written when the other
  thread has something to send; the serving thread waits until something has arrived for it. ARTIM and the idle limit
  are deadlines of these waits.
* Once an association counts as established, its P-DATA goes from the socket through the parser to the store session in
  the reading thread. Nothing is read between the A-ASSOCIATE-AC and that moment: a peer may well send its first
  C-STORE before our own negotiation has come to its end.
* What is not the P-DATA of a C-STORE goes to the state machine, its bytes intact.
* Reading a PDU has a time limit and a length limit, writing has a time limit, and what an association ended with is
  kept, because pynetdicom reports an abort by the peer and a lost connection alike. Before an association is
  established one time limit counts for all that the peer says.
"""

import select
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, cast

import structlog
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.transport import AssociationSocket

from clara_dicom_adapter.receiver import commands, negotiation, pdata
from clara_dicom_adapter.receiver.dimse import AcceptedContext, Echo, Foreign, Senseless, StoreMessages, StoreSink
from clara_dicom_adapter.receiver.pdata import AbortReason, Broken, OtherPdu, PDataParser
from clara_dicom_adapter.receiver.secure import Polls, aware
from clara_dicom_adapter.receiver.tls_failures import TLS_HANDSHAKE
from clara_dicom_adapter.receiver.waking import AnnouncedQueue, Bell
from clara_dicom_adapter.receiver.wire_log import WireLog
from clara_dicom_adapter.workflows.models import AssociationOutcome

log = structlog.get_logger("clara_dicom_adapter.receiver")

PRIVATE_NAMES: Final[Mapping[type, tuple[str, ...]]] = {
    DULServiceProvider: ("_is_transport_event", "_read_pdu_data", "_decode_pdu", "_recv_pdu", "_run_loop_delay"),
    Association: ("_bind_defaults", "_run_reactor", "_serve_request", "_kill"),
    AssociationSocket: ("_shutdown_socket",),
}
"""What we use of pynetdicom that is not public; a pynetdicom without one of them needs a new look at this module."""

# PS3.8 section 9.3.1
_ASSOCIATE_RQ: Final = 0x01
_RELEASE_RQ: Final = 0x05
_ABORT: Final = 0x07
_PROTOCOL_VERSION: Final = slice(6, 8)  # PS3.8 table 9-11: bit 0 is version 1, and only that bit is tested
_VERSION_1: Final = b"\0\1"
_CALLED_AE_TITLE: Final = slice(10, 26)  # PS3.8 table 9-11
_CALLING_AE_TITLE: Final = slice(26, 42)

# PS3.8 table 9-10
_CONNECTION_CLOSED: Final = "Evt17"
_INVALID_PDU: Final = "Evt19"

_LONGEST_PDU: Final[Mapping[tuple[str, int], int]] = {
    ("Sta2", _ASSOCIATE_RQ): negotiation.LONGEST,
    ("Sta2", _ABORT): 1024,  # 4 by the standard
    ("Sta3", _ABORT): 1024,
    ("Sta6", _ABORT): 1024,
    ("Sta6", _RELEASE_RQ): 1024,
}
"""PDUs that pynetdicom is told of, by its state, and how long they may be; of others only the header is read."""
_UNREADABLE: Final = b"?".ljust(16)
_AT_ONCE: Final = 65536
_DRAIN_SECONDS: Final = 1.0
_QUIET_SECONDS: Final = 0.1
"""A peer that has sent nothing for this long after our last PDU is not in the middle of sending."""
END_SECONDS: Final = 5.0
"""A thread that has been told to end and takes longer hangs in a dying disk."""

_SERVICES_OF_PYNETDICOM: Final = (
    evt.EVT_C_ECHO,
    evt.EVT_ASYNC_OPS,
    evt.EVT_SOP_COMMON,
    evt.EVT_SOP_EXTENDED,
    evt.EVT_USER_ID,
)


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes that a peer may cost."""

    request_seconds: float
    idle_seconds: float
    write_seconds: float
    pdu_length: int


class _Came(Enum):
    """What ended a wait."""

    BYTES = "bytes"
    WORK = "work"
    NOTHING = "nothing"


class LimitedSocket(AssociationSocket):
    """An accepted connection that sends at once, or fails within the time limit."""

    def send(self, bytestream: bytes) -> None:
        """Send a PDU; the state machine hears of a failure as a closed connection."""
        try:
            cast(LimitedUpperLayer, self.assoc.dul).send_bytes(bytestream)
        except OSError:
            cast(LimitedUpperLayer, self.assoc.dul).lost()


class LimitedUpperLayer(DULServiceProvider):
    """DUL provider of an acceptor."""

    def __init__(self, assoc: Association, connection: socket.socket, limits: Limits, arrived: threading.Event) -> None:
        """Args:
        arrived: Set whenever there is something for the serving thread.
        """
        super().__init__(assoc)
        self.daemon = True  # a thread that hangs in a dying disk must not keep the process
        self.ended_with: AssociationOutcome | None = None
        self.has_ended = False
        self.calling_ae_title = ""
        self.called_ae_title = ""
        self._limits = limits
        self._connection = connection
        self._arrived = arrived
        self.to_user_queue = AnnouncedQueue(arrived)
        self._run_loop_delay = 0  # the wait is in _is_transport_event
        self._bell = Bell()
        self._for_work = select.poll()
        self._for_work.register(self._bell.descriptor, select.POLLIN)
        both = select.poll()
        both.register(self._bell.descriptor, select.POLLIN)
        both.register(connection.fileno(), select.POLLIN)
        self._for_both = aware(both, connection)
        for_bytes = select.poll()
        for_bytes.register(connection.fileno(), select.POLLIN)
        self._for_bytes = aware(for_bytes, connection)
        self._request_until = time.monotonic() + limits.request_seconds
        self._parser = PDataParser(limits.pdu_length)
        self._messages: StoreMessages | None = None
        self._wire_log: WireLog | None = None
        self._echoing = False
        self._pdu = 0  # the one that was being received when it was last looked at
        self._pdu_since = 0.0

    def note(self, outcome: AssociationOutcome) -> None:
        """Keep how the association ended; the first cause counts."""
        if self.ended_with is None:
            self.ended_with = outcome

    def lost(self) -> None:
        """The connection is gone."""
        self.note(AssociationOutcome.CONNECTION_LOST)
        self.event_queue.put(_CONNECTION_CLOSED)

    # ---- called by the serving thread, and from outside ----

    def store_to(self, sink: StoreSink, wire_log: WireLog | None = None) -> None:
        """The association counts as established: from now on its P-DATA is read."""
        contexts = {
            cast(int, context.context_id): AcceptedContext(
                str(context.abstract_syntax), str(context.transfer_syntax[0])
            )
            for context in self.assoc.accepted_contexts
        }
        self._wire_log = wire_log
        if wire_log is not None:
            self._parser.told = wire_log.received_pdu
        self._messages = StoreMessages(
            contexts,
            sink if wire_log is None else wire_log.of_sink(sink),
            self._connection.sendall if wire_log is None else self.send_bytes,
            maximum_pdu_length=cast(int, self.assoc.requestor.maximum_length),
            told=None if wire_log is None else wire_log.received_command,
        )
        self._bell.ring()

    def send_bytes(self, data: bytes) -> None:
        """Send whole PDUs; raises OSError when the peer does not take them."""
        self._connection.sendall(data)
        if self._wire_log is not None:
            self._wire_log.sent(data)

    def send_pdu(self, primitive: Any) -> None:
        """Have the reading thread send something."""
        super().send_pdu(primitive)
        self._echoing = False  # whatever it is, it answers what is being waited for
        self._bell.ring()

    def kill_dul(self) -> None:
        """Have the reading thread end."""
        super().kill_dul()
        self._bell.ring()

    def close(self) -> None:
        """Let go of what is held; for an association whose threads never ran."""
        self._bell.close()

    # ---- the reading thread ----

    def run_reactor(self) -> None:
        """Read and write until the connection has ended."""
        try:
            super().run_reactor()
        except InvalidEventError:
            # our answer crossed with what ended the association, for which pynetdicom's states have no place
            self.note(AssociationOutcome.ABORTED)
            self._drain()
            cast(AssociationSocket, self.socket)._shutdown_socket()
        except Exception:
            if self.ended_with is None:  # afterwards, what was still to be sent is in the way of pynetdicom's states
                log.exception("upper_layer_failed")
            self.note(AssociationOutcome.ADAPTER_STOPPED)
            cast(AssociationSocket, self.socket)._shutdown_socket()
        finally:
            self._bell.close()
            self.has_ended = True
            # who still waits for an association request must not wait for the whole time limit
            self.to_user_queue.put(cast(Any, None))

    def _is_transport_event(self) -> bool:
        # called whenever the state machine has nothing to do and nothing to send: here the thread waits
        if not self.event_queue.empty():
            return False
        state = self.state_machine.current_state
        if state == "Sta13":
            self._drain()
            cast(AssociationSocket, self.socket).close()
            return True
        if state == "Sta6":
            return self._transfer_data()
        if state == "Sta8":  # our A-RELEASE-RP is on its way, and must not wait for what the peer still says
            self._wait(self._for_work, self._limits.idle_seconds)
            return False
        if self._wait(self._for_both, self.artim_timer.remaining if state == "Sta2" else None) is _Came.BYTES:
            self._read_pdu_data()
            return True
        return False

    def _wait(self, events: Polls, seconds: float | None) -> _Came:
        ready = events.poll(None if seconds is None else max(seconds, 0) * 1000 + 1)
        if not ready:
            return _Came.NOTHING
        for descriptor, _ in ready:
            if descriptor == self._bell.descriptor:  # first, for a peer that sends without end is always ready
                self._bell.silence()
                return _Came.WORK
        return _Came.BYTES

    def _transfer_data(self) -> bool:
        if self._messages is None or self._echoing:
            if self._wait(self._for_work, self._limits.idle_seconds) is _Came.NOTHING:
                self._silent()
            return False
        while self.to_provider_queue.empty():
            try:
                foreign = self._messages.serve(self._parser.events())
                if foreign is not None:
                    self._hand_over(foreign)
                    return True
                came = self._wait(self._for_both, self._time_left())
                if came is not _Came.BYTES:
                    if came is _Came.NOTHING:
                        self._silent()
                    return False
                try:
                    received = self._connection.recv_into(self._parser.free())
                except ssl.SSLWantReadError:  # TLS goes on, and the peer has said nothing
                    continue
            except OSError:  # also of what was to be sent
                received = 0
            if not received:
                self.lost()
                return True
            self._parser.received(received)
        return False

    def _time_left(self) -> float:
        """Seconds that the peer has for its next byte, and for the rest of the PDU that it has begun."""
        now = time.monotonic()
        if self._parser.pdus != self._pdu or not self._parser.within_pdu:
            self._pdu, self._pdu_since = self._parser.pdus, now
        return self._pdu_since + self._limits.idle_seconds - now

    def _silent(self) -> None:
        if self._parser.within_pdu:
            self._abort(Broken(AbortReason.NOT_SPECIFIED, "a PDU that does not end"))
        else:
            self._abort(Senseless("no PDU within the idle limit"))

    def _hand_over(self, foreign: Foreign) -> None:
        """Give the state machine what does not concern storing."""
        if isinstance(foreign, Echo):
            self._echoing = True
            context_id, encoded = foreign.command
            pdu, event = self._decode_pdu(bytearray(commands.p_data(context_id, encoded, 0)))
            self._recv_pdu.put(pdu)
            self.event_queue.put(event)
        elif isinstance(foreign, OtherPdu):
            if foreign.kind in (_RELEASE_RQ, _ABORT):
                self._read_pdu_data()
            else:
                self._abort(Broken(AbortReason.UNEXPECTED_PDU, "a PDU that has no place in an open association"))
        else:
            self._abort(foreign)

    def _abort(self, cause: Broken | Senseless) -> None:
        log.warning("protocol_broken", reason=cause.text, peer=self.assoc.requestor.address)
        self.note(AssociationOutcome.ABORTED)
        if isinstance(cause, Broken):
            self.assoc.acse.send_ap_abort(cause.reason)
        else:
            self.assoc.acse.send_abort(0x00)

    def _drain(self) -> None:
        # closing with unread bytes would reset the connection, and the peer might never see our last PDU
        deadline = time.monotonic() + _DRAIN_SECONDS
        events = select.poll()
        events.register(self._connection.fileno(), select.POLLIN)
        while time.monotonic() < deadline and events.poll(_QUIET_SECONDS * 1000):
            try:
                if not self._connection.recv(_AT_ONCE):
                    return
            except OSError:
                return

    def _read_pdu_data(self) -> None:
        state = self.state_machine.current_state
        until = time.monotonic() + self._limits.idle_seconds if state == "Sta6" else self._request_until
        try:
            header = self._receive(pdata.PDU_HEADER.size, until, begun=False)
            kind, length = pdata.PDU_HEADER.unpack(header)
            if state == "Sta2" and kind == TLS_HANDSHAKE:
                self._broken("TLS on the port without it")
                return
            if length > _LONGEST_PDU.get((state, kind), -1):
                self._broken(f"PDU of type {kind} and length {length} has no place here")
                return
            data = header + self._receive(length, until)
        except TimeoutError:
            self._broken("a PDU that does not end")
            return
        except ssl.SSLWantReadError:  # TLS goes on, and the peer has said nothing
            return
        except ssl.SSLError:
            self._drain()  # so that the peer hears why
            self.lost()
            return
        except OSError:
            self.lost()
            return
        if kind == _ASSOCIATE_RQ and negotiation.has_too_many_items(data):
            self._broken("an association request with too many items")
            return
        if kind == _ASSOCIATE_RQ:
            self._read_version(data)
            self._read_titles(data)
        try:
            pdu, event = self._decode_pdu(data)
            if kind == _ASSOCIATE_RQ:
                pdu.to_primitive()  # what it raises would otherwise end this thread, and the peer hear nothing
        except Exception as error:  # whatever pynetdicom raises on bytes that a stranger sent
            self._broken(f"undecodable PDU: {type(error).__name__}")
            return
        if kind == _ABORT:
            self.note(AssociationOutcome.ABORTED)
        self._recv_pdu.put(pdu)
        self.event_queue.put(event)

    def _receive(self, length: int, until: float, *, begun: bool = True) -> bytearray:
        # of a PDU that has not begun nothing is waited for beyond what is there
        data = bytearray(self._parser.take(length))
        while len(data) < length:
            if self._wait(self._for_bytes, until - time.monotonic()) is _Came.NOTHING:
                raise TimeoutError
            piece = bytearray(min(length - len(data), _AT_ONCE))
            try:
                received = self._connection.recv_into(piece)
            except ssl.SSLWantReadError:
                if not begun and not data:
                    raise
                continue
            if not received:
                raise ConnectionError("closed by the peer")
            data += memoryview(piece)[:received]
        return data

    def _broken(self, reason: str) -> None:
        log.warning("protocol_broken", reason=reason, peer=self.assoc.requestor.address)
        self.note(AssociationOutcome.ABORTED)
        self.event_queue.put(_INVALID_PDU)

    def _read_version(self, data: bytearray) -> None:
        # pynetdicom rejects who speaks later versions besides, like those who do not speak the first
        if int.from_bytes(data[_PROTOCOL_VERSION]) & 1:
            data[_PROTOCOL_VERSION] = _VERSION_1
        else:
            reason = "an association request without version 1 of the protocol"
            log.warning("protocol_broken", reason=reason, peer=self.assoc.requestor.address)

    def _read_titles(self, data: bytearray) -> None:
        # pynetdicom refuses blank and non-ASCII AE titles with an exception in the wrong thread; they deserve a verdict
        for name, place in (("called_ae_title", _CALLED_AE_TITLE), ("calling_ae_title", _CALLING_AE_TITLE)):
            raw = bytes(data[place])
            title = raw.decode("ascii", "replace").strip(" \0")
            setattr(self, name, title)
            if not title or not title.isascii() or not title.isprintable() or "\\" in title:
                data[place] = _UNREADABLE


class QuietAssociation(Association):
    """pynetdicom's acceptor, told of what arrives instead of looking for it every millisecond."""

    def __init__(self, ae: AE, connection: socket.socket, limits: Limits) -> None:
        super().__init__(ae, "acceptor")
        self._arrived = threading.Event()
        self.dul = self.upper_layer = LimitedUpperLayer(self, connection, limits, self._arrived)
        self.dimse.msg_queue = AnnouncedQueue(self._arrived)
        self.acse_timeout = limits.request_seconds  # again: the setters reach into the DUL provider
        self.network_timeout = None  # the idle limit is kept by the upper layer
        self.set_socket(LimitedSocket(self, client_socket=connection))

    def _bind_defaults(self) -> None:
        # without pynetdicom's own log handlers, which format every PDU
        for event in _SERVICES_OF_PYNETDICOM:
            self.bind(event, evt.get_default_handler(event))

    def _run_reactor(self) -> None:
        while not self._kill:
            self._arrived.wait()
            self._arrived.clear()
            while (arrived := self.dimse.get_msg())[1] is not None:
                self._serve_request(arrived[1], arrived[0])
            if self.acse.is_release_requested():
                self.acse.send_release(is_response=True)
                self.is_released = True
                self.is_established = False
                evt.trigger(self, evt.EVT_RELEASED, {})
                self.kill()
            elif self.acse.is_aborted() or self.upper_layer.has_ended:
                self.is_aborted = True
                self.kill()

    def kill(self) -> None:
        """End the serving thread, and wait for the reading one: its state machine comes to an end by itself."""
        self._kill = True
        self.is_established = False
        self._arrived.set()
        if self.dul.is_alive() and threading.current_thread() is not self.dul:
            self.dul.join(END_SECONDS)
