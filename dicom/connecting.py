"""The way to a peer: a TCP connection, over TLS where it wants that."""

import socket
import ssl
import time
from dataclasses import dataclass

from clara_dicom_adapter.dicom import tls
from clara_dicom_adapter.dicom.tls import TlsClient, TlsUnusable
from clara_dicom_adapter.errors import AssociationFailed


@dataclass(frozen=True, slots=True)
class Peer:
    """A Storage SCP and where it listens.

    Attributes:
        tls: How to speak TLS with it; None: plain TCP.
    """

    ae_title: str
    host: str
    port: int
    tls: TlsClient | None = None


def connect(peer: Peer, seconds: float) -> socket.socket:
    """A connection, TLS included within the seconds given; raises :class:`AssociationFailed`."""
    deadline = time.monotonic() + seconds
    try:
        context = tls.context(peer.tls) if peer.tls else None
        connection = socket.create_connection((peer.host, peer.port), timeout=seconds)
    except TlsUnusable as error:
        raise AssociationFailed(peer.ae_title, str(error)) from error
    except OSError as error:
        raise AssociationFailed(peer.ae_title, f"cannot connect: {words(error)}") from error
    # without it the last, short segment of each message waits for the peer's delayed acknowledgement
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if peer.tls is None or context is None:
        return connection
    try:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        return context.wrap_socket(connection, server_hostname=peer.tls.server_name or peer.host)
    except OSError as error:
        connection.close()
        raise AssociationFailed(peer.ae_title, f"no TLS: {words(error)}") from error
    except BaseException:
        connection.close()
        raise


def words(error: OSError) -> str:
    """What went wrong, in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return tls.words(error)
    return error.strerror or str(error) or type(error).__name__
