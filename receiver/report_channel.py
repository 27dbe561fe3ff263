"""A listener's end of the channel to the receiver: its setup and its orders in, its reports out.

How it works: whoever has something to report sends it, if the receiver can take it at once; a thread would have to be
woken for that. Of what it cannot take a thread sends the rest, so that a receiver that is slow holds no association up.
That an association was accepted can wait a moment: it goes with the next report, which is its end or the next progress.
"""

import socket
import threading
from collections.abc import Iterator
from time import sleep
from typing import Final

from clara_dicom_adapter.receiver.reports import ORDERS, REPORTS, Accepted, ListenerSetup, Order, Progress, Report

_FAREWELL_SECONDS: Final = 2.0
_PAUSE_SECONDS: Final = 0.1


class ReportChannel:
    """The one of a listener process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._unsent: list[Report] = []
        self._left = b""  # of what the receiver did not take at once
        self._changed = threading.Condition()
        self._closing = False
        self._sender = threading.Thread(target=self._send_what_is_left, name="reports", daemon=True)
        self._sender.start()

    def setup(self) -> ListenerSetup:
        """What this process is begun with."""
        return ListenerSetup.model_validate_json(self._lines.readline())

    def orders(self) -> Iterator[Order]:
        """What the receiver wants, until it has gone."""
        for line in self._lines:
            yield ORDERS.validate_json(line)

    def tell(self, report: Report) -> bool:
        """Have a report sent, and say whether it will be: progress is refused while something else waits."""
        with self._changed:
            if isinstance(report, Progress) and self._left:
                return False
            self._unsent.append(report)
            if not self._left and not isinstance(report, Accepted):
                self._send_at_once()
            return True

    def idle(self) -> bool:
        """Whether nothing waits to be sent."""
        with self._changed:
            return not self._left and not self._unsent

    def close(self) -> None:
        """Send what is left."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._sender.join(_FAREWELL_SECONDS)

    def _send_at_once(self) -> None:
        data = self._take()
        try:
            sent = self._connection.send(data, socket.MSG_DONTWAIT)
        except ConnectionError:  # the receiver has gone, and this process ends with it
            return
        except OSError:  # it is slow, or memory is short
            sent = 0
        if sent < len(data):
            self._left = data[sent:]
            self._changed.notify()

    def _take(self) -> bytes:
        data = b"".join(REPORTS.dump_json(report) + b"\n" for report in self._unsent)
        self._unsent.clear()
        return data

    def _send_what_is_left(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._left or self._closing)
                data = self._left or self._take()
                if not data:
                    return
                self._left = data  # until it is sent nobody sends anything before it
            try:
                sent = self._connection.send(data)
            except ConnectionError:
                return
            except OSError:
                sleep(_PAUSE_SECONDS)
                sent = 0
            with self._changed:
                self._left = data[sent:] or self._take()
