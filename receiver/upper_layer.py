"""pynetdicom's upper layer with limits: what a silent, slow or broken peer may cost.

How it works: listening, negotiation, release, abort and C-ECHO are pynetdicom's. Replaced are the places where it
waits without end or buffers without bound: reading a PDU has a time limit and a length limit, writing has a time
limit, and what an association ended with is kept, because pynetdicom reports an abort by the peer and a lost
connection alike. The overridden private points are named in ``tests/receiver/test_upper_layer.py``, which fails when a
new pynetdicom lacks one.
"""

import queue
import socket
import struct
import time
from dataclasses import dataclass
from typing import Final, cast

import structlog
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.transport import AssociationSocket

from clara_dicom_adapter.workflows.models import AssociationOutcome

log = structlog.get_logger("clara_dicom_adapter.receiver")

# PS3.8 table 9-11 and following
_ASSOCIATE_RQ: Final = 0x01
_P_DATA_TF: Final = 0x04
_ABORT: Final = 0x07
_PDU_TYPES: Final = range(0x01, 0x08)
_HEADER: Final = struct.Struct(">BxI")
_CALLED_AE_TITLE: Final = slice(10, 26)  # PS3.8 table 9-11
_CALLING_AE_TITLE: Final = slice(26, 42)

_LONGEST_NEGOTIATION: Final = 1 << 20
"""A longer PDU other than P-DATA is nonsense: 128 contexts of 40 transfer syntaxes are 300 KB."""
_UNREADABLE: Final = b"?".ljust(16)
_DRAIN_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Limits:
    """Seconds and bytes that a peer may cost."""

    request_seconds: float
    idle_seconds: float
    write_seconds: float
    pdu_length: int


class LimitedSocket(AssociationSocket):
    """An accepted connection that sends at once, or fails within the time limit."""

    def send(self, bytestream: bytes) -> None:
        """Send a PDU; the state machine hears of a failure as a closed connection."""
        try:
            cast(socket.socket, self.socket).sendall(bytestream)
        except OSError:
            cast(LimitedUpperLayer, self.assoc.dul).note(AssociationOutcome.CONNECTION_LOST)
            self.event_queue.put("Evt17")


class LimitedUpperLayer(DULServiceProvider):
    """DUL provider of an acceptor."""

    def __init__(self, assoc: Association, limits: Limits) -> None:
        super().__init__(assoc)
        self.daemon = True  # a thread that hangs in a dying disk must not keep the process
        self.ended_with: AssociationOutcome | None = None
        self.calling_ae_title = ""
        self.called_ae_title = ""
        self._limits = limits

    def note(self, outcome: AssociationOutcome) -> None:
        """Keep how the association ended; the first cause counts."""
        if self.ended_with is None:
            self.ended_with = outcome

    def run_reactor(self) -> None:
        """Read and write until the connection has ended."""
        try:
            super().run_reactor()
        except Exception:
            if self.ended_with is None:  # afterwards, what was still to be sent is in the way of pynetdicom's states
                log.exception("upper_layer_failed")
            self.note(AssociationOutcome.ADAPTER_STOPPED)
            cast(AssociationSocket, self.socket)._shutdown_socket()
        finally:
            # who still waits for an association request must not wait for the whole time limit
            cast("queue.Queue[object]", self.to_user_queue).put(None)

    def _is_transport_event(self) -> bool:
        if self.state_machine.current_state == "Sta13":
            self._drain()
            cast(AssociationSocket, self.socket).close()
            return True
        return super()._is_transport_event()

    def _drain(self) -> None:
        # closing with unread bytes would reset the connection, and the peer might never see our last PDU
        deadline = time.monotonic() + _DRAIN_SECONDS
        association_socket = cast(AssociationSocket, self.socket)
        while association_socket.ready and time.monotonic() < deadline:
            try:
                if not cast(socket.socket, association_socket.socket).recv(65536):
                    return
            except OSError:
                return

    def _read_pdu_data(self) -> None:
        awaiting_request = self.state_machine.current_state == "Sta2"
        deadline = time.monotonic() + (self._limits.request_seconds if awaiting_request else self._limits.idle_seconds)
        try:
            header = self._receive(6, deadline)
            kind, length = _HEADER.unpack(header)
            longest = self._limits.pdu_length if kind == _P_DATA_TF else _LONGEST_NEGOTIATION
            if kind not in _PDU_TYPES or length > longest:
                self._broken("unknown PDU type" if kind not in _PDU_TYPES else "PDU longer than was agreed")
                return
            data = header + self._receive(length, deadline)
        except TimeoutError:
            self._broken("a PDU that does not end")
            return
        except OSError:
            self.note(AssociationOutcome.CONNECTION_LOST)
            self.event_queue.put("Evt17")
            return
        if kind == _ASSOCIATE_RQ:
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

    def _receive(self, length: int, deadline: float) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        connection = cast(socket.socket, cast(AssociationSocket, self.socket).socket)
        at = 0
        while at < length:
            try:
                received = connection.recv_into(view[at:])
            except BlockingIOError:  # SO_RCVTIMEO
                raise TimeoutError from None
            if not received:
                raise ConnectionError("closed by the peer")
            at += received
            if at < length and time.monotonic() > deadline:
                raise TimeoutError
        return data

    def _broken(self, reason: str) -> None:
        log.warning("protocol_broken", reason=reason, peer=self.assoc.requestor.address)
        self.note(AssociationOutcome.ABORTED)
        self.event_queue.put("Evt19")

    def _read_titles(self, data: bytearray) -> None:
        # pynetdicom refuses blank and non-ASCII AE titles with an exception in the wrong thread; they deserve a verdict
        for name, place in (("called_ae_title", _CALLED_AE_TITLE), ("calling_ae_title", _CALLING_AE_TITLE)):
            raw = bytes(data[place])
            title = raw.decode("ascii", "replace").strip(" \0")
            setattr(self, name, title)
            if not title or not title.isascii() or not title.isprintable() or "\\" in title:
                data[place] = _UNREADABLE


def prepare(connection: socket.socket, limits: Limits) -> None:
    """Set the options of an accepted connection."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a C-STORE-RSP must not wait for an ACK
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(limits.write_seconds))
    connection.setsockopt(
        socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(min(limits.request_seconds, limits.idle_seconds))
    )


def expect_data(connection: socket.socket, limits: Limits) -> None:
    """The association is accepted: from now on the idle limit counts."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _timeval(limits.idle_seconds))


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("@ll", whole, max(int((seconds - whole) * 1_000_000), 0 if whole else 1))
