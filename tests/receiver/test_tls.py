"""Associations over TLS: with dcmtk and pynetdicom, certificates right and wrong, and peers that do their worst."""

import shutil
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.dicom_objects import make_objects
from support.dicom_peers import tool
from support.receiver_wire import association_request, p_data, pdv, store_command, store_message
from support.receiving import LOOPBACK, Receiver, associate, instance, receiving, run
from support.site import wait_until
from support.tls_peers import Hospital, Piecemeal, associate_securely, common_name, secured

from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.receiver.accepting import ReceiverServer
from clara_dicom_adapter.receiver.pdata import PDU_HEADER
from clara_dicom_adapter.receiver.secure import SecureConnection
from clara_dicom_adapter.spool import AssociationFolder
from clara_dicom_adapter.workflows.models import AssociationOutcome

Logged = list[MutableMapping[str, Any]]
ABORT = b"\7\0\0\0\0\4\0\0\0\0"
RELEASE = b"\5\0\0\0\0\4\0\0\0\0"
REPLY = 4
"""Type of the PDU that a C-STORE-RSP comes in."""


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Hospital:
    return Hospital(tmp_path_factory.mktemp("hospital"))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, hospital: Hospital) -> Iterator[Receiver]:
    """One receiver that goes through most of it; it wants certificates."""
    with receiving(tmp_path_factory.mktemp("spool"), tls=hospital.settings()) as receiver:
        yield receiver


@pytest.fixture
def logged(shared: Receiver) -> Iterator[Logged]:
    """What is logged from now on; nothing of it is about connections of an earlier test."""
    wait_until("no connection is left", lambda: not shared.listener.scp._connections)
    with capture_logs() as lines:
        yield lines


def failures(receiver: Receiver, reason: str) -> float:
    value = receiver.service.metrics.registry.get_sample_value("clara_dicom_tls_failures_total", {"reason": reason})
    return value or 0.0


def said(logged: Logged, event: str) -> str:
    """The one line of that name, as text; a peer hears of a failure before it is logged."""
    wait_until(f"{event} is logged", lambda: any(line["event"] == event for line in logged), 10)
    (line,) = [line for line in logged if line["event"] == event]
    return f"{line['log_level']}: {line}"


def newest(receiver: Receiver) -> AssociationFolder:
    """The association that began last, once all have ended."""
    receiver.wait_until_closed()
    return max(receiver.spool.associations(), key=lambda folder: folder.facts.started_at)


def dataset(path: Path) -> bytes:
    return path.read_bytes()[read_meta(path).dataset_offset :]


def stored(folder: AssociationFolder) -> list[str]:
    return [one.sop_instance_uid for one in folder.stored()]


# ---- those who may ----


def test_dcmtk_stores_byte_for_byte_with_certificates_on_both_sides(
    shared: Receiver, hospital: Hospital, tmp_path: Path
) -> None:
    files = [*make_objects(tmp_path, 3, size=300_001), *make_objects(tmp_path, 1, size=100_000_000, name="large")]
    target = ["-aet", "CT1", "-aec", "CLARA", LOOPBACK, str(shared.service.tls_port)]
    done = run(tool("storescu"), *hospital.of_dcmtk(hospital.modality), *target, *files)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(dataset(one.path) for one in newest(shared).stored()) == sorted(map(dataset, files))


def test_dcmtk_verifies_over_tls(shared: Receiver, hospital: Hospital, logged: Logged) -> None:
    secure = hospital.of_dcmtk(hospital.modality)
    done = run(tool("echoscu"), *secure, "-aet", "CT1", "-aec", "CLARA", LOOPBACK, str(shared.service.tls_port))
    assert done.returncode == 0, done.stdout + done.stderr
    line = said(logged, "tls_established")
    assert "'name': 'modality'" in line
    assert "'version': 'TLSv1." in line


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_versions_of_tls_are_spoken(shared: Receiver, hospital: Hospital, version: ssl.TLSVersion) -> None:
    context = hospital.client(hospital.modality)
    context.minimum_version = context.maximum_version = version
    assoc = associate_securely(shared.service.tls_port, context)
    sent = instance(70_000)
    assert assoc.send_c_store(sent).Status == 0
    assert assoc.send_c_echo().Status == 0
    assoc.release()
    folder = newest(shared)
    assert stored(folder) == [sent.SOPInstanceUID]
    assert folder.outcome is not None
    assert folder.outcome.outcome is AssociationOutcome.RELEASED


