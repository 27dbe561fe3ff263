"""Hostile and broken peers: each costs one association, gets the answer of PS3.7 or PS3.8, and leaves nothing."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pynetdicom import evt
from support.receiver_wire import (
    CT,
    VERIFICATION,
    association_request,
    command_set,
    element,
    established,
    p_data,
    pdv,
    read_pdu,
    store_command,
    store_message,
    store_response,
)
from support.receiving import Receiver, receiving
from support.site import wait_until

from clara_dicom_adapter.receiver.association import ReceiverAssociation
from clara_dicom_adapter.spool import AssociationFolder
from clara_dicom_adapter.workflows.models import AssociationOutcome

BY_US = (7, (0, 0))  # A-ABORT by the service user, PS3.8 table 9-26
UNRECOGNIZED_PDU = (7, (2, 1))
UNEXPECTED_PDU = (7, (2, 2))
UNEXPECTED_PARAMETER = (7, (2, 5))
INVALID_PARAMETER = (7, (2, 6))

ECHO = command_set(
    element(0x0002, VERIFICATION.encode()),
    element(0x0100, b"\x30\0"),
    element(0x0110, b"\7\0"),
    element(0x0800, b"\1\1"),
)
CANCEL = command_set(element(0x0100, b"\xff\x0f"), element(0x0120, b"\1\0"), element(0x0800, b"\1\1"))
RELEASE = b"\5\0\0\0\0\4\0\0\0\0"
ABORT = b"\7\0\0\0\0\4\0\0\0\0"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    """One receiver that goes through it all."""
    with receiving(tmp_path_factory.mktemp("spool")) as receiver:
        yield receiver


@dataclass
class Victim:
    """A receiver with an association that has stored one instance."""

    receiver: Receiver
    peer: socket.socket
    known: set[str]

    def folder(self) -> AssociationFolder:
        """The association, once it has ended."""
        self.receiver.wait_until_closed()
        (folder,) = (one for one in self.receiver.spool.associations() if one.association_id not in self.known)
        return folder


@contextmanager
def storing(receiver: Receiver) -> Iterator[Victim]:
    """Afterwards the receiver must serve as if nothing had been."""
    known = {folder.association_id for folder in receiver.spool.associations()}
    with established(receiver.port) as peer:
        peer.sendall(store_message("1.2.3"))
        assert store_response(peer) == ("1.2.3", 0)
        yield Victim(receiver, peer, known)
    receiver.wait_until_closed()
    with established(receiver.port) as another:
        another.sendall(store_message("1.2.99", 20_000))
        assert store_response(another) == ("1.2.99", 0)
    receiver.wait_until_closed()
    fresh = [folder for folder in receiver.spool.associations() if folder.association_id not in known]
    assert {uid for folder in fresh for uid in stored(folder)} >= {"1.2.3", "1.2.99"}
    for folder in fresh:
        assert list(folder.path.glob("*.part")) == []


def stored(folder: AssociationFolder) -> list[str]:
    return [one.sop_instance_uid for one in folder.stored()]


def answer_to(peer: socket.socket, said: bytes) -> tuple[int, tuple[int, int]]:
    """Type of the PDU that comes back, and the last two bytes of its body: source and reason of an A-ABORT."""
    peer.sendall(said)
    kind, body = read_pdu(peer)
    return kind, (body[-2], body[-1])


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        pytest.param(p_data(length=0), INVALID_PARAMETER, id="PDU of 0"),
        pytest.param(p_data(b"x"), INVALID_PARAMETER, id="PDU of 1"),
        pytest.param(p_data(length=2**32 - 1), INVALID_PARAMETER, id="PDU of 4 GB"),
        pytest.param(p_data(pdv(1, 3, b"abcd", length=0)), INVALID_PARAMETER, id="PDV of 0"),
        pytest.param(p_data(pdv(1, 3, b"abcd", length=1)), INVALID_PARAMETER, id="PDV of 1"),
        pytest.param(p_data(pdv(1, 3, b"abcd", length=7)), INVALID_PARAMETER, id="PDV beyond its PDU"),
        pytest.param(p_data(pdv(1, 3, b"", length=2**32 - 1)), INVALID_PARAMETER, id="PDV of 4 GB"),
        pytest.param(b"\x99\0\0\0\0\4\0\0\0\0", UNRECOGNIZED_PDU, id="no PDU type"),
        pytest.param(b"\2\0\0\0\0\4\0\0\0\0", UNEXPECTED_PDU, id="A-ASSOCIATE-AC"),
        pytest.param(b"\6\0\0\0\0\4\0\0\0\0", UNEXPECTED_PDU, id="A-RELEASE-RP"),
        pytest.param(p_data(pdv(99, 3, store_command("1.2.4"))), INVALID_PARAMETER, id="context not proposed"),
        pytest.param(p_data(pdv(2, 3, store_command("1.2.4"))), INVALID_PARAMETER, id="even context"),
        pytest.param(p_data(pdv(7, 3, store_command("1.2.4"))), INVALID_PARAMETER, id="context refused"),
        pytest.param(p_data(pdv(7, 2, b"data")), UNEXPECTED_PARAMETER, id="data set on a context refused"),
        pytest.param(
            p_data(pdv(1, 3, store_command("1.2.4")), pdv(3, 2, b"data")),
            UNEXPECTED_PARAMETER,
            id="data set on another context",
        ),
        pytest.param(
            p_data(pdv(1, 1, store_command("1.2.4")[:20]), pdv(3, 1, store_command("1.2.5")[:20])),
            UNEXPECTED_PARAMETER,
            id="interleaved commands",
        ),
        pytest.param(
            p_data(pdv(1, 3, store_command("1.2.4")), pdv(1, 0, b"data"), pdv(3, 3, store_command("1.2.5"))),
            UNEXPECTED_PARAMETER,
            id="interleaved messages",
        ),
        pytest.param(p_data(pdv(1, 2, b"data")), UNEXPECTED_PARAMETER, id="command set missing"),
        pytest.param(p_data(*[pdv(1, 3, store_command("1.2.4"))] * 2), UNEXPECTED_PARAMETER, id="command set repeated"),
        pytest.param(p_data(*[pdv(1, 1, bytes(16384))] * 5), INVALID_PARAMETER, id="command set huge"),
        pytest.param(p_data(pdv(1, 3, b"")), BY_US, id="command set empty"),
        pytest.param(p_data(pdv(1, 3, store_command("1.2.4")[:-1])), BY_US, id="command set cut"),
        pytest.param(
            p_data(pdv(1, 3, store_command("1.2.4") + element(0x1030, b"AE", length=2**32 - 1))),
            BY_US,
            id="element beyond its command set",
        ),
        pytest.param(
            p_data(pdv(1, 3, store_command("1.2.4") + element(0x0100, b"\1\0"))), BY_US, id="element repeated"
        ),
        pytest.param(
            p_data(pdv(1, 3, command_set(element(0x0100, b"\x20\0"), element(0x0800, b"\0\0")))),
            BY_US,
            id="a service that is not ours",
        ),
        pytest.param(p_data(pdv(1, 3, ECHO)), BY_US, id="echo on a storage context"),
        pytest.param(
            p_data(pdv(5, 3, ECHO.replace(element(0x0110, b"\7\0"), b""))), BY_US, id="echo without a message id"
        ),
        pytest.param(
            p_data(pdv(5, 3, ECHO.replace(element(0x0002, VERIFICATION.encode()), element(0x0002, CT.encode())))),
            BY_US,
            id="echo of another SOP class",
        ),
        pytest.param(
            p_data(pdv(1, 3, store_command("1.2.4")), pdv(1, 3, CANCEL)),
            UNEXPECTED_PARAMETER,
            id="cancel within a message",
        ),
    ],
)
def test_what_breaks_the_protocol_is_aborted_with_its_reason(
    shared: Receiver, said: bytes, answer: tuple[int, tuple[int, int]]
) -> None:
    with storing(shared) as victim:
        assert answer_to(victim.peer, said) == answer
        folder = victim.folder()
        assert stored(folder) == ["1.2.3"]
        assert folder.outcome is not None
        assert folder.outcome.outcome is AssociationOutcome.ABORTED


def test_a_data_set_after_no_data_set_breaks_the_protocol(shared: Receiver) -> None:
    with storing(shared) as victim:
        victim.peer.sendall(p_data(pdv(1, 3, store_command("1.2.4", data_set=False))))
        assert store_response(victim.peer) == ("1.2.4", 0xC000)
        assert answer_to(victim.peer, p_data(pdv(1, 2, b"data"))) == UNEXPECTED_PARAMETER


def test_unused_bits_of_the_control_header_are_not_looked_at(shared: Receiver) -> None:
    """PS3.8 annex E.2: always 0 by the sender, and never checked by the receiver."""
    with storing(shared) as victim:
        victim.peer.sendall(p_data(pdv(1, 0xFF, store_command("1.2.4")), pdv(1, 0xFC, b"da"), pdv(1, 0xFE, b"ta")))
        assert store_response(victim.peer) == ("1.2.4", 0)


def test_a_group_length_that_lies_is_not_needed(shared: Receiver) -> None:
    """A command set ends where its last fragment says so."""
    lying = store_command("1.2.4")
    lying = element(0x0000, b"\xff\xff\xff\x7f") + lying[12:]
    with storing(shared) as victim:
        victim.peer.sendall(p_data(pdv(1, 3, lying), pdv(1, 2, b"data")))
        assert store_response(victim.peer) == ("1.2.4", 0)


def test_requests_sent_ahead_are_served_in_order(shared: Receiver) -> None:
    """Three stores and an echo in one piece, nothing of it waited for."""
    with storing(shared) as victim:
        echo = p_data(pdv(5, 3, ECHO))
        victim.peer.sendall(store_message("1.2.4", 300_000) + echo + store_message("1.2.5", context_id=3) + echo)
        assert store_response(victim.peer) == ("1.2.4", 0)
        assert read_pdu(victim.peer)[1][4] == 5
        assert store_response(victim.peer) == ("1.2.5", 0)
        assert read_pdu(victim.peer)[1][4] == 5
        victim.peer.sendall(store_message("1.2.6") + RELEASE)
        assert store_response(victim.peer) == ("1.2.6", 0)
        assert read_pdu(victim.peer)[0] == 6
        folder = victim.folder()
        assert stored(folder) == ["1.2.3", "1.2.4", "1.2.5", "1.2.6"]
        assert folder.outcome is not None
        assert folder.outcome.outcome is AssociationOutcome.RELEASED


def test_a_cancel_has_no_effect(shared: Receiver) -> None:
    with storing(shared) as victim:
        victim.peer.sendall(p_data(pdv(1, 3, CANCEL)) + store_message("1.2.4") + p_data(pdv(1, 3, CANCEL)))
        assert store_response(victim.peer) == ("1.2.4", 0)
        victim.peer.sendall(store_message("1.2.5"))
        assert store_response(victim.peer) == ("1.2.5", 0)


def test_data_that_do_not_wait_for_the_answer_break_the_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the A-ASSOCIATE-AC nothing may be sent (PS3.8 table 9-10, Sta3); it is the peer's doing, not ours."""

    class Slow(ReceiverAssociation):
        def _on_requested(self, event: evt.Event) -> None:
            wait_until("the data has come", lambda: bool(select.select([self.connection], [], [], 0)[0]))
            super()._on_requested(event)

    monkeypatch.setattr("clara_dicom_adapter.receiver.accepting.ReceiverAssociation", Slow)
    with receiving(tmp_path) as receiver:
        with socket.create_connection(("127.0.0.1", receiver.port), 10) as hasty:
            hasty.sendall(association_request(b"CT1") + store_message("1.2.4"))
            assert read_pdu(hasty) == (7, b"\0\0\2\0"), "aborted by the provider, which is pynetdicom here"
        wait_until("it has been accepted and ended", lambda: len(receiver.recorded.lines) == 2)
        assert receiver.recorded_lines() == ["accepted CT1", "ended aborted 0"]


