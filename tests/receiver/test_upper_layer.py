"""What a silent, slow or broken peer may cost, on real sockets; the session is a stand-in."""

import inspect
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pynetdicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.timer import Timer
from pynetdicom.transport import AddressInformation, AssociationSocket
from support.receiver_wire import association_request, established, store_message
from support.receiving import CT_IMAGE, VERIFICATION

from clara_dicom_adapter.configuration.settings import VerificationSettings
from clara_dicom_adapter.receiver.acceptance import AssociationRequest, Reject, RejectReason
from clara_dicom_adapter.receiver.accepting import ReceiverServer
from clara_dicom_adapter.receiver.association import ReceiverAssociation, Serving
from clara_dicom_adapter.receiver.commands import StoreRequest
from clara_dicom_adapter.receiver.listeners import listen
from clara_dicom_adapter.receiver.upper_layer import (
    PRIVATE_NAMES,
    LimitedSocket,
    LimitedUpperLayer,
    Limits,
    QuietAssociation,
)
from clara_dicom_adapter.workflows.models import AssociationOutcome

CT = str(CT_IMAGE)
WORKLIST_FIND = "1.2.840.10008.5.1.4.31"


class StandIn:
    """A session, and the gatekeeper that opens it."""

    def __init__(self, decision: Reject | None = None) -> None:
        self.decision = decision
        self.requests: list[AssociationRequest] = []
        self.begun: list[tuple[StoreRequest, str, str]] = []
        self.data: list[bytearray] = []
        self.outcomes: list[AssociationOutcome] = []
        self.over = threading.Event()
        self.status: tuple[int, str] = (0, "")

    def decide(self, request: AssociationRequest) -> "StandIn | Reject":
        self.requests.append(request)
        return self.decision or self

    def begin(self, request: StoreRequest, abstract_syntax: str, transfer_syntax: str) -> None:
        self.begun.append((request, abstract_syntax, transfer_syntax))
        self.data.append(bytearray())

    def write(self, fragments: list[memoryview]) -> None:
        for fragment in fragments:
            self.data[-1] += fragment

    def complete(self) -> tuple[int, str]:
        return self.status

    def answered(self) -> None:
        """Nothing was put off."""

    def end(self, outcome: AssociationOutcome) -> None:
        if not self.over.is_set():
            self.outcomes.append(outcome)
            self.over.set()

    def ended_with(self) -> AssociationOutcome:
        assert self.over.wait(10)
        return self.outcomes[0]


LIMITS = Limits(request_seconds=5, idle_seconds=5, write_seconds=5, pdu_length=16384)


@contextmanager
def listening(stand_in: StandIn, limits: Limits = LIMITS, *, connections: int = 20) -> Iterator[ReceiverServer]:
    ae = AE(ae_title="CLARA")
    ae.maximum_pdu_size = limits.pdu_length
    ae.maximum_associations = 1000
    (listening_socket,) = listen(("127.0.0.1",), 0)
    serving = Serving(
        ae,
        AddressInformation.from_tuple(listening_socket.getsockname()),
        gatekeeper=stand_in,
        limits=limits,
        verification=VerificationSettings(),
        connections=set(),
    )
    server = ReceiverServer(serving, listening_socket, maximum_connections=connections)
    server.have_one_wait()
    try:
        yield server
    finally:
        server.shutdown()
        for connection in list(serving.connections):
            connection.break_off()
            assert connection.over.wait(10)


def port_of(server: ReceiverServer) -> int:
    return server.port


def associate(server: ReceiverServer, *syntaxes: str, calling: str = "CT1", called: str = "CLARA") -> Association:
    ae = AE(ae_title=calling)
    ae.add_requested_context(CT_IMAGE, list(syntaxes) or [ExplicitVRLittleEndian])
    ae.add_requested_context(VERIFICATION)
    ae.add_requested_context(WORKLIST_FIND)
    return ae.associate("127.0.0.1", port_of(server), ae_title=called)


def instance(size: int = 100) -> Dataset:
    ds = Dataset()
    ds.SOPClassUID = CT
    ds.SOPInstanceUID = "1.2.3"
    ds.PixelData = b"\1" * size
    ds["PixelData"].VR = "OW"
    ds.file_meta = Dataset()  # type: ignore[assignment]
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def read_to_end(connection: socket.socket) -> bytes:
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


PUBLIC_NAMES = {
    DULServiceProvider: ("run_reactor", "kill_dul", "send_pdu", "to_user_queue", "to_provider_queue", "event_queue"),
    Association: ("run_reactor", "kill", "set_socket", "accepted_contexts", "is_released"),
    AssociationSocket: ("send", "close"),
    ACSE: ("send_ap_abort", "send_abort", "send_release", "send_reject", "is_release_requested", "is_aborted"),
    DIMSEServiceProvider: ("get_msg", "msg_queue"),
    Timer: ("remaining",),
}


