"""A hospital with an authority, and senders that speak TLS as one could and as nobody should."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association

from support.authority import Authority, Issued
from support.receiver_wire import association_request
from support.receiving import CT_IMAGE, LOOPBACK, VERIFICATION


class Hospital:
    """An authority, our certificate, one of a modality, and those of a stranger."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "ca")
        self.stranger = Authority(folder / "stranger", "stranger", key=1)
        self.ours = self.authority.issue("ours")
        self.modality = self.authority.issue("modality", key=3)

    def settings(self, **further: object) -> dict[str, Any]:
        """Of ``dicom>scp>tls``, with files of a test's own that it may replace."""
        return {
            "port": 0,
            "certificateFile": self.ours.certificate,
            "keyFile": self.ours.key,
            "caFile": self.authority.ca,
            **further,
        }

    def client(self, shown: Issued | None = None, *, trusted: Authority | None = None) -> ssl.SSLContext:
        """How a sender speaks TLS, with its certificate."""
        context = ssl.create_default_context(cafile=str((trusted or self.authority).ca))
        if shown is not None:
            context.load_cert_chain(shown.certificate, shown.key)
        return context

    def of_dcmtk(self, shown: Issued | None, *, trusted: Authority | None = None) -> Sequence[str]:
        """dcmtk's options for the same."""
        own = ["+tls", str(shown.key), str(shown.certificate)] if shown else ["+tla"]
        return [*own, "+cf", str((trusted or self.authority).ca)]


def associate_securely(port: int, context: ssl.SSLContext, *, calling: str = "CT1") -> Association:
    """An association of pynetdicom's."""
    ae = AE(ae_title=calling)
    ae.add_requested_context(CT_IMAGE, ExplicitVRLittleEndian)
    ae.add_requested_context(VERIFICATION)
    return ae.associate(LOOPBACK, port, ae_title="CLARA", tls_args=(context, LOOPBACK))


@contextmanager
def secured(port: int, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """A connection over which TLS has been agreed on; an end without good-bye is an error."""
    plain = socket.create_connection((LOOPBACK, port), 10)
    with context.wrap_socket(plain, server_hostname=LOOPBACK, suppress_ragged_eofs=False) as connection:
        yield connection


def common_name(connection: ssl.SSLSocket) -> str:
    """Whom the other side's certificate is for."""
    subject: Any = (connection.getpeercert() or {})["subject"]
    return str(subject[0][0][1])


class Piecemeal:
    """A sender that decides on every byte that goes over the wire."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.wire = socket.create_connection((LOOPBACK, port), 10)
        self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=LOOPBACK)

    def __enter__(self) -> "Piecemeal":
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.close()

    def hello(self) -> bytes:
        """The first bytes of the handshake, not sent."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return self._outgoing.read()
        raise AssertionError("a handshake wants an answer")

    def send(self, encrypted: bytes, piece: int) -> None:
        """Send bytes so many at once."""
        for at in range(0, len(encrypted), piece):
            self.wire.sendall(encrypted[at : at + piece])

    def shake_hands(self, piece: int) -> None:
        """Agree on TLS, with bytes sent so many at once."""
        self.send(self.hello(), piece)
        while True:
            self._incoming.write(self._received())
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.send(self._outgoing.read(), piece)
        self.send(self._outgoing.read(), piece)

    def encrypted(self, data: bytes, record: int = 16384) -> bytes:
        """Data as records of so many bytes."""
        for at in range(0, len(data), record):
            self.tls.write(data[at : at + record])
        return self._outgoing.read()

    def read(self, count: int) -> bytes:
        """Exactly so many bytes of what the peer says."""
        found = b""
        while len(found) < count:
            try:
                found += self.tls.read(count - len(found))
            except ssl.SSLWantReadError:
                self._incoming.write(self._received())
        return found

    def associate(self, piece: int = 1 << 20) -> None:
        """Agree on TLS and on an association."""
        self.shake_hands(piece)
        self.send(self.encrypted(association_request(b"CT1")), piece)
        header = self.read(6)
        assert header[0] == 2, "the association was not accepted"
        self.read(int.from_bytes(header[2:], "big"))

    def _received(self) -> bytes:
        data = self.wire.recv(65536)
        if not data:
            raise ConnectionError("the connection has ended")
        return data
