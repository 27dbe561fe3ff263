"""Accepts connections, in the threads that then serve them.

How it works: some threads wait for a connection, and the one that gets it serves it, after it has seen to it that
another one waits. So nothing is handed from thread to thread. All of them wait in one epoll that is registered for the
socket exclusively (EPOLLEXCLUSIVE of epoll_ctl(2)): of the listeners that share it the kernel wakes one, and that is
the one which has waited longest, because who has accepted a connection is registered anew.
"""

import errno
import select
import socket
import threading
from time import sleep
from typing import Any, Final

import structlog

from clara_dicom_adapter.receiver.acceptance import canonical_address
from clara_dicom_adapter.receiver.association import ReceiverAssociation, Serving
from clara_dicom_adapter.receiver.waking import Bell

log = structlog.get_logger("clara_dicom_adapter.receiver")

_MOST_WAITING: Final = 4
"""Threads that wait for a connection; one that has served one and finds so many ends."""
_EXCLUSIVELY: Final = select.EPOLLIN | select.EPOLLEXCLUSIVE
_NOTHING_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Why a connection that is there cannot be accepted; it stays there, so that who waits for one does not wait."""
_PAUSE_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 1.0
"""A connection waits no longer when the one that was woken for it cannot accept it, or nobody was."""


class ReceiverServer:
    """Makes a :class:`ReceiverAssociation` of each connection to a socket that listens already."""

    def __init__(self, serving: Serving, listening: socket.socket, *, maximum_connections: int) -> None:
        """Args:
        serving: How; its connections are those of all addresses.
        listening: Others may serve it too, in this process and in others.
        maximum_connections: How many there may be over all addresses.
        """
        self.serving = serving
        self._maximum_connections = maximum_connections
        self._listening = listening
        self.port: int = listening.getsockname()[1]
        listening.setblocking(False)  # another process may be faster to accept
        self._bell = Bell()
        self._events = select.epoll()
        self._events.register(listening.fileno(), _EXCLUSIVELY)
        self._events.register(self._bell.descriptor, select.EPOLLIN)
        self._turn = threading.Condition()
        self._waiting = 0
        self._closed = False
        self._short = False
        self._registered = True

    def have_one_wait(self) -> None:
        """See to it that a thread waits, unless there is none to be had; for the beginning, and from time to time."""
        with self._turn:
            nobody_waits = not self._waiting and not self._closed
        if nobody_waits:
            self._start_thread()

    @property
    def open(self) -> bool:
        """Whether connections are accepted, now or as soon as one of those that are served has ended."""
        return not self._closed

    def shutdown(self) -> None:
        """Accept no more, and let go of the socket; open associations go on, and others may go on listening."""
        with self._turn:
            self._closed = True
            self._bell.ring()
            self._turn.wait_for(lambda: not self._waiting)
        self._events.close()
        self._bell.close()
        self._listening.close()

    # ---- the threads ----

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._take_turns, name=f"scp-{self.port}", daemon=True).start()
        except RuntimeError as error:  # no more threads, for now
            self._tell_once(str(error))

    def _take_turns(self) -> None:
        while self._begin_to_wait():
            try:
                accepted = self._accept()
            finally:
                with self._turn:
                    self._waiting -= 1
                    self._turn.notify_all()
            self.have_one_wait()
            if accepted is not None:
                self._serve(*accepted)

    def _begin_to_wait(self) -> bool:
        with self._turn:
            if self._closed or self._waiting >= _MOST_WAITING:
                return False
            self._waiting += 1
            return True

    def _accept(self) -> tuple[socket.socket, Any] | None:
        """The next connection with its peer; None when there will be no more."""
        while not self._closed:
            self._events.poll(_LOOK_SECONDS)
            if self._closed:
                return None
            try:
                accepted = self._listening.accept()
            except BlockingIOError:  # somebody else was faster
                continue
            except OSError as error:  # the peer has gone again, or there is nothing to accept it with
                if error.errno in _NOTHING_LEFT:
                    self._wait_for_more(error)
                continue
            self._short = False
            self._let_others_go_first()
            return accepted
        return None

    def _let_others_go_first(self) -> None:
        """Without this one listener would get every connection that comes while it waits."""
        with self._turn:
            if self._closed:
                return
            if self._registered:
                self._events.unregister(self._listening.fileno())
                self._registered = False
            try:
                self._events.register(self._listening.fileno(), _EXCLUSIVELY)
                self._registered = True
            except OSError as error:  # memory is short: until the next time nobody is woken, and everybody looks
                log.warning("connections_accepted_late", reason=error.strerror)

    def _wait_for_more(self, error: OSError) -> None:
        self._tell_once(error.strerror or str(error))
        sleep(_PAUSE_SECONDS)

    def _tell_once(self, reason: str) -> None:
        if not self._short:
            log.error("connections_not_accepted", reason=reason)
        self._short = True

    def _serve(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        peer = canonical_address(address[0])
        try:
            if not self._may_be_served(peer):
                connection.close()
                return
            association = ReceiverAssociation(self.serving, connection, address)
            self.serving.connections.add(association)
            association.run_reactor()
        except Exception:  # the others go on
            log.exception("connection_failed", peer=peer)
            connection.close()

    def _may_be_served(self, peer: str) -> bool:
        """Whether waiting for its association request does not cost too much already."""
        if len(self.serving.connections) < self._maximum_connections:
            return self.serving.securing is None or self.serving.securing.can_secure(peer)
        log.warning("connection_refused", peer=peer, count=len(self.serving.connections))
        return False
