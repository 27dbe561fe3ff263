"""A connection over TLS that is read and written like a plain one, so that the upper layer hardly knows.

How it works: OpenSSL works on memory, and bytes are carried between it and the socket here. So the time limits that
the kernel keeps for the socket (``receiver/connection.py``) hold for TLS too, and the handshake is nothing but the
first bytes that are read: it takes place in the thread of the connection, in the time that this has for its association
request. (``ssl.SSLSocket`` goes on waiting when the kernel's limit has passed, and reads twice for each record.)

Two things differ from a plain connection. What comes may be nothing of what the peer says, such as a handshake or a
part of a record: then ``ssl.SSLWantReadError`` is raised. And something may wait here while nothing waits in the
socket: :func:`aware` makes a poll that knows.
"""

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, Protocol, cast

import structlog

from clara_dicom_adapter.dicom import tls_server
from clara_dicom_adapter.dicom.tls_server import TlsServer
from clara_dicom_adapter.receiver.tls_failures import TlsFailure, explain

log = structlog.get_logger("clara_dicom_adapter.receiver")

_PIECE_BYTES: Final = 64 * 1024
"""What is taken from the socket at once: four records of the largest size."""
_LONGEST_NAME: Final = 64
"""Of a common name (RFC 5280 appendix A.1)."""