def test_several_associations_go_on_at_once_also_without_tls(shared: Receiver, hospital: Hospital) -> None:
    answers: list[int] = []

    def send(*, securely: bool) -> None:
        if securely:
            assoc = associate_securely(shared.service.tls_port, hospital.client(hospital.modality))
        else:
            assoc = associate(shared.port)
        answers.extend(assoc.send_c_store(instance(200_000)).Status for _ in range(5))
        assoc.release()

    threads = [threading.Thread(target=send, kwargs={"securely": number % 3 > 0}) for number in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [0] * 45


@pytest.mark.parametrize("asked", ["optional", "none"])
def test_a_certificate_may_be_left_to_the_sender(tmp_path: Path, hospital: Hospital, asked: str) -> None:
    with receiving(tmp_path, tls=hospital.settings(clientCertificates=asked)) as receiver:
        for shown in (None, hospital.modality):
            assoc = associate_securely(receiver.service.tls_port, hospital.client(shown))
            assert assoc.is_established
            assoc.release()
        stranger = associate_securely(receiver.service.tls_port, hospital.client(hospital.stranger.issue("other")))
        assert stranger.is_established is (asked == "none")
        stranger.abort()


def test_the_plain_port_may_be_closed(tmp_path: Path, hospital: Hospital) -> None:
    with receiving(tmp_path, tls=hospital.settings(only=True)) as receiver:
        assert len(receiver.listener.scp._servers) == 1
        assoc = associate_securely(receiver.service.tls_port, hospital.client(hospital.modality))
        assert assoc.is_established
        assoc.release()


def test_ipv4_peers_of_an_ipv6_address_are_known_by_their_ipv4_address(tmp_path: Path, hospital: Hospital) -> None:
    with receiving(tmp_path, host="::", tls=hospital.settings()) as receiver:
        assoc = associate_securely(receiver.service.tls_port, hospital.client(hospital.modality))
        assert assoc.is_established
        assoc.release()


# ---- those who may not ----


@pytest.mark.parametrize(
    ("shown", "reason", "in_words"),
    [
        ("nothing", "no-certificate", "peer did not return a certificate"),
        ("a stranger's", "certificate-refused", "unable to get local issuer certificate"),
        ("an expired one", "certificate-refused", "certificate has expired"),
    ],
)
def test_who_shows_no_certificate_of_the_authority_gets_no_association(
    shared: Receiver, hospital: Hospital, logged: Logged, shown: str, reason: str, in_words: str
) -> None:
    issued = {
        "nothing": None,
        "a stranger's": hospital.stranger.issue("alien", key=3),
        "an expired one": hospital.authority.issue("old", days=-1, key=3),
    }[shown]
    before = failures(shared, reason)
    with (
        pytest.raises(ssl.SSLError, match=r"CERTIFICATE|UNKNOWN_CA"),
        secured(shared.service.tls_port, hospital.client(issued)) as peer,
    ):
        peer.recv(1)  # with TLS 1.3 a client hears of it only now
    assert in_words in said(logged, "tls_failed")
    wait_until("it is counted", lambda: failures(shared, reason) == before + 1, 10)


def test_a_sender_that_does_not_accept_our_certificate_is_logged(
    shared: Receiver, hospital: Hospital, logged: Logged
) -> None:
    context = hospital.client(hospital.modality, trusted=hospital.stranger)
    with pytest.raises(ssl.SSLCertVerificationError), secured(shared.service.tls_port, context):
        pass
    assert "it did not accept our certificate" in said(logged, "tls_failed")
    wait_until("it is counted", lambda: failures(shared, "ours-refused") == 1, 10)


def test_old_versions_of_tls_are_not_spoken(tmp_path: Path, hospital: Hospital, logged: Logged) -> None:
    context = hospital.client(hospital.modality)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with receiving(tmp_path, tls=hospital.settings(minimumVersion="1.3")) as receiver:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"), secured(receiver.service.tls_port, context):
            pass
        wait_until("it has been counted", lambda: failures(receiver, "nothing-in-common") == 1)
    assert "unsupported protocol" in said(logged, "tls_failed")


def test_ciphers_beyond_bcp_195_are_not_spoken(shared: Receiver, hospital: Hospital, logged: Logged) -> None:
    context = hospital.client(hospital.modality)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES256-SHA")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"), secured(shared.service.tls_port, context):
        pass
    assert "no shared cipher" in said(logged, "tls_failed")


