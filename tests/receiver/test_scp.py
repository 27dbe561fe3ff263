"""The Storage SCP on loopback: a real spool, real associations, dcmtk as a peer; Temporal is not there."""

import socket
import threading
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from support.dicom_peers import tool
from support.receiver_wire import established, store_message
from support.receiving import (
    CT_IMAGE,
    LOOPBACK,
    MR_IMAGE,
    VERIFICATION,
    Configured,
    associate,
    instance,
    receiving,
    run,
)

from clara_dicom_adapter.configuration.settings import VerificationSettings
from clara_dicom_adapter.dicom import part10, uids
from clara_dicom_adapter.spool import AssociationFolder
from clara_dicom_adapter.workflows.models import AssociationOutcome


def stored_files(folder: AssociationFolder) -> list[Path]:
    return [folder.path / name for _, name in folder.files().values()]


def test_an_instance_is_stored_as_it_came_with_our_header(tmp_path: Path) -> None:
    sent = instance(5000)
    with receiving(tmp_path) as receiver:
        assoc = associate(receiver.port)
        assert assoc.send_c_store(sent).Status == 0
        assoc.release()
        folder = receiver.folder()
        (path,) = stored_files(folder)
        meta = part10.read_meta(path)
        assert meta.implementation_class_uid == uids.IMPLEMENTATION_CLASS_UID
        assert meta.source_ae_title == "CT1"
        assert meta.transfer_syntax_uid == ExplicitVRLittleEndian
        stored = dcmread(path)
        assert stored == sent
        assert folder.facts.calling_ae_title == "CT1"
        assert folder.outcome is not None
        assert (folder.outcome.outcome, folder.outcome.instances) == (AssociationOutcome.RELEASED, 1)
        assert receiver.recorded_lines() == ["accepted CT1", "ended released 1"]


def test_dcmtk_stores_and_echoes(tmp_path: Path) -> None:
    files = [str(get_testdata_file(name)) for name in ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm")]
    with receiving(tmp_path) as receiver:
        target = ["-aec", "CLARA", LOOPBACK, str(receiver.port)]
        echoed = run(tool("echoscu"), *target)
        assert echoed.returncode == 0, echoed.stderr
        receiver.wait_until_closed()
        assert list(receiver.spool.associations()) == []  # nothing to keep of an association that only verified
        stored = run(tool("storescu"), "-v", "-xs", *target, *files[:2])
        assert stored.returncode == 0, stored.stderr
        folder = receiver.folder()
        assert len(stored_files(folder)) == 2
        assert folder.outcome is not None
        assert folder.outcome.outcome is AssociationOutcome.RELEASED


def test_private_and_unknown_sop_classes_and_syntaxes_are_taken_and_other_services_refused(tmp_path: Path) -> None:
    private, find = "1.3.46.670589.11.0.0.12.1", "1.2.840.10008.5.1.4.31"
    ae = AE(ae_title="CT1")
    ae.add_requested_context(private, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.9999", ["1.3.6.1.4.1.9999.7"])
    ae.add_requested_context(find)
    ae.add_requested_context(VERIFICATION)
    with receiving(tmp_path) as receiver:
        assoc = ae.associate(LOOPBACK, receiver.port, ae_title="CLARA")
        accepted = {str(cx.abstract_syntax): str(cx.transfer_syntax[0]) for cx in assoc.accepted_contexts}
        assoc.release()
        assert accepted == {
            private: ImplicitVRLittleEndian,
            "1.2.840.10008.5.1.4.1.1.9999": "1.3.6.1.4.1.9999.7",
            VERIFICATION: accepted[VERIFICATION],
        }
        assert [(str(cx.abstract_syntax), cx.result) for cx in assoc.rejected_contexts] == [(find, 3)]


def test_with_verification_disabled_only_a_lone_echo_is_rejected(tmp_path: Path) -> None:
    with receiving(tmp_path, verification=VerificationSettings(enabled=False)) as receiver:
        echo = run(tool("echoscu"), "-v", "-aec", "CLARA", LOOPBACK, str(receiver.port))
        assert echo.returncode != 0
        assert "App Context Name Not Supported" in echo.stderr
        assoc = associate(receiver.port)
        assert {cx.abstract_syntax for cx in assoc.accepted_contexts} == {CT_IMAGE, MR_IMAGE}
        assoc.release()


def test_strangers_and_unknown_titles_are_rejected_and_recorded(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        assert associate(receiver.port, calling="STRANGER").is_rejected
        assert associate(receiver.port, called="NOBODY").is_rejected
        assert receiver.recorded_lines() == [
            "rejected calling-ae-title-unknown",
            "rejected called-ae-title-unknown",
        ]
        rejected = receiver.service.metrics.rejected
        assert rejected.labels("calling-ae-title-unknown")._value.get() == 1


def test_the_association_limit_is_transient_and_a_place_becomes_free(tmp_path: Path) -> None:
    with receiving(tmp_path, maximum_number_of_associations=2) as receiver:
        first, second = associate(receiver.port), associate(receiver.port)
        assert associate(receiver.port).is_rejected
        first.release()
        while len(receiver.service.associations()) == 2:
            pass
        third = associate(receiver.port)
        assert third.is_established
        for assoc in (second, third):
            assoc.release()
        assert "rejected too-many-associations" in receiver.recorded_lines()


def test_without_space_associations_are_rejected_and_instances_answered_a700(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        receiver.can_store._fresh_seconds = receiver.service._can_store._fresh_seconds = 0
        assoc = associate(receiver.port)
        assert assoc.send_c_store(instance()).Status == 0
        receiver.full.set()
        assert not receiver.service.health().ready
        assert assoc.send_c_store(instance()).Status == 0xA700
        assert associate(receiver.port).is_rejected
        receiver.full.clear()
        assert assoc.send_c_store(instance()).Status == 0
        assert receiver.service.health().ready
        assoc.release()
        outcome = receiver.folder().outcome
        assert outcome is not None
        assert (outcome.instances, outcome.failed_instances) == (2, 1)


def test_ignored_sop_classes_are_answered_and_not_stored(tmp_path: Path) -> None:
    with receiving(tmp_path, Configured(ignored=[MR_IMAGE])) as receiver:
        assoc = associate(receiver.port)
        assert assoc.send_c_store(instance(sop_class=MR_IMAGE)).Status == 0
        assert list(receiver.spool.associations()) == []
        assert assoc.send_c_store(instance()).Status == 0
        while receiver.service.associations()[0].ignored != 1:
            pass
        assoc.release()
        assert len(stored_files(receiver.folder())) == 1


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"SOPInstanceUID": "1.2.3/../../x"}, 0xC000),
        ({"SOPInstanceUID": ".."}, 0xC000),
        ({"SOPInstanceUID": "01.002.3."}, 0x0000),  # odd, but usable
    ],
)
def test_uids_that_cannot_be_used_are_refused(tmp_path: Path, change: dict[str, str], status: int) -> None:
    sent = instance()
    for keyword, value in change.items():
        setattr(sent, keyword, value)
    with receiving(tmp_path) as receiver:
        assoc = associate(receiver.port)
        assert raw_store(assoc, sent.SOPClassUID, sent.SOPInstanceUID) == status
        assert assoc.send_c_echo().Status == 0
        assoc.release()
        receiver.wait_until_closed()
        assert sum(len(folder.files()) for folder in receiver.spool.associations()) == (status == 0)


