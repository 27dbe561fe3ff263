"""TLS of associations that are requested of us: PS3.15 annex B.9, the BCP 195 TLS profile (RFC 9325).

What is needed for it is given as text and not as files, so that processes that share a port show the same certificate,
and one that is started later shows it too, whatever has become of the files.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Literal

from clara_dicom_adapter.dicom.tls import CIPHERS, no_password

_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_ASKED: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}


@dataclass(frozen=True, slots=True)
class TlsServer:
    """How TLS is spoken with those who connect.

    Attributes:
        certificate: Ours with its chain, PEM; as secret as ``key``, for it may hold it.
        key: Its key, PEM without a password; empty: it is in ``certificate``.
        ca: Certificates of authorities to trust with those of peers, PEM.
        client_certificates: Whether peers show one.
        minimum_version: Oldest version of TLS that is spoken.
    """

    certificate: str = field(repr=False)
    key: str = field(default="", repr=False)
    ca: str = ""
    client_certificates: Literal["none", "optional", "required"] = "required"
    minimum_version: Literal["1.2", "1.3"] = "1.2"


def context(tls: TlsServer) -> ssl.SSLContext:
    """Make use of it.

    Raises:
        ssl.SSLError: Certificate and key do not fit, or are none.
        PasswordAskedFor: The key has a password.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = _VERSIONS[tls.minimum_version]
    made.set_ciphers(CIPHERS)
    # A session would be known to one of several processes only, and an association is long: none is taken up again.
    made.num_tickets = 0
    made.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    with _as_file(tls.certificate) as certificate, _as_file(tls.key or tls.certificate) as key:
        made.load_cert_chain(certificate, key, password=no_password)
    if tls.ca:
        made.load_verify_locations(cadata=tls.ca)
    made.verify_mode = _ASKED[tls.client_certificates]
    return made


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """A name under which OpenSSL reads what lies in memory alone: a key must not get onto a disk."""
    descriptor = os.memfd_create("tls")
    try:
        with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
