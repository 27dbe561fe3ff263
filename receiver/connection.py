"""Socket options of an accepted connection."""

import socket
import struct

from clara_dicom_adapter.receiver.upper_layer import Limits


def prepare(connection: socket.socket, limits: Limits) -> None:
    """Set the options of an accepted connection."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a C-STORE-RSP must not wait for an ACK
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(limits.write_seconds))


def _timeval(seconds: float) -> bytes:
    whole = int(seconds)
    return struct.pack("@ll", whole, max(int((seconds - whole) * 1_000_000), 0 if whole else 1))