def test_plain_dicom_on_the_port_of_tls_costs_one_connection(shared: Receiver, logged: Logged) -> None:
    assert not associate(shared.service.tls_port).is_established
    line = said(logged, "tls_failed")
    assert "warning" in line
    assert "it speaks DICOM without TLS" in line
    assert "dicom>scp>port" in line


def test_tls_on_the_plain_port_costs_one_connection(shared: Receiver, hospital: Hospital, logged: Logged) -> None:
    with pytest.raises(ssl.SSLError), secured(shared.port, hospital.client(hospital.modality)):
        pass
    assert "TLS on the port without it" in said(logged, "protocol_broken")
    assoc = associate(shared.port)
    assert assoc.is_established
    assoc.release()


def test_who_only_looks_whether_somebody_listens_is_no_failure(
    shared: Receiver, hospital: Hospital, logged: Logged
) -> None:
    socket.create_connection((LOOPBACK, shared.service.tls_port), 10).close()
    with Piecemeal(shared.service.tls_port, hospital.client(hospital.modality)) as peer:
        peer.wire.sendall(peer.hello()[:100])
    wait_until("the second has been noticed", lambda: any(line["event"] == "tls_failed" for line in logged))
    wait_until("both are gone", lambda: not any(server.serving.connections for server in shared.listener.scp._servers))
    assert "it closed the connection during the handshake" in said(logged, "tls_failed")


@pytest.mark.parametrize("said_so_far", [0, 100])
def test_a_handshake_that_does_not_end_is_ended(
    tmp_path: Path, hospital: Hospital, logged: Logged, said_so_far: int
) -> None:
    with (
        receiving(tmp_path, association_request_timeout_seconds=0.3, tls=hospital.settings()) as receiver,
        Piecemeal(receiver.service.tls_port, hospital.client(hospital.modality)) as peer,
    ):
        peer.wire.sendall(peer.hello()[:said_so_far])
        assert peer.wire.recv(1) == b""
        assert failures(receiver, "slow") == 1
    assert "the handshake was not complete" in said(logged, "tls_failed")


@pytest.mark.parametrize("said_so_far", [0, 100])
def test_who_has_said_nothing_when_the_receiver_stops_is_no_failure(
    tmp_path: Path, hospital: Hospital, logged: Logged, said_so_far: int
) -> None:
    with receiving(tmp_path, tls=hospital.settings()) as receiver:
        with Piecemeal(receiver.service.tls_port, hospital.client(hospital.modality)) as peer:
            peer.wire.sendall(peer.hello()[:said_so_far])
            server: ReceiverServer = receiver.listener.scp._servers[-1]

            def has_been_read() -> bool:
                connections: list[Any] = [each.connection for each in list(server.serving.connections)]
                return any(bool(each._first) is bool(said_so_far) for each in connections)

            wait_until("what it says has been read", has_been_read)
            receiver.service.stop(0)
            assert peer.wire.recv(1) == b""
        assert failures(receiver, "slow") == bool(said_so_far)
    assert [line["event"] for line in logged].count("tls_failed") == bool(said_so_far)


def test_a_handshake_that_trickles_in_does_not_win_time(tmp_path: Path, hospital: Hospital) -> None:
    with (
        receiving(tmp_path, association_request_timeout_seconds=0.5, tls=hospital.settings()) as receiver,
        Piecemeal(receiver.service.tls_port, hospital.client(hospital.modality)) as peer,
    ):
        peer.wire.settimeout(0.02)
        for byte in peer.hello():
            peer.wire.sendall(bytes([byte]))
            try:
                assert peer.wire.recv(1) == b""
                break
            except TimeoutError:
                continue
        else:
            pytest.fail("the whole handshake was waited for")
        assert failures(receiver, "slow") == 1


