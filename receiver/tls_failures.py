"""Why TLS with a sender fails, in few enough kinds to be counted, each with what to do. No I/O."""

import ssl
from enum import Enum
from typing import Self

from clara_dicom_adapter.receiver.pdata import PDU_TYPES

TLS_HANDSHAKE = 0x16
"""First byte of a peer that speaks TLS (RFC 8446 section 5.1); no PDU begins with it."""


class TlsFailure(Enum):
    """A kind, as metrics and logs name it, and the remedy."""

    NO_TLS = "no-tls", "have the sender speak TLS, or send to dicom>scp>port"
    NO_CERTIFICATE = (
        "no-certificate",
        "give the sender a certificate, or set dicom>scp>tls>clientCertificates to optional or none",
    )
    CERTIFICATE_REFUSED = (
        "certificate-refused",
        "give the sender another one, or put its authority into dicom>scp>tls>caFile",
    )
    OURS_REFUSED = (
        "ours-refused",
        "have the sender trust the authority of dicom>scp>tls>certificateFile, and connect to a name that stands in it",
    )
    NOTHING_IN_COMMON = "nothing-in-common", "have the sender offer TLS 1.2 or 1.3 with what BCP 195 recommends"
    CLOSED = "closed", "look into the sender's log: it may not accept our certificate"
    SLOW = "slow", "look at the network, and at what connects"
    UNUSABLE = "unusable", "correct the files of dicom>scp>tls, see `clara dicom doctor`"
    OTHER = "other", "look into the sender's log"

    remedy: str

    def __new__(cls, word: str, remedy: str) -> Self:
        """Args:
        word: The value.
        """
        made = object.__new__(cls)
        made._value_ = word
        made.remedy = remedy
        return made


_WORDS = {
    "WRONG_VERSION_NUMBER": TlsFailure.NO_TLS,
    "HTTP_REQUEST": TlsFailure.NO_TLS,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": TlsFailure.NO_CERTIFICATE,
    "CERTIFICATE_VERIFY_FAILED": TlsFailure.CERTIFICATE_REFUSED,
    "UNSUPPORTED_PROTOCOL": TlsFailure.NOTHING_IN_COMMON,
    "VERSION_TOO_LOW": TlsFailure.NOTHING_IN_COMMON,
    "NO_SHARED_CIPHER": TlsFailure.NOTHING_IN_COMMON,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": TlsFailure.NOTHING_IN_COMMON,
    "NO_SUITABLE_KEY_SHARE": TlsFailure.NOTHING_IN_COMMON,
    "TLSV1_ALERT_PROTOCOL_VERSION": TlsFailure.NOTHING_IN_COMMON,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": TlsFailure.NOTHING_IN_COMMON,
}


def explain(error: ssl.SSLError, first: int | None) -> tuple[TlsFailure, str]:
    """What has failed, and in words.

    Args:
        first: First byte that the peer has sent.
    """
    if first is not None and first != TLS_HANDSHAKE:
        said = "DICOM without TLS" if first in PDU_TYPES else "something else than TLS"
        return TlsFailure.NO_TLS, f"it speaks {said}"
    reason = error.reason or ""
    failure = _WORDS.get(reason, TlsFailure.OTHER)
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsFailure.CERTIFICATE_REFUSED, f"its certificate was not accepted: {error.verify_message}"
    if failure is TlsFailure.OTHER and "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        failure = TlsFailure.OURS_REFUSED
    said = reason.replace("_", " ").lower() or type(error).__name__
    if failure is TlsFailure.OURS_REFUSED:
        return failure, f"it did not accept our certificate: {said}"
    return failure, said