@pytest.mark.parametrize("names", [PRIVATE_NAMES, PUBLIC_NAMES], ids=["private", "public"])
def test_what_we_use_of_pynetdicom_is_there(names: Mapping[type, tuple[str, ...]]) -> None:
    """pynetdicom promises nothing of the private ones; the test below uses them all."""
    for owner, used in names.items():
        words = inspect.getsource(owner)
        for name in used:
            assert re.search(rf"\b{name}\b", words), (
                f"pynetdicom {pynetdicom.__version__} has no {owner.__name__}.{name} any more: "
                "look at receiver/upper_layer.py before this version is allowed in pyproject.toml"
            )
    assert _config.UNRESTRICTED_STORAGE_SERVICE is False  # never switched on by us


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (LimitedUpperLayer, DULServiceProvider),
        (QuietAssociation, Association),
        (ReceiverAssociation, Association),
        (LimitedSocket, AssociationSocket),
    ],
)
def test_no_private_name_of_pynetdicom_is_used_that_is_not_listed(ours: type, theirs: type) -> None:
    """Neither on purpose nor by giving an attribute of our own a name that is taken."""
    private = set(re.findall(r"\b_[a-z]\w+", inspect.getsource(theirs)))
    used = set(re.findall(r"\b_[a-z]\w+", inspect.getsource(ours)))
    assert used & private <= set(PRIVATE_NAMES.get(theirs, ()))


def test_an_instance_streams_to_the_session_and_the_status_back() -> None:
    stand_in = StandIn()
    with listening(stand_in) as server:
        assoc = associate(server)
        assert assoc.is_established
        assert {cx.abstract_syntax for cx in assoc.accepted_contexts} == {CT_IMAGE, VERIFICATION}
        assert assoc.send_c_echo().Status == 0
        assert assoc.send_c_store(instance(100_000)).Status == 0
        stand_in.status = (0xA700, "storage space is short")
        answer = assoc.send_c_store(instance())
        assert (answer.Status, answer.ErrorComment) == (0xA700, "storage space is short")
        assert assoc.send_c_echo().Status == 0
        assoc.release()
        assert stand_in.ended_with() is AssociationOutcome.RELEASED
    request, abstract_syntax, transfer_syntax = stand_in.begun[0]
    assert (request.sop_instance_uid, abstract_syntax, transfer_syntax) == ("1.2.3", CT, ExplicitVRLittleEndian)
    assert stand_in.data[0].endswith(b"\1" * 100_000)
    assert len(stand_in.outcomes) == 1


def test_the_peer_aborting_and_the_connection_breaking_are_told_apart() -> None:
    def abort(assoc: Association) -> None:
        assoc.abort()

    def cut(assoc: Association) -> None:
        connection = assoc.dul.socket
        assert connection is not None
        assert connection.socket is not None
        connection.socket.shutdown(socket.SHUT_RDWR)

    for break_it, outcome in ((abort, AssociationOutcome.ABORTED), (cut, AssociationOutcome.CONNECTION_LOST)):
        stand_in = StandIn()
        with listening(stand_in) as server:
            assoc = associate(server)
            assert assoc.send_c_store(instance()).Status == 0
            break_it(assoc)
            assert stand_in.ended_with() is outcome
            assoc.join(5)


def test_a_rejection_reaches_the_peer_with_its_codes() -> None:
    with listening(StandIn(Reject(RejectReason.TOO_MANY_ASSOCIATIONS))) as server:
        seen: list[tuple[int | None, ...]] = []

        def note(event: evt.Event) -> None:
            p = getattr(event, "primitive", None)
            if isinstance(p, A_ASSOCIATE) and p.result:
                seen.append((p.result, p.result_source, p.diagnostic))

        ae = AE(ae_title="CT1")
        ae.add_requested_context(VERIFICATION)
        assoc = ae.associate("127.0.0.1", port_of(server), evt_handlers=[(evt.EVT_ACSE_RECV, note)])
        assert assoc.is_rejected
        assert seen == [(2, 3, 2)]