def test_verification_stores_nothing(shared: Receiver) -> None:
    command = store_command("1.2.4").replace(CT.encode(), VERIFICATION.encode().ljust(len(CT), b"\0"))
    with storing(shared) as victim:
        victim.peer.sendall(p_data(pdv(5, 3, command), pdv(5, 2, b"data")))
        assert store_response(victim.peer) == ("1.2.4", 0x0122)


@pytest.mark.parametrize(
    "begun",
    [
        pytest.param((pdv(1, 1, store_command("1.2.4")[:40]),), id="command set"),
        pytest.param((pdv(1, 3, store_command("1.2.4")),), id="message"),
        pytest.param((pdv(1, 3, store_command("1.2.4")), pdv(1, 0, bytes(10_000))), id="data set"),
    ],
)
@pytest.mark.parametrize(
    ("said", "answer", "outcome"),
    [(RELEASE, 6, AssociationOutcome.RELEASED), (ABORT, 0, AssociationOutcome.ABORTED)],
    ids=["release", "abort"],
)
def test_leaving_in_the_middle(
    shared: Receiver, begun: tuple[bytes, ...], said: bytes, answer: int, outcome: AssociationOutcome
) -> None:
    with storing(shared) as victim:
        victim.peer.sendall(p_data(*begun) + said)
        assert read_pdu(victim.peer)[0] == answer
        folder = victim.folder()
        assert stored(folder) == ["1.2.3"]
        assert folder.outcome is not None
        assert folder.outcome.outcome is outcome


