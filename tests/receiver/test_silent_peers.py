"""Peers that say nothing more, or say it slowly, wherever they are: each is let go of within its time limit."""

import fcntl
import socket
import struct
import termios
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt
from support.receiver_wire import (
    association_request,
    established,
    p_data,
    pdv,
    read_pdu,
    store_command,
    store_message,
    store_response,
)
from support.receiving import LOOPBACK, Receiver, receiving
from support.site import wait_until

from clara_dicom_adapter.receiver.association import ReceiverAssociation

FOREVER = 600
"""Seconds; longer than any test runs."""
NOTHING = 0
A_RELEASE_RP = 6
A_ABORT = 7
RELEASE = b"\5\0\0\0\0\4\0\0\0\0"


def the_only_one(receiver: Receiver) -> ReceiverAssociation:
    """The connection that is open."""
    (association,) = receiver.listener.scp._connections
    return association


def unread(association: ReceiverAssociation) -> int:
    """Bytes that have come and that nobody has read."""
    (count,) = struct.unpack("i", fcntl.ioctl(association.connection, termios.FIONREAD, bytes(4)))
    return int(count)


def trickle(peer: socket.socket) -> int:
    """Send one byte after the other until there is an answer; the type of its PDU."""
    peer.settimeout(0.02)
    while True:
        try:
            return read_pdu(peer)[0]
        except TimeoutError:
            peer.sendall(b"\0")
        except ConnectionError:
            return NOTHING


def must_serve(receiver: Receiver) -> None:
    """As if nothing had been."""
    receiver.wait_until_closed()
    with established(receiver.port) as another:
        another.sendall(store_message("1.2.99"))
        assert store_response(another) == ("1.2.99", 0)


def test_silence_at_any_byte_of_a_message_is_aborted(tmp_path: Path) -> None:
    message = store_message("1.2.4", 30) + RELEASE
    with receiving(
        tmp_path, association_idle_timeout_seconds=1, maximum_number_of_associations=len(message)
    ) as receiver:
        silent = []
        for at in range(len(message)):
            silent.append(established(receiver.port))
            silent[-1].sendall(message[:at])
        for at, peer in enumerate(silent):
            with peer:
                answers = [read_pdu(peer)[0]]
                if answers == [4]:  # the response to what is complete
                    answers.append(read_pdu(peer)[0])
                assert answers[-1] == A_ABORT, f"silent at byte {at}"
        must_serve(receiver)
        assert [one.sop_instance_uid for folder in receiver.spool.associations() for one in folder.stored()] == [
            *["1.2.4"] * len(RELEASE),
            "1.2.99",
        ]


def test_silence_at_any_byte_of_an_association_request_is_ended(tmp_path: Path) -> None:
    """Not one byte: the connection is closed. A part of a request: it is aborted."""
    request = association_request(b"CT1")
    limits: dict[str, Any] = {"association_request_timeout_seconds": 2, "association_idle_timeout_seconds": FOREVER}
    with receiving(tmp_path, maximum_number_of_associations=len(request), **limits) as receiver:
        silent = []
        for at in range(len(request)):
            silent.append(socket.create_connection((LOOPBACK, receiver.port), 20))
            silent[-1].sendall(request[:at])
        for at, peer in enumerate(silent):
            with peer:
                assert read_pdu(peer)[0] == (A_ABORT if at else NOTHING), f"silent at byte {at}"
        must_serve(receiver)


@pytest.mark.parametrize("begun", [b"", association_request(b"CT1")[:50]], ids=["header", "request"])
def test_a_request_that_trickles_in_without_end_is_aborted(tmp_path: Path, begun: bytes) -> None:
    limits: dict[str, Any] = {"association_request_timeout_seconds": 0.4, "association_idle_timeout_seconds": FOREVER}
    with receiving(tmp_path, **limits) as receiver:
        with socket.create_connection((LOOPBACK, receiver.port), 10) as peer:
            peer.sendall(begun or b"\1\0\0\1")
            assert trickle(peer) in {A_ABORT, NOTHING}
        must_serve(receiver)


@pytest.mark.parametrize("slowly", [False, True], ids=["silent", "trickling"])
def test_a_pdu_that_does_not_end_ahead_of_our_answer_holds_a_place_no_longer_than_a_request_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slowly: bool
) -> None:
    class Slow(ReceiverAssociation):
        def _on_requested(self, event: evt.Event) -> None:
            wait_until("something has come ahead", lambda: unread(self) > 0)
            super()._on_requested(event)

    monkeypatch.setattr("clara_dicom_adapter.receiver.accepting.ReceiverAssociation", Slow)
    limits: dict[str, Any] = {
        "association_request_timeout_seconds": 1,
        "association_idle_timeout_seconds": FOREVER,
    }
    with receiving(tmp_path, **limits) as receiver:
        with socket.create_connection((LOOPBACK, receiver.port), 20) as hasty:
            hasty.sendall(association_request(b"CT1") + (b"\7\0\0\0\3\xff" if slowly else b"\7\0\0"))
            assert (trickle(hasty) if slowly else read_pdu(hasty)[0]) == A_ABORT
        monkeypatch.undo()
        must_serve(receiver)


def test_what_follows_a_release_request_does_not_delay_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    class Slow(ReceiverAssociation):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            send_release = self.acse.send_release

            def later(is_response: bool = False) -> None:
                assert goes_on.wait(10)
                send_release(is_response)

            monkeypatch.setattr(self.acse, "send_release", later)

    monkeypatch.setattr("clara_dicom_adapter.receiver.accepting.ReceiverAssociation", Slow)
    with receiving(tmp_path, association_idle_timeout_seconds=FOREVER) as receiver:
        with established(receiver.port) as peer:
            association = the_only_one(receiver)
            peer.sendall(RELEASE)
            wait_until("it is asked for", lambda: association.upper_layer.state_machine.current_state == "Sta8")
            peer.sendall(b"\4\0\0")
            wait_until("half a header has come", lambda: unread(association) > 0)
            goes_on.set()
            assert read_pdu(peer)[0] == A_RELEASE_RP
        assert receiver.recorded_lines() == ["accepted CT1", "ended released 0"]


def test_a_pdu_that_trickles_in_without_end_is_aborted(tmp_path: Path) -> None:
    with receiving(tmp_path, association_idle_timeout_seconds=0.5) as receiver:
        with established(receiver.port) as peer:
            peer.sendall(
                p_data(pdv(1, 3, store_command("1.2.4"))) + p_data(length=60_000) + pdv(1, 0, b"", length=59_996)
            )
            assert trickle(peer) == A_ABORT
        must_serve(receiver)


def test_many_long_requests_that_do_not_end_take_no_more_memory_than_was_sent(tmp_path: Path) -> None:
    """Each announces as much as it may, and sends next to nothing."""
    limits: dict[str, Any] = {"association_request_timeout_seconds": FOREVER, "maximum_number_of_associations": 200}
    with receiving(tmp_path, **limits) as receiver:
        tracemalloc.start()
        try:
            peers = [socket.create_connection((LOOPBACK, receiver.port), 10) for _ in range(200)]
            for peer in peers:
                peer.sendall(struct.pack(">BxI", 1, 512 * 1024) + bytes(100))
            connections = receiver.listener.scp._connections
            wait_until("all are there", lambda: len(connections) == len(peers))
            wait_until("all has been read", lambda: not any(map(unread, list(connections))))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < len(peers) * (400 << 10), "a parser's buffer for each, and not what was announced"
        for peer in peers:
            peer.close()
        must_serve(receiver)