class Polls(Protocol):
    """What waits for descriptors: ``select.poll`` itself, or one that knows of TLS."""

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Descriptors that are ready, with their events; none after so many milliseconds."""
        ...


class SecureConnection(socket.socket):
    """An accepted connection that speaks TLS. One thread reads and writes; any may shut it down."""

    def __init__(
        self,
        accepted: socket.socket,
        context: ssl.SSLContext,
        *,
        peer: str,
        patience_seconds: float,
        failed: Callable[[TlsFailure], object],
    ) -> None:
        """Args:
        accepted: Taken over; it is of no use afterwards.
        patience_seconds: How long a record may take to be complete.
        failed: Told when TLS fails.
        """
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self.waiting = False
        """Whether something may be had without the socket."""
        self.leaving = False
        """Whether the connection will be ended whatever the peer does: its silence is then no failure."""
        self._peer = peer
        self._patience = patience_seconds
        self._failed = failed
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._using = threading.Lock()  # two threads in one of OpenSSL's objects spoil it
        self._piece = bytearray(_PIECE_BYTES)
        self._first: int | None = None
        self._established = False
        self._explained = False
        self._incomplete_since: float | None = None

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive what the peer has said, and fill the buffer if there is enough.

        Returns:
            Number of bytes; 0: the peer says no more.

        Raises:
            ssl.SSLWantReadError: What came was none of it; ask again when the socket is ready.
            OSError: As for a plain connection; ssl.SSLError when TLS fails, and the peer has been told.
        """
        del nbytes, flags
        received = 0
        if not self.waiting:
            received = super().recv_into(self._piece)
            if not received:
                return self._ended()
            if self._first is None:
                self._first = self._piece[0]
        try:
            with self._using:
                self._incoming.write(memoryview(self._piece)[:received])
                count = self._decrypt(memoryview(buffer))
        except ssl.SSLWantReadError:
            if received:
                self._be_patient()
            raise
        except ssl.SSLError as error:
            self._explain(*explain(error, self._first))
            raise
        self._incomplete_since = None
        return count

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send everything; raises OSError when the peer does not take it."""
        del flags
        with self._using:
            left = memoryview(data)
            while left:
                left = left[self._tls.write(left) :]
            self._send_encrypted()

    def shutdown(self, how: int) -> None:
        """End the connection, also under who reads; the peer is told that nothing was cut off."""
        if not self._established:
            if self._first is not None or not self.leaving:
                self._explain(TlsFailure.SLOW, "the handshake was not complete when the connection was ended")
        elif self._using.acquire(blocking=False):  # else somebody waits in it, and good manners would take too long
            try:
                with suppress(OSError):
                    self._tls.unwrap()
                with suppress(OSError):
                    super().send(self._outgoing.read(), socket.MSG_DONTWAIT)
            finally:
                self._using.release()
        super().shutdown(how)

    def _decrypt(self, buffer: memoryview) -> int:
        count = 0
        try:
            if not self._established:
                self._tls.do_handshake()
                self._greet()
            while count < len(buffer):
                read = cast(int, self._tls.read(len(buffer) - count, cast(bytearray, buffer[count:])))
                if not read:  # it says no more, and says so again when it is asked again
                    break
                count += read
            self.waiting = count > 0
        except ssl.SSLWantReadError:
            self.waiting = False
            self._send_encrypted()
            if not count:
                raise
        except ssl.SSLError:
            with suppress(OSError):  # what is wrong counts, not whether the peer can still be told
                self._send_encrypted()
            raise
        else:
            self._send_encrypted()
        return count

    def _send_encrypted(self) -> None:
        """Send what OpenSSL has to say: our part of the handshake, an alert, what was encrypted."""
        if self._outgoing.pending:
            super().sendall(self._outgoing.read())

    def _greet(self) -> None:
        self._established = True
        log.info("tls_established", peer=self._peer, version=self._tls.version(), name=self._name_of_peer())

    def _name_of_peer(self) -> str:
        """The common name in the certificate that was shown and checked; empty when there is none."""
        shown: Any = self._tls.getpeercert() or {}
        parts = dict(part for parts in shown.get("subject", ()) for part in parts)
        return str(parts.get("commonName", ""))[:_LONGEST_NAME]

    def _be_patient(self) -> None:
        """A record has begun; raises TimeoutError when it has had its time."""
        now = time.monotonic()
        if self._incomplete_since is None:
            self._incomplete_since = now
        elif now - self._incomplete_since > self._patience:
            self._explain(TlsFailure.SLOW, "a TLS record that does not end")
            raise TimeoutError

    def _ended(self) -> int:
        if not self._established and self._first is not None:
            self._explain(TlsFailure.CLOSED, "it closed the connection during the handshake")
        self._explained = True  # who has said nothing has looked whether somebody listens, and that is no failure
        return 0

    def _explain(self, failure: TlsFailure, reason: str) -> None:
        """Say once why TLS has failed."""
        if not self._explained:
            self._explained = True
            log.warning("tls_failed", peer=self._peer, kind=failure.value, reason=reason, remedy=failure.remedy)
            self._failed(failure)


class _SecurePoll:
    def __init__(self, events: select.poll, connection: SecureConnection) -> None:
        self._events = events
        self._connection = connection

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        if self._connection.waiting:
            return [*self._events.poll(0), (self._connection.fileno(), select.POLLIN)]
        return self._events.poll(timeout)


def aware(events: select.poll, connection: socket.socket) -> Polls:
    """A poll that does not wait for what has come already; of a plain connection the same one."""
    return _SecurePoll(events, connection) if isinstance(connection, SecureConnection) else events


class Securing:
    """Makes secure connections of accepted ones, with the certificate that is in force."""

    def __init__(self, patience_seconds: float, failed: Callable[[TlsFailure], object]) -> None:
        """Args:
        patience_seconds: How long a record may take to be complete.
        failed: Told when TLS fails.
        """
        self._patience = patience_seconds
        self._failed = failed
        self._context: ssl.SSLContext | None = None

    def use(self, tls: TlsServer | None) -> None:
        """For the connections to come; None: there is no certificate that could be used."""
        self._context = tls_server.context(tls) if tls else None

    def can_secure(self, peer: str) -> bool:
        """Whether there is a certificate; if not, that is told."""
        if self._context is None:
            failure = TlsFailure.UNUSABLE
            reason = "there is no certificate that can be used"
            log.error("tls_failed", peer=peer, kind=failure.value, reason=reason, remedy=failure.remedy)
            self._failed(failure)
        return self._context is not None

    def secure(self, accepted: socket.socket, peer: str) -> SecureConnection:
        """Take over an accepted connection; nothing is waited for."""
        if self._context is None:
            raise RuntimeError("there is no certificate")
        return SecureConnection(
            accepted, self._context, peer=peer, patience_seconds=self._patience, failed=self._failed
        )