@pytest.mark.parametrize("pdu_length", [7, 20, 4096, 1 << 20])
def test_pdus_of_any_agreed_length_pass_through_the_same_buffer(tmp_path: Path, pdu_length: int) -> None:
    with receiving(tmp_path, maximum_pdu_length=1 << 20) as receiver, storing(receiver) as victim:
        size = 2_500_000 if pdu_length > 100 else 20_000
        victim.peer.sendall(store_message("1.2.4", size, pdu_length=pdu_length))
        assert store_response(victim.peer) == ("1.2.4", 0)
        victim.peer.sendall(RELEASE)
        assert read_pdu(victim.peer)[0] == 6
        last = list(victim.folder().stored())[-1]
        assert last.path.read_bytes().endswith(bytes(size))
        assert last.bytes < size + 1000


def test_data_that_overtakes_the_establishing_of_its_association_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer's first C-STORE is there while our side is still on its way from the A-ASSOCIATE-AC to established."""
    data_sent = threading.Event()
    seen: list[bool] = []

    class Late(ReceiverAssociation):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self.bind(evt.EVT_ACCEPTED, self._wait)  # comes between the answer and is_established

        def _wait(self, _event: evt.Event) -> None:
            assert data_sent.wait(10)
            seen.append(self.is_established)

    monkeypatch.setattr("clara_dicom_adapter.receiver.accepting.ReceiverAssociation", Late)
    with receiving(tmp_path) as receiver:
        with established(receiver.port) as peer:
            peer.sendall(store_message("1.2.3", 30_000))
            data_sent.set()
            assert store_response(peer) == ("1.2.3", 0)
            peer.sendall(RELEASE)
            assert read_pdu(peer)[0] == 6
        assert seen == [False]
        assert stored(receiver.folder()) == ["1.2.3"]


def test_idle_associations_do_nothing(tmp_path: Path) -> None:
    """While another one talks, the thread of an idle association is not woken once."""

    def switches(thread: threading.Thread) -> str:
        lines = Path(f"/proc/self/task/{thread.native_id}/status").read_text().splitlines()
        return next(line for line in lines if line.startswith("voluntary"))

    with receiving(tmp_path) as receiver, established(receiver.port) as idle:
        idle.sendall(store_message("1.2.3"))
        assert store_response(idle) == ("1.2.3", 0)
        (connection,) = receiver.listener.scp._connections
        serving = next(thread for thread in threading.enumerate() if thread.ident == connection.served_by)
        with established(receiver.port) as busy:
            before = ""
            for number in range(300):
                busy.sendall(store_message(f"1.2.4.{number}"))
                store_response(busy)
                if number == 100:  # until then the idle one may have been on its way to its wait
                    before = switches(serving)
            assert switches(serving) == before
