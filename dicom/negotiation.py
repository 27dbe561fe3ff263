"""What is proposed to a Storage SCP, and how its answers are read: PS3.8 section 9.3, with pynetdicom's PDU classes."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pynetdicom.pdu import A_ABORT_RQ, A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    ImplementationVersionNameNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

from clara_dicom_adapter.dicom import uids
from clara_dicom_adapter.errors import AssociationFailed

MAXIMUM_CONTEXTS: Final = 128  # PS3.8 section 9.3.2.2: odd ids from 1 to 255
_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"  # PS3.7 annex A.2.1
_OWN_PDU_LENGTH: Final = 16384  # we receive responses only


@dataclass(frozen=True, slots=True)
class Context:
    """What one presentation context is proposed for: a SOP class in the one transfer syntax that is on disk."""

    sop_class_uid: str
    transfer_syntax_uid: str


class AssociationRejected(AssociationFailed):
    """The peer answered A-ASSOCIATE-RJ.

    Attributes:
        permanent: Whether the peer says that asking again is useless (PS3.8 table 9-21, result 1).
    """

    def __init__(self, called_ae_title: str, reason: str, *, permanent: bool) -> None:
        super().__init__(called_ae_title, reason)
        self.permanent = permanent


def associate_request(calling_ae_title: str, called_ae_title: str, contexts: Mapping[int, Context]) -> bytes:
    """An A-ASSOCIATE-RQ for contexts by their ids."""
    request = A_ASSOCIATE()
    request.application_context_name = _APPLICATION_CONTEXT
    request.calling_ae_title = calling_ae_title
    request.called_ae_title = called_ae_title
    proposals = []
    for context_id, context in contexts.items():
        proposal = build_context(context.sop_class_uid, context.transfer_syntax_uid)
        proposal.context_id = context_id
        proposals.append(proposal)
    request.presentation_context_definition_list = proposals
    length = MaximumLengthNotification()
    length.maximum_length_received = _OWN_PDU_LENGTH
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = uids.IMPLEMENTATION_CLASS_UID
    version = ImplementationVersionNameNotification()
    version.implementation_version_name = uids.IMPLEMENTATION_VERSION_NAME
    request.user_information = [length, implementation, version]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(request)
    return pdu.encode()


def read_accept(pdu: bytes, proposed: dict[int, Context]) -> tuple[dict[Context, int], int]:
    """What an A-ASSOCIATE-AC accepts, each with the id of its context, and the longest PDU the peer takes; 0: any.

    Raises whatever pynetdicom stumbles over.
    """
    answer = A_ASSOCIATE_AC()
    answer.decode(pdu)
    accepted = {
        proposed[item.context_id]: item.context_id
        for item in answer.presentation_context
        if item.context_id in proposed
        and item.result == 0
        and item.transfer_syntax == proposed[item.context_id].transfer_syntax_uid
    }
    return accepted, (answer.user_information.maximum_length or 0) if answer.user_information else 0


def read_reject(pdu: bytes) -> tuple[str, bool]:
    """Why an A-ASSOCIATE-RJ refuses, and whether for good. Raises whatever pynetdicom stumbles over."""
    answer = A_ASSOCIATE_RJ()
    answer.decode(pdu)
    return f"{answer.result_str}, {answer.source_str}, {answer.reason_str}", answer.result == 1


def abort_words(pdu: bytes) -> str:
    """Who aborted and why, as an A-ABORT says."""
    abort = A_ABORT_RQ()
    with suppress(Exception):  # the words are a courtesy; that it is an abort is known
        abort.decode(pdu)
        return f"aborted by the peer ({abort.source_str}, {abort.reason_str})"
    return "aborted by the peer"
