"""A slow disk slows the sender, by TCP, and nothing piles up in the receiver meanwhile."""

import fcntl
import select
import socket
import struct
import termios
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from support.receiver_wire import established, store_message, store_response
from support.receiving import receiving

from clara_dicom_adapter.receiver.pdata import BUFFER_BYTES
from clara_dicom_adapter.spool.incoming import NewFile

TOTAL = 32_000_000
BETWEEN = 1_000_000
"""What may be allocated besides, for association, folder and logs."""


def queued(connection: socket.socket, which: int) -> int:
    """Bytes in a queue of the kernel: ``FIONREAD``, not read yet, or ``TIOCOUTQ``, not taken by the other side yet."""
    (count,) = struct.unpack("i", fcntl.ioctl(connection, which, bytes(4)))
    return int(count)


def send_what_is_taken(peer: socket.socket, data: memoryview) -> int:
    """Send until nothing is taken for a second; the number of bytes that were."""
    peer.setblocking(False)
    writable = select.poll()
    writable.register(peer, select.POLLOUT)
    sent = 0
    while sent < len(data) and writable.poll(1000):
        sent += peer.send(data[sent:])
    peer.setblocking(True)
    return sent


@pytest.mark.parametrize(
    ("slow", "instances"), [pytest.param("write", 1, id="writing"), pytest.param("commit", 500, id="flushing")]
)
def test_no_more_is_read_than_the_buffer_takes_while_the_disk_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: str, instances: int
) -> None:
    """A peer that sends one instance after the other, without waiting for a reply, into a disk that takes nothing."""
    goes_on = threading.Event()
    real = getattr(NewFile, slow)

    def stands_still(self: NewFile, *arguments: Any) -> Any:
        assert goes_on.wait(60)
        return real(self, *arguments)

    monkeypatch.setattr(NewFile, slow, stands_still)
    size = TOTAL // instances
    uids = [f"1.2.{number}" for number in range(instances)]
    data = memoryview(b"".join(store_message(uid, size, pdu_length=131072) for uid in uids))
    with receiving(tmp_path) as receiver, established(receiver.port) as peer:
        (association,) = receiver.listener.scp._connections
        tracemalloc.start()
        try:
            sent = send_what_is_taken(peer, data)
            _, allocated = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert sent < TOTAL
        waiting = queued(peer, termios.TIOCOUTQ) + queued(association.connection, termios.FIONREAD)
        assert 0 < sent - waiting <= BUFFER_BYTES
        assert allocated < BETWEEN
        limits = (
            peer.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF),
            association.connection.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF),
        )
        assert sent <= BUFFER_BYTES + sum(limits)

        goes_on.set()
        peer.sendall(data[sent:])
        assert [store_response(peer) for _ in uids] == [(uid, 0) for uid in uids]
        peer.close()
        stored = list(receiver.folder().stored())
    assert [one.sop_instance_uid for one in stored] == uids
    assert all(one.bytes > size for one in stored)


def test_another_association_is_served_while_one_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, waits = threading.Event(), threading.Event()
    real = NewFile.commit

    def stands_still(self: NewFile) -> Any:
        if not waits.is_set():
            waits.set()
            assert goes_on.wait(60)
        return real(self)

    monkeypatch.setattr(NewFile, "commit", stands_still)
    with receiving(tmp_path) as receiver, established(receiver.port) as first, established(receiver.port) as second:
        first.sendall(store_message("1.2.1", 500))
        assert waits.wait(10)
        for number in range(5):
            second.sendall(store_message(f"1.2.2.{number}", 500))
            assert store_response(second) == (f"1.2.2.{number}", 0)
        goes_on.set()
        assert store_response(first) == ("1.2.1", 0)
