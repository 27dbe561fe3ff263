"""An association as its requestor, for C-STORE only: one thread, one socket, every wait with a time limit.

How it works: pynetdicom's PDU classes write the A-ASSOCIATE-RQ and read the answer; the socket is ours from the first
byte to the last. That is on purpose. ``pynetdicom.Association`` runs a reactor thread that reads the socket as well,
and with a fast peer it can take a C-STORE-RSP before the caller of ``send_c_store`` looks for it; taking over the
socket of an association that it has negotiated would mean stopping that thread through private attributes. Here
nobody else reads, so there is nothing to race with.

A dataset is copied from the file into one buffer between PDV headers, and the buffer is sent: nothing is decoded, and
memory does not depend on the object's size.
"""

import math
import os
import socket
import ssl
import struct
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import structlog

from clara_dicom_adapter.dicom import dimse, negotiation
from clara_dicom_adapter.dicom.connecting import Peer, connect, words
from clara_dicom_adapter.dicom.negotiation import AssociationRejected, Context
from clara_dicom_adapter.errors import AssociationFailed, InvalidInstance

log = structlog.get_logger("clara_dicom_adapter.dicom")

_ASSOCIATE_AC, _ASSOCIATE_RJ, _P_DATA_TF, _RELEASE_RQ, _RELEASE_RP, _ABORT = 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
_PDU_HEADER: Final = struct.Struct(">BxI")  # PS3.8 section 9.3.1
_PDV_HEADER: Final = struct.Struct(">IBB")
_DATA_HEADER: Final = struct.Struct(">BxIIBB")  # a P-DATA-TF of one PDV: PDU type, length; PDV length, context, control
_RELEASE: Final = struct.Struct(">BxI4x")
_ABORT_PDU: Final = struct.pack(">BxI2xBB", _ABORT, 4, 0, 0)  # source: service user

_LONGEST_ANSWER: Final = 1 << 20
"""A longer PDU from the peer is nonsense: an answer to 128 contexts takes some 10 KB."""
_UNLIMITED_PDU_LENGTH: Final = 1 << 18
"""What we send to a peer that sets no limit (PS3.8 annex D.1: a maximum length of 0)."""
_BUFFER: Final = 3 << 17
"""Bytes; what is read and sent at once stays in the processor's cache, and the longest PDU fits."""
_AT_ONCE: Final = 4096
"""Bytes; a response has some 150."""
TIME_IS_OVER: Final = "broken off by us, because the time limit is over"
_COMMAND, _LAST = 0x01, 0x02  # message control header, PS3.8 annex E.2


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Seconds for each thing that a peer can keep us waiting with."""

    connect: float = 10
    association: float = 30
    """From A-ASSOCIATE-RQ to its answer, and from A-RELEASE-RQ to its."""
    response: float = 60
    """From the last byte of a C-STORE-RQ to its response, and for the peer to take one buffer of ours."""


@dataclass(frozen=True, slots=True)
class WireLog:
    """What is logged of an association: names and sizes, never what a dataset or a comment says."""

    commands: bool = False
    data_pdus: bool = False


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A part-10 file, as far as sending it needs to know."""

    index: int
    path: Path
    context: Context
    sop_instance_uid: str
    dataset_offset: int
    dataset_bytes: int

    @property
    def file_bytes(self) -> int:
        return self.dataset_offset + self.dataset_bytes


