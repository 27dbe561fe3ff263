"""What a peer's association request says besides who it is and what it wants: its version, its user information."""

import socket
from pathlib import Path

import pytest
from pynetdicom import AE
from pynetdicom.pdu_primitives import (
    AsynchronousOperationsWindowNegotiation,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
    SCP_SCU_RoleSelectionNegotiation,
    SOPClassExtendedNegotiation,
    UserIdentityNegotiation,
)
from structlog.testing import capture_logs
from support.receiver_wire import association_request, read_pdu, store_message, store_response
from support.receiving import CT_IMAGE, LOOPBACK, instance, receiving


def test_windows_roles_extensions_and_identities_are_accepted_and_not_answered(tmp_path: Path) -> None:
    """PS3.7 annex D.3.3: a window that is not answered is 1/1, a role that is not answered is the default one."""
    window = AsynchronousOperationsWindowNegotiation()
    window.maximum_number_operations_invoked = window.maximum_number_operations_performed = 5
    role = SCP_SCU_RoleSelectionNegotiation()
    role.sop_class_uid, role.scu_role, role.scp_role = CT_IMAGE, True, True
    extension = SOPClassExtendedNegotiation()
    extension.sop_class_uid, extension.service_class_application_information = CT_IMAGE, b"\x02"
    identity = UserIdentityNegotiation()
    identity.user_identity_type, identity.primary_field = 1, b"someone"
    identity.positive_response_requested = True

    with receiving(tmp_path) as receiver:
        ae = AE("CT1")
        ae.add_requested_context(CT_IMAGE)
        assoc = ae.associate(LOOPBACK, receiver.port, ae_title="CLARA", ext_neg=[window, role, extension, identity])
        assert assoc.is_established
        answer = assoc.acceptor.primitive
        assert answer is not None
        assert {type(item) for item in answer.user_information} == {
            MaximumLengthNotification,
            ImplementationClassUIDNotification,
            ImplementationVersionNameNotification,
        }
        (context,) = assoc.accepted_contexts
        assert (context.as_scu, context.as_scp) == (True, False)
        assert assoc.send_c_store(instance(100)).Status == 0
        assoc.release()


def request_of(version: int) -> bytes:
    request = bytearray(association_request(b"CT1"))
    request[6:8] = version.to_bytes(2, "big")
    return bytes(request)


@pytest.mark.parametrize("version", [0x0001, 0x0003, 0x8001, 0xFFFF])
def test_who_speaks_later_versions_as_well_is_served_in_the_first(tmp_path: Path, version: int) -> None:
    """PS3.8 table 9-11: bit 0 is version 1, and nothing but that bit is tested."""
    with receiving(tmp_path) as receiver, socket.create_connection((LOOPBACK, receiver.port), 10) as peer:
        peer.sendall(request_of(version))
        kind, body = read_pdu(peer)
        assert (kind, body[:2]) == (2, b"\0\1")
        peer.sendall(store_message("1.2.3"))
        assert store_response(peer) == ("1.2.3", 0)


@pytest.mark.parametrize("version", [0x0000, 0x0002, 0xFFFE])
def test_who_does_not_speak_the_first_version_is_rejected(tmp_path: Path, version: int) -> None:
    """PS3.8 table 9-21: permanent, by the service provider of the ACSE, protocol version not supported."""
    with capture_logs() as lines, receiving(tmp_path) as receiver:
        with socket.create_connection((LOOPBACK, receiver.port), 10) as peer:
            peer.sendall(request_of(version))
            kind, body = read_pdu(peer)
            assert (kind, body) == (3, b"\0\1\2\2")
        assert receiver.recorded_lines() == []
    assert [line["event"] for line in lines].count("protocol_broken") == 1
