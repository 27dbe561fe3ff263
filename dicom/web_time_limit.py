"""A time limit for whole HTTP requests: those of httpx are for each wait, of which a slow peer can make any number."""

import math
import os
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

_CONNECTED: Final = (".connect_tcp.complete", ".start_tls.complete")
"""How the events end with which httpcore tells of a connection's stream."""


class TimeLimit:
    """Cuts the connections of a delivery off when its time is over; to be entered while requests are made.

    Whoever waits for one of them then gets an error of httpx.

    Args:
        seconds: From now; infinity: no limit.
    """

    def __init__(self, seconds: float) -> None:
        self._timer: threading.Timer | None = None
        if math.isfinite(seconds):
            self._timer = threading.Timer(min(max(seconds, 0.0), threading.TIMEOUT_MAX), self._cut_off)
        self._lock = threading.Lock()
        self._is_over = False
        self._connections: list[socket.socket] = []

    def __enter__(self) -> Self:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """To be given to each request as httpx's extension of this name."""
        if event.endswith(_CONNECTED):
            connection: socket.socket = info["return_value"].get_extra_info("socket")
            with self._lock:
                self._connections = [each for each in self._connections if each.fileno() >= 0] + [connection]
                if self._is_over:
                    _shut_down(connection)

    def _cut_off(self) -> None:
        with self._lock:
            self._is_over = True
            for connection in self._connections:
                _shut_down(connection)


def _shut_down(connection: socket.socket) -> None:
    """End the connection in both directions, so that nobody waits for it any more.

    With a copy of its descriptor: an ``SSLSocket`` that is shut down would go on in the clear, and to close it wakes
    nobody.
    """
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