@pytest.mark.parametrize(
    ("sop_class", "sop_instance", "status"),
    [("", "1.2.3", 0xC000), (CT_IMAGE, "", 0xC000), (MR_IMAGE, "1.2.3", 0xA900), ("1.2.x", "1.2", 0xC000)],
)
def test_what_does_not_identify_itself_is_refused(
    tmp_path: Path, sop_class: str, sop_instance: str, status: int
) -> None:
    with receiving(tmp_path) as receiver:
        assoc = associate(receiver.port)
        assert raw_store(assoc, sop_class, sop_instance) == status
        assoc.release()
        receiver.wait_until_closed()
        assert list(receiver.spool.associations()) == []


def raw_store(assoc: object, sop_class: str, sop_instance: str) -> int:
    """A C-STORE-RQ with any UIDs on the CT context, past pynetdicom's own checks; returns the status."""
    import struct

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHI", 0, number, len(value)) + value

    context = next(cx for cx in assoc.accepted_contexts if cx.abstract_syntax == CT_IMAGE)  # type: ignore[attr-defined]
    command = element(0x0002, sop_class.encode()) if sop_class else b""
    command += element(0x0100, b"\1\0") + element(0x0110, b"\7\0") + element(0x0800, b"\0\0")
    command += element(0x1000, sop_instance.encode()) if sop_instance else b""
    assoc._reactor_checkpoint.clear()  # type: ignore[attr-defined]
    while not assoc._is_paused:  # type: ignore[attr-defined]
        pass
    connection = assoc.dul.socket.socket  # type: ignore[attr-defined]
    for control, value in ((3, command), (2, element(0x0010, b"x"))):
        connection.sendall(
            struct.pack(">BxIIBB", 4, len(value) + 6, len(value) + 2, context.context_id, control) + value
        )
    _, answer = assoc.dimse.get_msg(block=True)  # type: ignore[attr-defined]
    assoc._reactor_checkpoint.set()  # type: ignore[attr-defined]
    return int(answer.Status)


@pytest.mark.parametrize("sent", [0, 1, 7, 40, 5000])
def test_a_connection_that_breaks_anywhere_leaves_nothing_incomplete(tmp_path: Path, sent: int) -> None:
    """Cut within the command, between command and data set, and within the data set."""
    with receiving(tmp_path) as receiver:
        with established(receiver.port, b"CT1") as peer:
            peer.sendall(store_message("1.2.3", 200))
            assert peer.recv(6, socket.MSG_WAITALL)[0] == 4
            message = store_message("1.2.4", 10_000)
            peer.sendall(message[: sent + (0 if sent < 100 else 100)])
        folder = receiver.folder()
        assert folder.outcome is not None
        assert folder.outcome.outcome is AssociationOutcome.CONNECTION_LOST
        assert len(folder.files()) == 1
        assert list(folder.path.glob("*.part")) == []


def test_stopping_lets_associations_finish_and_aborts_the_rest_as_our_fault(tmp_path: Path) -> None:
    with receiving(tmp_path) as receiver:
        finishing, lingering = associate(receiver.port), associate(receiver.port)
        for assoc in (finishing, lingering):
            assert assoc.send_c_store(instance()).Status == 0
        stopping = threading.Thread(target=receiver.service.stop, args=(1.0,))
        stopping.start()
        while receiver.service.health().listening:
            pass
        assert finishing.send_c_store(instance()).Status == 0
        finishing.release()
        stopping.join(15)
        assert not stopping.is_alive()
        outcomes = {f.outcome.outcome for f in receiver.spool.associations() if f.outcome}
        assert outcomes == {AssociationOutcome.RELEASED, AssociationOutcome.ADAPTER_STOPPED}
        lingering.join(5)
