"""User information that a peer sends along with its association request (PS3.7 annex D.3.3)."""

from pathlib import Path

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
from support.receiving import CT_IMAGE, LOOPBACK, instance, receiving


def test_windows_roles_extensions_and_identities_are_accepted_and_not_answered(tmp_path: Path) -> None:
    """A window that is not answered is 1/1, a role that is not answered is the default one."""
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
