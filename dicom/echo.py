"""A C-ECHO to a peer, and what happened in words: whether it can be reached, knows us, and answers."""

import time
from dataclasses import dataclass
from typing import Final

from pynetdicom.pdu import P_DATA_TF

from clara_dicom_adapter.dicom import dimse
from clara_dicom_adapter.dicom.connecting import Peer
from clara_dicom_adapter.dicom.negotiation import AssociationRejected, Context
from clara_dicom_adapter.dicom.requestor import StorageAssociation, TimeLimits
from clara_dicom_adapter.errors import AssociationFailed

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
_CONTEXT: Final = Context(dimse.VERIFICATION, IMPLICIT_VR_LITTLE_ENDIAN)
_P_DATA_TF: Final = 0x04
_SUCCESS: Final = 0x0000


@dataclass(frozen=True, slots=True)
class EchoResult:
    """What came of a C-ECHO.

    Attributes:
        answered: The peer answered with Success.
        message: What happened, and where it failed what to look at.
        seconds: How long it took, from the connection to the answer.
    """

    answered: bool
    message: str
    seconds: float


class _Verification(StorageAssociation):
    """An association that proposes Verification only."""

    def echo(self) -> int:
        """Send one C-ECHO-RQ and return the status of its response; raises DimseError, OSError."""
        command = dimse.echo_request(1)
        self._send(_data_pdu(self.accepted[_CONTEXT], command), self._limits.response)
        kind, pdu = self._receive_pdu(time.monotonic() + self._limits.response)
        if kind != _P_DATA_TF:
            raise dimse.DimseError(f"PDU type {kind:02X} instead of a response")
        answer = P_DATA_TF()
        try:
            answer.decode(pdu)
            items = [item.presentation_data_value for item in answer.presentation_data_value_items]
        except Exception as error:  # whatever pynetdicom stumbles over in bytes of the peer is the peer's fault
            raise dimse.DimseError("a response that cannot be read") from error
        return dimse.read_echo_status(b"".join(value[1:] for value in items if value))  # behind the control header


def _data_pdu(context_id: int, command: bytes) -> bytes:
    """A P-DATA-TF with one PDV that holds the whole command (PS3.8 section 9.3.5, annex E.2)."""
    pdv = (len(command) + 2).to_bytes(4, "big") + bytes((context_id, 0x03)) + command
    return bytes((_P_DATA_TF, 0)) + len(pdv).to_bytes(4, "big") + pdv


def echo(calling_ae_title: str, peer: Peer, limits: TimeLimits | None = None) -> EchoResult:
    """Send a C-ECHO; never raises for what the peer does."""
    limits = limits or TimeLimits()
    started = time.monotonic()

    def result(message: str, *, answered: bool = False) -> EchoResult:
        return EchoResult(answered, message, time.monotonic() - started)

    try:
        association = _Verification.request(calling_ae_title, peer, [_CONTEXT], limits)
    except AssociationRejected as error:
        hint = f"{peer.ae_title} must know '{calling_ae_title}' at our address, and bear that name itself"
        return result(f"The association was rejected: {error.reason}. {hint}.")
    except AssociationFailed as error:
        hint = f"Is {peer.host}, port {peer.port} right, and open in the firewall?"
        return result(f"No association: {error.reason}. {hint}")
    if _CONTEXT not in association.accepted:
        association.release()
        return result(f"{peer.ae_title} takes associations, but offers no Verification; it may store all the same.")
    try:
        status = association.echo()
    except (dimse.DimseError, OSError) as error:
        association.abort()
        what = "it did not answer in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__
        return result(f"The association was established, but the C-ECHO failed: {what}.")
    association.release()
    if status != _SUCCESS:
        return result(f"{peer.ae_title} answered the C-ECHO with status {status:04X} instead of 0000.")
    return result(f"{peer.ae_title} answered the C-ECHO with Success.", answered=True)