def test_connections_that_shake_hands_count_against_the_limit(
    tmp_path: Path, hospital: Hospital, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara_dicom_adapter.receiver.scp._CONNECTIONS_BEYOND", 2)
    with receiving(tmp_path, maximum_number_of_associations=1, tls=hospital.settings()) as receiver:
        waiting = [socket.create_connection((LOOPBACK, receiver.service.tls_port), 10) for _ in range(3)]
        server: ReceiverServer = receiver.listener.scp._servers[-1]
        wait_until("they are counted", lambda: len(server.serving.connections) == 3)
        for port in (receiver.service.tls_port, receiver.port):
            with socket.create_connection((LOOPBACK, port), 10) as beyond:
                assert beyond.recv(1) == b""
        for each in waiting:
            each.close()
        wait_until("they are gone", lambda: not server.serving.connections)
        assoc = associate_securely(receiver.service.tls_port, hospital.client(hospital.modality))
        assert assoc.is_established
        assoc.release()
    assert [line["count"] for line in logged if line["event"] == "connection_refused"] == [3, 3]


# ---- the bytes ----


def test_everything_may_come_byte_by_byte(shared: Receiver, hospital: Hospital) -> None:
    with Piecemeal(shared.service.tls_port, hospital.client(hospital.modality)) as peer:
        peer.associate(piece=1)
        peer.send(peer.encrypted(store_message("1.2.9", 50), record=1), piece=1)
        assert peer.read(1) == b"\4"
        peer.send(peer.encrypted(RELEASE, record=3), piece=1)
    assert stored(newest(shared)) == ["1.2.9"]


def test_what_comes_in_one_record_with_the_association_request_is_seen(
    shared: Receiver, hospital: Hospital, logged: Logged
) -> None:
    """Nothing is left in the socket to wake anybody."""
    with Piecemeal(shared.service.tls_port, hospital.client(hospital.modality)) as peer:
        peer.shake_hands(1 << 20)
        peer.wire.sendall(peer.encrypted(association_request(b"CT1") + ABORT))
        wait_until("it is over", lambda: any(line["event"] == "association_ended" for line in logged), 20)
    assert "'outcome': 'aborted'" in said(logged, "association_ended")


def test_much_may_come_in_one_piece(shared: Receiver, hospital: Hospital) -> None:
    messages = b"".join(store_message(f"1.2.{number}", 30_000) for number in range(20))
    with Piecemeal(shared.service.tls_port, hospital.client(hospital.modality)) as peer:
        peer.associate()
        peer.wire.sendall(peer.encrypted(messages + RELEASE))
        assert peer.read(1) == b"\4"
        folder = newest(shared)
    assert len(stored(folder)) == 20
    assert folder.outcome is not None
    assert folder.outcome.outcome is AssociationOutcome.RELEASED


@pytest.mark.parametrize("record", [1, 5, 6, 11, 12, 100, 4096, 4097, 16384])
def test_records_and_pdus_need_not_begin_together(shared: Receiver, hospital: Hospital, record: int) -> None:
    size = 20_000 if record > 20 else 2_000
    messages = b"".join(store_message(f"1.2.{number}", size) for number in range(3))
    with Piecemeal(shared.service.tls_port, hospital.client(hospital.modality)) as peer:
        peer.associate()
        peer.wire.sendall(peer.encrypted(messages, record))
        for number in range(3):
            header = peer.read(6)
            assert header[0] == 4
            assert f"1.2.{number}".encode() in peer.read(struct.unpack(">I", header[2:])[0])
        peer.wire.sendall(peer.encrypted(RELEASE))
        assert peer.read(6)[0] == 6
    assert stored(newest(shared)) == ["1.2.0", "1.2.1", "1.2.2"]


@pytest.mark.parametrize("how", ["with a good-bye", "without", "in the middle of a record"])
def test_a_sender_that_leaves_in_the_middle_of_an_instance_leaves_nothing(
    shared: Receiver, hospital: Hospital, how: str
) -> None:
    with Piecemeal(shared.service.tls_port, hospital.client(hospital.modality)) as peer:
        peer.associate()
        peer.wire.sendall(peer.encrypted(store_message("1.2.3")))
        assert peer.read(6)[0] == 4
        begun = peer.encrypted(p_data(pdv(1, 3, store_command("1.2.4")), pdv(1, 0, bytes(10_000))))
        if how == "with a good-bye":
            with suppress(ssl.SSLError):  # it is not waited for the peer's
                peer.tls.unwrap()
            begun += peer.encrypted(b"")
        peer.wire.sendall(begun[:-20] if "record" in how else begun)
        if how == "with a good-bye":
            shared.wait_until_closed()
    folder = newest(shared)
    assert stored(folder) == ["1.2.3"]
    assert folder.outcome is not None
    assert folder.outcome.outcome is AssociationOutcome.CONNECTION_LOST


def test_a_reply_that_cannot_be_sent_ends_the_association_as_lost(
    shared: Receiver, hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    sendall = SecureConnection.sendall

    def all_but_replies(connection: SecureConnection, data: bytes) -> None:
        if data[0] == REPLY:
            raise ssl.SSLWantReadError
        sendall(connection, data)

    monkeypatch.setattr(SecureConnection, "sendall", all_but_replies)
    with Piecemeal(shared.service.tls_port, hospital.client(hospital.modality)) as peer:
        peer.associate()
        peer.wire.sendall(peer.encrypted(store_message("1.2.3")))
        folder = newest(shared)
    assert stored(folder) == ["1.2.3"]
    assert folder.outcome is not None
    assert folder.outcome.outcome is AssociationOutcome.CONNECTION_LOST


def test_a_forged_record_ends_the_association(shared: Receiver, hospital: Hospital, logged: Logged) -> None:
    before = len(list(shared.spool.associations()))
    with Piecemeal(shared.service.tls_port, hospital.client(hospital.modality)) as peer:
        peer.associate()
        record = bytearray(peer.encrypted(store_message("1.2.3")))
        record[-1] ^= 1
        peer.wire.sendall(record)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            peer.read(1)
    shared.wait_until_closed()
    assert len(list(shared.spool.associations())) == before, "it has stored nothing"
    assert "decryption failed or bad record mac" in said(logged, "tls_failed")


def test_a_record_that_trickles_in_without_end_is_ended(tmp_path: Path, hospital: Hospital, logged: Logged) -> None:
    with (
        receiving(tmp_path, association_idle_timeout_seconds=0.5, tls=hospital.settings()) as receiver,
        Piecemeal(receiver.service.tls_port, hospital.client(hospital.modality)) as peer,
    ):
        peer.associate()
        record = peer.encrypted(store_message("1.2.3", 3000))
        peer.wire.settimeout(0.05)
        for byte in record:
            peer.wire.sendall(bytes([byte]))
            try:
                if not peer.wire.recv(1000):
                    break
            except TimeoutError:
                continue
        else:
            pytest.fail("the whole record was waited for")
    assert "a TLS record that does not end" in said(logged, "tls_failed")


def test_a_sender_may_change_its_key_and_ask_for_ours(shared: Receiver, hospital: Hospital) -> None:
    """Neither is a word of DICOM (RFC 8446 section 4.6.3); openssl does it when it is told K."""
    shown: list[str | Path] = [
        "-cert",
        hospital.modality.certificate,
        "-key",
        hospital.modality.key,
        "-CAfile",
        hospital.authority.ca,
    ]
    target = ["-tls1_3", "-connect", f"{LOOPBACK}:{shared.service.tls_port}"]
    command: list[str | Path] = [tool("openssl", "openssl"), "s_client", "-quiet", "-no_ign_eof", *target, *shown]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        stdin, stdout, stderr = client.stdin, client.stdout, client.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None

        def says(data: bytes) -> bytes:
            """Have a PDU sent, and return the type of the answer."""
            stdin.write(data)
            stdin.flush()
            kind, length = PDU_HEADER.unpack(stdout.read(PDU_HEADER.size))
            stdout.read(length)
            return bytes([kind])

        assert says(association_request(b"CT1")) == b"\2"
        for uid in ("1.2.3", "1.2.4"):
            assert says(store_message(uid)) == b"\4"
            stdin.write(b"K\n")
            stdin.flush()
            assert b"KEYUPDATE\n" in stderr
        assert says(store_message("1.2.5")) == b"\4"
        assert says(RELEASE) == b"\6"
    assert stored(newest(shared)) == ["1.2.3", "1.2.4", "1.2.5"]


def test_the_end_is_told_to_the_peer(shared: Receiver, hospital: Hospital) -> None:
    with secured(shared.service.tls_port, hospital.client(hospital.modality)) as peer:
        peer.sendall(ABORT)
        assert peer.recv(1) == b"", "close_notify, and no bare end"


# ---- renewal ----


def test_a_renewed_certificate_is_for_associations_to_come(tmp_path: Path, hospital: Hospital) -> None:
    ours = [tmp_path / "ours.pem", tmp_path / "ours.key"]
    shutil.copy(hospital.ours.certificate, ours[0])
    shutil.copy(hospital.ours.key, ours[1])
    settings = hospital.settings(certificateFile=ours[0], keyFile=ours[1])
    context = hospital.client(hospital.modality)
    renewed = hospital.authority.issue("renewed", key=3)

    def shown(port: int) -> str:
        with secured(port, context) as peer:
            return common_name(peer)

    with receiving(tmp_path / "spool", tls=settings) as receiver:
        port = receiver.service.tls_port
        open_already = associate_securely(port, context)
        assert shown(port) == "ours"

        shutil.copy(renewed.certificate, ours[0])
        receiver.service.look_at_certificates()
        assert shown(port) == "ours", "its key is not there yet"
        (wrong, *_) = receiver.service.health().warnings
        assert str(ours[1]) in wrong
        assert "the key is not that of the certificate" in wrong

        shutil.copy(renewed.key, ours[1])
        wait_until("it is noticed", lambda: shown(port) == "renewed", 10)
        assert open_already.send_c_store(instance()).Status == 0
        open_already.release()
        assert not any("key" in warning for warning in receiver.service.health().warnings)

        ours[0].unlink()
        receiver.service.look_at_certificates()
        assert shown(port) == "renewed"
        assert any(f"{ours[0]} cannot be read" in warning for warning in receiver.service.health().warnings)
        assert receiver.service.health().ready


def test_without_a_usable_certificate_the_plain_port_works_and_tls_as_soon_as_there_is_one(
    tmp_path: Path, hospital: Hospital, logged: Logged
) -> None:
    key = tmp_path / "late.key"
    with receiving(tmp_path / "spool", tls=hospital.settings(keyFile=key)) as receiver:
        plain = associate(receiver.port)
        assert plain.is_established
        plain.release()
        with socket.create_connection((LOOPBACK, receiver.service.tls_port), 10) as peer:
            assert peer.recv(1) == b""
        assert failures(receiver, "unusable") == 1
        assert "clara dicom doctor" in said(logged, "tls_failed")
        (warning,) = receiver.service.health().warnings
        assert warning.startswith(f"no sender is served over TLS: dicom>scp>tls>keyFile: {key} cannot be read")
        assert receiver.service.health().ready
        shutil.copy(hospital.ours.key, key)
        receiver.service.look_at_certificates()
        assoc = associate_securely(receiver.service.tls_port, hospital.client(hospital.modality))
        assert assoc.is_established
        assoc.release()


def test_one_that_has_expired_is_shown_while_there_is_no_other_but_not_taken_instead_of_another(
    tmp_path: Path, hospital: Hospital
) -> None:
    ours = tmp_path / "ours.pem"
    shutil.copy(hospital.authority.issue("old", days=-1).certificate, ours)
    context = hospital.client(hospital.modality)

    def warned() -> bool:
        return any("expired on" in warning for warning in receiver.service.health().warnings)

    with receiving(tmp_path / "spool", tls=hospital.settings(certificateFile=ours)) as receiver:
        port = receiver.service.tls_port
        with pytest.raises(ssl.SSLCertVerificationError, match="expired"), secured(port, context):
            pass
        assert warned()
        for source, wrong in ((hospital.ours, False), (hospital.authority.issue("old", days=-1), True)):
            shutil.copy(source.certificate, ours)
            receiver.service.look_at_certificates()
            with secured(port, context) as peer:
                assert common_name(peer) == "ours"
            assert warned() is wrong
