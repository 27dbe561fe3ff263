"""Connections are accepted by the threads that serve them: few threads, whoever comes and goes."""

import errno
import os
import select
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.receiver_wire import association_request, established, read_pdu, store_message, store_response
from support.receiving import LOOPBACK, Receiver, associate, receiving
from support.site import wait_until

from clara_dicom_adapter.receiver import accepting
from clara_dicom_adapter.receiver.listeners import listen


def threads_of(receiver: Receiver) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"scp-{receiver.port}"]


def test_one_connection_after_the_other_needs_no_new_thread(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        seen: set[int | None] = set()
        for number in range(20):
            with established(receiver.port) as peer:
                peer.sendall(store_message(f"1.2.{number}"))
                assert store_response(peer) == (f"1.2.{number}", 0)
                seen |= {thread.ident for thread in threads_of(receiver)}
            receiver.wait_until_closed()
        assert len(seen) <= accepting._MOST_WAITING + 1


def test_threads_that_a_burst_needed_end_but_for_a_few(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        with ExitStack() as stack:
            for _ in range(20):
                stack.enter_context(established(receiver.port))
            wait_until("each is served and one waits", lambda: len(threads_of(receiver)) == 21)
        wait_until("the others have ended", lambda: len(threads_of(receiver)) <= accepting._MOST_WAITING)
        with established(receiver.port):
            pass


def test_no_thread_is_left_when_the_receiver_has_stopped(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        with established(receiver.port):
            pass
        receiver.service.stop(5)
        wait_until("all have ended", lambda: not threads_of(receiver))


def test_without_a_thread_for_it_a_connection_waits_for_one_that_becomes_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving(tmp_path) as receiver, ExitStack() as stack:
        busy = stack.enter_context(established(receiver.port))
        wait_until("another thread waits", lambda: len(threads_of(receiver)) == 2)
        start: Callable[[threading.Thread], None] = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name == f"scp-{receiver.port}":
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)
        with capture_logs() as lines:
            stack.enter_context(established(receiver.port))
            expected = {"connections_not_accepted", "association_accepted"}
            wait_until("that is told", lambda: any(line["event"] in expected for line in lines))
        # the reconciler, too, may say something at any time
        assert {line["event"] for line in lines if line["log_level"] != "info"} <= expected
        with socket.create_connection((LOOPBACK, receiver.port), 10) as waiting:
            waiting.sendall(association_request(b"CT1"))
            busy.close()
            assert read_pdu(waiting)[0] == 2
        monkeypatch.undo()
        assoc = associate(receiver.port)
        assert assoc.is_established
        assoc.release()


def test_who_shares_the_socket_goes_on_when_one_stops(tmp_path: Path) -> None:
    (kept,) = listen((LOOPBACK,), 0)
    with kept, receiving(tmp_path) as receiver:
        server = receiver.listener.scp._servers[0]
        shared = server._listening.dup()
        with shared:
            receiver.service.stop(0)
            assert not server.open
            shared.setblocking(True)
            with socket.create_connection((LOOPBACK, server.port), 10):
                accepted, _ = shared.accept()
                accepted.close()


class Full(socket.socket):
    """There is no descriptor for a connection to it."""

    def accept(self) -> Any:
        raise OSError(errno.EMFILE, "too many open files")


def test_a_connection_that_the_one_which_is_woken_cannot_accept_is_accepted_by_another(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        server = receiver.listener.scp._servers[0]
        full = Full(fileno=os.dup(server._listening.fileno()))
        deaf = accepting.ReceiverServer(server.serving, full, maximum_connections=10)
        deaf.have_one_wait()
        try:
            for _ in range(3):  # who has accepted one is behind the deaf one next time
                assoc = associate(receiver.port)
                assert assoc.is_established
                assoc.release()
        finally:
            deaf.shutdown()


def test_who_cannot_be_woken_any_more_accepts_all_the_same(tmp_path: Path) -> None:
    class Short:
        """An epoll that takes nothing new."""

        def __init__(self, events: select.epoll) -> None:
            self.poll, self.unregister, self.close = events.poll, events.unregister, events.close

        def register(self, *_: object) -> None:
            raise OSError(errno.ENOSPC, "too many watches")

    with receiving(tmp_path) as receiver:
        server: Any = receiver.listener.scp._servers[0]
        server._events = Short(server._events)
        for _ in range(3):
            assoc = associate(receiver.port)
            assert assoc.is_established
            assoc.release()
