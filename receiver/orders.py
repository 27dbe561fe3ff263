"""The receiver's end of the channel to one listener process: its setup and its orders out, its reports in.

Orders wait here and are sent by a thread, so that a listener that is slow to begin holds up neither who gives them nor
the other listeners. Of each kind only the newest is sent, for an order says how things are and not what has changed;
and a listener waits for the answer to what it has wanted before it wants more.
"""

import errno
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import structlog

from clara_dicom_adapter.receiver.reports import ListenerSetup, Order

log = structlog.get_logger("clara_dicom_adapter.receiver")

_HANGING_SECONDS: Final = 60
"""A listener that has begun takes orders at once; one that takes nothing for this long will not take any."""


class OrderChannel:
    """One for each process: the next one is begun with what is known then."""

    def __init__(self, connection: socket.socket, setup: ListenerSetup) -> None:
        """Take over a connection and begin to send; raises OSError when there are no more threads."""
        self._connection = connection
        self._setup = setup
        self._waiting: dict[str, Order] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._sender = threading.Thread(target=self._send, name=f"orders-{setup.number}", daemon=True)
        try:
            self._sender.start()
        except RuntimeError as error:
            connection.close()
            raise OSError(errno.EAGAIN, "no more threads") from error

    def tell(self, order: Order) -> None:
        """Have an order sent; returns at once."""
        with self._changed:
            self._waiting.pop(order.kind, None)
            self._waiting[order.kind] = order
            self._changed.notify()

    def lines(self) -> Iterator[bytes]:
        """What the listener says, until it says no more; the last line may be cut off. Raises OSError likewise."""
        with self._connection.makefile("rb") as lines:
            yield from lines

    def give_up(self) -> None:
        """Have the listener end, and another take its place."""
        self._shut_down()

    def close(self) -> None:
        """Send no more; what has not been sent is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._shut_down()
        self._sender.join()
        self._connection.close()

    def _send(self) -> None:
        try:
            self._connection.sendall(_line(self._setup))  # it may take as long as the listener takes to begin
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _HANGING_SECONDS, 0))
            while (order := self._next()) is not None:
                self._connection.sendall(_line(order))
        except BlockingIOError:
            log.error("listener_hangs", number=self._setup.number, reason=f"no order taken for {_HANGING_SECONDS} s")
            self._shut_down()
        except OSError:  # it has died
            self._shut_down()
        except Exception:
            log.exception("order_not_sent")
            self._shut_down()

    def _next(self) -> Order | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            return None if self._closed else self._waiting.pop(next(iter(self._waiting)))

    def _shut_down(self) -> None:
        # half an order may have been written, and nothing can follow it: the listener ends, and another takes its place
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


def _line(said: ListenerSetup | Order) -> bytes:
    return said.model_dump_json(by_alias=True).encode() + b"\n"
