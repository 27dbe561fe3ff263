"""The one hook into pynetdicom: its upper layer with limits, without polling, and with a path of our own for P-DATA.

How it works: listening, negotiation, release, abort and C-ECHO are pynetdicom's. There an association has two threads,
which pass everything to each other in queues. Here it has one: :class:`QuietAssociation` serves, and whenever it waits
for something or has something to send, it runs :class:`LimitedUpperLayer`, which reads, writes and drives the state
machine, until that has come or is sent. Ours differ in four more things.

* Nothing is polled. What is waited for is the connection, and an eventfd that another thread writes when it wants an
  end. ARTIM and the idle limit are deadlines of these waits.
* Once an association counts as established, its P-DATA goes from the socket through the parser to the store session.
  Nothing is read between the A-ASSOCIATE-AC and that moment: a peer may well send its first C-STORE before our own
  negotiation has come to its end.
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
from collections.abc import Callable, Mapping
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
from clara_dicom_adapter.receiver.waking import Bell
from clara_dicom_adapter.receiver.wire_log import WireLog
from clara_dicom_adapter.workflows.models import AssociationOutcome

log = structlog.get_logger("clara_dicom_adapter.receiver")

PRIVATE_NAMES: Final[Mapping[type, tuple[str, ...]]] = {
    DULServiceProvider: ("_decode_pdu", "_recv_pdu", "_process_recv_primitive"),
    Association: ("_bind_defaults", "_run_reactor", "_serve_request", "_kill", "_dul_ready"),
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
_ARTIM_EXPIRED: Final = "Evt18"
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
    """DUL provider of an acceptor; run by the thread of its association, and never a thread itself."""

    def __init__(self, assoc: Association, connection: socket.socket, limits: Limits) -> None:
        super().__init__(assoc)
        self.ended_with: AssociationOutcome | None = None
        self.has_ended = False
        self.calling_ae_title = ""
        self.called_ae_title = ""
        self._limits = limits
        self._connection = connection
        self._running = False
        self._bell = Bell()
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

    # ---- called by the association, and from outside ----

    def start(self) -> None:
        """The association begins; the thread that pynetdicom would begin here is not needed."""

    def is_alive(self) -> bool:
        """Whether the connection has not ended yet."""
        return not self.has_ended

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

    def send_bytes(self, data: bytes) -> None:
        """Send whole PDUs; raises OSError when the peer does not take them."""
        self._connection.sendall(data)
        if self._wire_log is not None:
            self._wire_log.sent(data)

    def receive_pdu(self, wait: bool = False, timeout: float | None = None) -> Any:
        """What has come for the association; None when there is nothing, or the connection has ended meanwhile."""
        del timeout  # ARTIM's is the same
        if wait:
            self.run_until(lambda: not self.to_user_queue.empty())
        return super().receive_pdu()

    def send_pdu(self, primitive: Any) -> None:
        """Have something sent: at once, but from another thread and from within the state machine soon."""
        super().send_pdu(primitive)
        if threading.get_ident() != cast(QuietAssociation, self.assoc).served_by:
            self._bell.ring()
        elif not self._running:
            self.run_until(self._is_all_sent)

    def kill_dul(self) -> None:
        """The connection has ended, or is to be served no more."""
        self.has_ended = True

    def finish(self) -> None:
        """Send what is still to be sent, and close the connection so that the peer sees it."""
        self.run_until(lambda: self._is_all_sent() and self.state_machine.current_state != "Sta13")
        self.kill_dul()

    def close(self) -> None:
        """Let go of what is held."""
        self._bell.close()

    def _is_all_sent(self) -> bool:
        return self.to_provider_queue.empty() and self.event_queue.empty()

    # ---- run by the thread of the association ----

    def run_until(self, done: Callable[[], bool]) -> None:
        """Read, write, and drive the state machine until something is done, or the connection has ended."""
        self._running = True
        try:
            while not self.has_ended and not done():
                self._step()
        except InvalidEventError:
            # our answer crossed with what ended the association, for which pynetdicom's states have no place
            self.note(AssociationOutcome.ABORTED)
            self._drain()
            self._break_off()
        except Exception:
            if self.ended_with is None:  # afterwards, what was still to be sent is in the way of pynetdicom's states
                log.exception("upper_layer_failed")
            self.note(AssociationOutcome.ADAPTER_STOPPED)
            self._break_off()
        finally:
            self._running = False

    def _break_off(self) -> None:
        self.has_ended = True
        cast(AssociationSocket, self.socket)._shutdown_socket()

    def _step(self) -> None:
        if self.event_queue.empty():
            if self.artim_timer.expired:
                self.event_queue.put(_ARTIM_EXPIRED)
            elif self.to_provider_queue.empty() or not self._may_answer():
                self._attend()
            else:
                self._process_recv_primitive()
        if not self.event_queue.empty():
            self.state_machine.do_action(self.event_queue.get())

    def _may_answer(self) -> bool:
        """Whether what is to be sent may go; before our answer to its request, a peer has nothing to say."""
        return self.state_machine.current_state != "Sta3" or not self._for_bytes.poll(0)

    def _attend(self) -> None:
        """Wait for the peer, and read what it says."""
        state = self.state_machine.current_state
        if state == "Sta13":
            self._drain()
            cast(AssociationSocket, self.socket).close()
        elif state == "Sta6":
            self._transfer_data()
        elif self._wait(self._for_both, self.artim_timer.remaining if state == "Sta2" else None) is _Came.BYTES:
            self._read_pdu()

    def _wait(self, events: Polls, seconds: float | None) -> _Came:
        ready = events.poll(None if seconds is None else max(seconds, 0) * 1000 + 1)
        if not ready:
            return _Came.NOTHING
        for descriptor, _ in ready:
            if descriptor == self._bell.descriptor:  # first, for a peer that sends without end is always ready
                self._bell.silence()
                return _Came.WORK
        return _Came.BYTES

    def _transfer_data(self) -> None:
        if self._messages is None:
            raise RuntimeError("an association that does not know yet what is stored where")
        while self.to_provider_queue.empty():
            try:
                foreign = self._messages.serve(self._parser.events())
                if foreign is not None:
                    self._hand_over(foreign)
                    return
                came = self._wait(self._for_both, self._time_left())
                if came is not _Came.BYTES:
                    if came is _Came.NOTHING:
                        self._silent()
                    return
                try:
                    received = self._connection.recv_into(self._parser.free())
                except ssl.SSLWantReadError:  # TLS goes on, and the peer has said nothing
                    continue
            except OSError:  # also of what was to be sent
                received = 0
            if not received:
                self.lost()
                return
            self._parser.received(received)

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
            context_id, encoded = foreign.command
            pdu, event = self._decode_pdu(bytearray(commands.p_data(context_id, encoded, 0)))
            self._recv_pdu.put(pdu)
            self.event_queue.put(event)
        elif isinstance(foreign, OtherPdu):
            if foreign.kind in (_RELEASE_RQ, _ABORT):
                self._read_pdu()
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

    def _read_pdu(self) -> None:
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
                pdu.to_primitive()  # what it raises would otherwise end the association, and the peer hear nothing
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
        # pynetdicom refuses blank and non-ASCII AE titles with an exception; they deserve a verdict
        for name, place in (("called_ae_title", _CALLED_AE_TITLE), ("calling_ae_title", _CALLING_AE_TITLE)):
            raw = bytes(data[place])
            title = raw.decode("ascii", "replace").strip(" \0")
            setattr(self, name, title)
            if not title or not title.isascii() or not title.isprintable() or "\\" in title:
                data[place] = _UNREADABLE


class QuietAssociation(Association):
    """pynetdicom's acceptor, in one thread, which waits instead of looking every millisecond."""

    def __init__(self, ae: AE, connection: socket.socket, limits: Limits) -> None:
        super().__init__(ae, "acceptor")
        self.served_by = 0
        """The thread that does; pynetdicom would start one for it."""
        self.dul = self.upper_layer = LimitedUpperLayer(self, connection, limits)
        self._dul_ready.set()
        self.acse_timeout = limits.request_seconds  # again: the setters reach into the DUL provider
        self.network_timeout = None  # the idle limit is kept by the upper layer
        self.set_socket(LimitedSocket(self, client_socket=connection))

    def run_reactor(self) -> None:
        """Serve the association to its end, in the thread that calls this."""
        self.served_by = threading.get_ident()
        super().run_reactor()

    def _bind_defaults(self) -> None:
        # without pynetdicom's own log handlers, which format every PDU
        for event in _SERVICES_OF_PYNETDICOM:
            self.bind(event, evt.get_default_handler(event))

    def _run_reactor(self) -> None:
        while not self._kill:
            self.upper_layer.run_until(self._has_something)
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
            else:
                self.upper_layer.receive_pdu()  # whatever it is, it concerns requestors

    def _has_something(self) -> bool:
        return not (self.upper_layer.to_user_queue.empty() and self.dimse.msg_queue.empty())

    def kill(self) -> None:
        """Serve no more; the state machine comes to its end."""
        self._kill = True
        self.is_established = False
        if threading.get_ident() == self.served_by:
            self.upper_layer.finish()