@pytest.mark.parametrize(
    ("calling", "called", "seen"),
    [
        (b"  CT1", b"CLARA   ", ("CT1", "CLARA")),
        (b"", b"CLARA", ("", "CLARA")),
        (b"CT1", b"", ("CT1", "")),
        (b"\xc4\xd6", b"A\\B", ("\ufffd\ufffd", "A\\B")),
    ],
)
def test_odd_ae_titles_get_a_verdict(calling: bytes, called: bytes, seen: tuple[str, str]) -> None:
    stand_in = StandIn(Reject(RejectReason.CALLING_AE_TITLE_UNKNOWN))
    with listening(stand_in) as server, socket.create_connection(("127.0.0.1", port_of(server)), 10) as peer:
        peer.sendall(association_request(calling, called))
        assert read_to_end(peer) == bytes((3, 0, 0, 0, 0, 4, 0, 1, 1, 3))  # A-ASSOCIATE-RJ, PS3.8 table 9-21
    assert (stand_in.requests[0].calling_ae_title, stand_in.requests[0].called_ae_title) == seen


def test_a_connection_without_a_request_is_closed() -> None:
    limits = Limits(request_seconds=0.3, idle_seconds=60, write_seconds=5, pdu_length=16384)
    with listening(StandIn(), limits) as server:
        for said in (b"", b"\1", association_request(b"CT1")[:40]):
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", port_of(server)), 10) as peer:
                peer.sendall(said)
                read_to_end(peer)
            assert 0.2 < time.monotonic() - began < 5


@pytest.mark.parametrize("said", [b"", b"\4\0\0\0", b"\4\0\0\0\0\x64\0\0\0\x60\1\0" + bytes(20)])
def test_a_silent_peer_is_aborted(said: bytes) -> None:
    """Between PDUs, within a header, and within a PDU."""
    stand_in = StandIn()
    limits = Limits(request_seconds=5, idle_seconds=0.4, write_seconds=5, pdu_length=16384)
    with listening(stand_in, limits) as server, established(port_of(server)) as peer:
        peer.sendall(said)
        assert read_to_end(peer)[:1] == b"\7"  # A-ABORT
        assert stand_in.ended_with() is AssociationOutcome.ABORTED


@pytest.mark.parametrize(
    "said",
    [
        b"\4\0\x7f\0\0\0" + bytes(100),  # a PDU longer than was agreed
        b"\x99\0\0\0\0\4" + bytes(4),  # no PDU type
        b"\4\0\0\0\0\7\0\0\0\3\1\0\0",  # a data set that no command announced
        b"\4\0\0\0\0\7\0\0\0\3\1\3\0",  # a command set that ends within an element
        b"\4\0\0\0\0\7\0\0\0\3\x63\3\0",  # on a context that was not proposed
    ],
)
def test_a_broken_protocol_is_aborted(said: bytes) -> None:
    stand_in = StandIn()
    with listening(stand_in) as server, established(port_of(server)) as peer:
        peer.sendall(said)
        assert read_to_end(peer)[:1] == b"\7"
        assert stand_in.ended_with() is AssociationOutcome.ABORTED


def test_a_service_that_was_not_negotiated_is_not_gathered_in_memory() -> None:
    """A C-FIND-RQ on a storage context, whose data set would have no end."""
    stand_in = StandIn()
    find = struct.pack("<HHIHHHIHHHIH", 0, 0x0100, 2, 0x20, 0, 0x0110, 2, 1, 0, 0x0800, 2, 0)
    pdv = struct.pack(">IBB", len(find) + 2, 1, 3) + find
    with listening(stand_in) as server, established(port_of(server)) as peer:
        peer.sendall(struct.pack(">BxI", 4, len(pdv)) + pdv)
        assert read_to_end(peer)[:1] == b"\7"
        assert stand_in.ended_with() is AssociationOutcome.ABORTED


def test_a_peer_that_never_reads_is_cut_off() -> None:
    stand_in = StandIn()
    limits = Limits(request_seconds=5, idle_seconds=60, write_seconds=0.5, pdu_length=16384)
    message = store_message("1.2.3") * 100
    with listening(stand_in, limits) as server, established(port_of(server)) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        for connection in server.serving.connections:
            connection.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        peer.settimeout(0.2)
        while not stand_in.over.is_set():
            try:
                peer.sendall(message)
            except TimeoutError:
                continue
            except OSError:
                break
        assert stand_in.ended_with() is AssociationOutcome.CONNECTION_LOST


def test_connections_that_only_wait_are_bounded() -> None:
    with listening(StandIn(), connections=2) as server:
        waiting = [socket.create_connection(("127.0.0.1", port_of(server)), 10) for _ in range(2)]
        while len(server.serving.connections) < 2:
            time.sleep(0.001)
        with socket.create_connection(("127.0.0.1", port_of(server)), 10) as one_more:
            assert read_to_end(one_more) == b""
        for peer in waiting:
            peer.close()