class StorageAssociation:
    """An established association; not thread-safe. Use :meth:`request`, then :meth:`store`, then :meth:`release`."""

    def __init__(
        self, peer: Peer, limits: TimeLimits, connection: socket.socket, wire_log: WireLog, until: float
    ) -> None:
        self._peer = peer
        self._limits = limits
        self._until = until
        self._log = wire_log
        self._connection = connection
        self._buffer = bytearray(_BUFFER)
        self._received = bytearray()
        """What has come and is not looked at yet: a response comes in one piece, and is read with one call."""
        self._fragment = 0
        self._limit = 0.0
        """Seconds that the socket waits now; none have been set yet."""
        self._message_id = 0
        self.accepted: Mapping[Context, int] = {}
        """Context id of every context the peer accepted with the transfer syntax proposed."""

    @classmethod
    def request(
        cls,
        calling_ae_title: str,
        peer: Peer,
        contexts: Sequence[Context],
        limits: TimeLimits | None = None,
        wire_log: WireLog | None = None,
        *,
        until: float = math.inf,
    ) -> Self:
        """Connect and negotiate; raises :class:`AssociationFailed`.

        Args:
            until: When an object that is under way is broken off, by the monotonic clock.
        """
        limits = limits or TimeLimits()
        connection = connect(peer, max(min(limits.connect, until - time.monotonic()), 0.001))
        association = cls(peer, limits, connection, wire_log or WireLog(), until)
        try:
            association._negotiate(calling_ae_title, contexts)
        except OSError as error:
            connection.close()
            hint = ""
            if peer.tls is not None and isinstance(error, (ssl.SSLEOFError, ConnectionError)):
                hint = "; it may want another certificate of ours (see tls.certificateFile)"
            raise AssociationFailed(peer.ae_title, f"lost while it was requested: {words(error)}{hint}") from error
        except BaseException:
            connection.close()
            raise
        return association

    def store(self, stored: StoredObject) -> dimse.StoreResponse:
        """Send one object and wait for its response.

        Raises:
            AssociationFailed: The association is gone, or its time is over; whether the peer has the object is unknown.
            InvalidInstance: The file could not be read to its end; the association has been aborted.
        """
        self._message_id = self._message_id % 0xFFFF + 1
        try:
            self._send_object(self.accepted[stored.context], stored)
            return self._store_response()
        except dimse.DimseError as error:
            self.abort()
            raise AssociationFailed(self._peer.ae_title, f"aborted by us, because the peer sent {error}") from error
        except OSError as error:
            over = time.monotonic() >= self._until
            reason = TIME_IS_OVER if over else f"lost: {self._abort_received() or words(error)}"
            self.abort()
            broken_off = isinstance(error, ConnectionError) and not over
            raise AssociationFailed(self._peer.ae_title, reason, broken_off=broken_off) from error
        except BaseException:
            self.abort()
            raise

    def release(self) -> None:
        """End the association in order; a peer that does not answer is cut off, for all is confirmed by now."""
        with suppress(OSError, AssociationFailed):
            self._send(_RELEASE.pack(_RELEASE_RQ, 4), self._limits.association)
            deadline = time.monotonic() + self._limits.association
            while (kind := self._receive_pdu(deadline)[0]) != _RELEASE_RP:
                if kind == _RELEASE_RQ:  # collision, PS3.8 section 9.2.2: the requestor answers first
                    self._send(_RELEASE.pack(_RELEASE_RP, 4), self._limits.association)
        self._connection.close()

    def abort(self) -> None:
        """Cut the association off (A-ABORT, source service user); safe to repeat."""
        with suppress(OSError):
            self._send(_ABORT_PDU, 1.0)
        self._connection.close()

    # ---- negotiation ----

    def _negotiate(self, calling_ae_title: str, contexts: Sequence[Context]) -> None:
        proposed = {2 * number + 1: context for number, context in enumerate(contexts)}
        self._send(
            negotiation.associate_request(calling_ae_title, self._peer.ae_title, proposed),
            self._left(self._limits.association),
        )
        kind, pdu = self._receive_pdu(time.monotonic() + self._left(self._limits.association))
        if kind == _ASSOCIATE_RJ:
            raise self._rejected(pdu)
        if kind != _ASSOCIATE_AC:
            self.abort()
            raise AssociationFailed(self._peer.ae_title, f"the request was answered with PDU type {kind:02X}")
        try:
            self.accepted, longest = negotiation.read_accept(pdu, proposed)
        except Exception as error:
            # whatever pynetdicom stumbles over in bytes of the peer is the peer's fault
            self.abort()
            raise AssociationFailed(self._peer.ae_title, "its answer cannot be read") from error
        longest = min(longest or _UNLIMITED_PDU_LENGTH, _UNLIMITED_PDU_LENGTH)
        # PS3.8 annex D.1.1 counts from behind the PDU header; fragments but the last are even (annex E.1)
        self._fragment = max(longest - _PDV_HEADER.size, 2) & ~1

    def _rejected(self, pdu: bytes) -> AssociationFailed:
        try:
            reason, permanent = negotiation.read_reject(pdu)
        except Exception as error:
            raise AssociationFailed(self._peer.ae_title, "rejected, for a reason that cannot be read") from error
        return AssociationRejected(self._peer.ae_title, reason, permanent=permanent)

    # ---- C-STORE ----

    def _send_object(self, context_id: int, stored: StoredObject) -> None:
        command = dimse.store_request(self._message_id, stored.context.sop_class_uid, stored.sop_instance_uid)
        if self._log.commands:
            log.info(
                "dimse_sent",
                called_ae_title=self._peer.ae_title,
                command="C-STORE-RQ",
                number=self._message_id,
                sop_class_uid=stored.context.sop_class_uid,
                transfer_syntax_uid=stored.context.transfer_syntax_uid,
                bytes=stored.dataset_bytes,
            )
        view = memoryview(self._buffer)
        used = 0
        for at in range(0, len(command), self._fragment):  # one turn, unless the peer takes absurdly small PDUs
            piece = command[at : at + self._fragment]
            last = _LAST if at + len(piece) == len(command) else 0
            view[used + _DATA_HEADER.size : used + _DATA_HEADER.size + len(piece)] = piece
            used += self._wrap(used, len(piece), context_id, _COMMAND | last)
        # three calls of the kernel for a small object; a file object takes twice as many
        try:
            descriptor = os.open(stored.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InvalidInstance(f"{stored.path.name} cannot be opened") from error
        try:
            done = 0
            while done < stored.dataset_bytes:
                take = min(stored.dataset_bytes - done, self._fragment)
                if used + _DATA_HEADER.size + take > len(view):
                    self._send(view[:used], self._left(self._limits.response))
                    used = 0
                start = used + _DATA_HEADER.size
                _read_exactly(descriptor, view[start : start + take], stored, done)
                done += take
                used += self._wrap(used, take, context_id, 0 if done < stored.dataset_bytes else _LAST)
        finally:
            os.close(descriptor)
        self._send(view[:used], self._left(self._limits.response))

    def _wrap(self, at: int, length: int, context_id: int, control: int) -> int:
        """Write the header of a P-DATA-TF PDU in front of ``length`` bytes, and return how long it is with them."""
        pdv = length + 2  # context id and control header count, PS3.8 section 9.3.5.1
        if self._log.data_pdus:
            self._log_data_pdu("sent", pdv + 4)
        _DATA_HEADER.pack_into(self._buffer, at, _P_DATA_TF, pdv + 4, pdv, context_id, control)
        return _DATA_HEADER.size + length

    def _log_data_pdu(self, direction: str, size: int) -> None:
        """Say how long a P-DATA-TF PDU is behind its header, and of which message it is."""
        log.info(
            "data_pdu",
            direction=direction,
            called_ae_title=self._peer.ae_title,
            number=self._message_id,
            size=size,
        )

    def _store_response(self) -> dimse.StoreResponse:
        deadline = time.monotonic() + self._left(self._limits.response)
        command = bytearray()
        while True:
            kind, pdu = self._receive_pdu(deadline)
            if kind == _RELEASE_RQ:
                raise dimse.DimseError("A-RELEASE-RQ instead of a response")
            if kind != _P_DATA_TF:
                raise dimse.DimseError(f"PDU type {kind:02X} instead of a response")
            if self._log.data_pdus:
                self._log_data_pdu("received", len(pdu) - _PDU_HEADER.size)
            at = _PDU_HEADER.size
            while at < len(pdu):
                if at + _PDV_HEADER.size > len(pdu):
                    raise dimse.DimseError("a PDV that ends within its header")
                length, _, control = _PDV_HEADER.unpack_from(pdu, at)
                piece = pdu[at + _PDV_HEADER.size : at + 4 + length]
                if length < 2 or len(piece) != length - 2 or not control & _COMMAND:
                    raise dimse.DimseError("a PDV that is no part of a response")
                command += piece
                at += 4 + length
                if control & _LAST:
                    response = dimse.read_store_response(bytes(command))
                    if response.message_id != self._message_id:
                        raise dimse.DimseError("the response to another message")
                    if self._log.commands:
                        log.info(
                            "dimse_received",
                            called_ae_title=self._peer.ae_title,
                            command="C-STORE-RSP",
                            number=response.message_id,
                            status=f"{response.status:04X}",
                        )
                    return response
            if len(command) > _LONGEST_ANSWER:
                raise dimse.DimseError("a response without end")

    # ---- the socket ----

    def _send(self, data: bytes | memoryview, seconds: float) -> None:
        self._wait_at_most(seconds)
        self._connection.sendall(data)

    def _receive_pdu(self, deadline: float) -> tuple[int, bytes]:
        header = self._receive(_PDU_HEADER.size, deadline)
        kind, length = _PDU_HEADER.unpack(header)
        if length > _LONGEST_ANSWER:
            raise ConnectionError(f"the peer announced a PDU of {length} bytes")
        pdu = header + self._receive(length, deadline)
        if kind == _ABORT:
            raise ConnectionAbortedError(negotiation.abort_words(pdu))
        return kind, pdu

    def _receive(self, length: int, deadline: float) -> bytes:
        while len(self._received) < length:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._wait_at_most(left)
            piece = self._connection.recv(max(length - len(self._received), _AT_ONCE))
            if not piece:
                raise ConnectionResetError("the peer closed the connection")
            self._received += piece
        taken = bytes(self._received[:length])
        del self._received[:length]
        return taken

    def _left(self, seconds: float) -> float:
        """As much of these as there is until the end of the time; raises ``TimeoutError`` behind it."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(seconds, left)

    def _wait_at_most(self, seconds: float) -> None:
        """For the next call; up to a tenth longer, because to set a limit takes a call of the kernel itself."""
        if not 0.9 * self._limit <= seconds <= self._limit:
            self._connection.settimeout(seconds)
            self._limit = seconds

    def _abort_received(self) -> str:
        """Why the peer aborted, when its A-ABORT waits unread behind a write that failed."""
        try:
            self._receive_pdu(time.monotonic() + 0.1)
        except ConnectionAbortedError as error:
            return str(error)
        except OSError:
            pass
        return ""


def _read_exactly(descriptor: int, into: memoryview, stored: StoredObject, at: int) -> None:
    """Fill a buffer with what begins at this byte of the dataset."""
    done = 0
    while done < len(into):
        try:
            count = os.preadv(descriptor, [into[done:]], stored.dataset_offset + at + done)
        except OSError as error:
            raise InvalidInstance(f"{stored.path.name} cannot be read") from error
        if not count:
            raise InvalidInstance(f"{stored.path.name} became shorter while it was sent")
        done += count
