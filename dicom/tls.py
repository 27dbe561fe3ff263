"""TLS of an association that we request: PS3.15 annex B.9, the BCP 195 TLS profile (RFC 9325).

TLS 1.2 and 1.3, forward secrecy and authenticated encryption only, the peer's certificate always checked. Files are
read anew for each association, so that certificates are renewed without a restart.
"""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!PSK"
"""Of TLS 1.2 (RFC 9325 section 4.2); those of TLS 1.3 all qualify."""


@dataclass(frozen=True, slots=True)
class TlsClient:
    """How to speak TLS with one peer.

    Attributes:
        ca_file: Certificates of authorities to trust, PEM; none: the system's.
        certificate_file: Our certificate with its chain, PEM; none: the peer must not ask for one.
        key_file: Its key, PEM without a password; none: it is in the certificate's file.
        server_name: Name that the peer's certificate must bear; none: the host that is connected to.
    """

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None


class TlsUnusable(Exception):
    """A file of ours cannot be used; the text names it and says what is wrong."""


def context(tls: TlsClient) -> ssl.SSLContext:
    """Read the files; raises :class:`TlsUnusable`."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.set_ciphers(CIPHERS)
    try:
        if tls.ca_file is None:
            made.load_default_certs(ssl.Purpose.SERVER_AUTH)
        else:
            made.load_verify_locations(cafile=tls.ca_file)
    except OSError as error:
        raise TlsUnusable(f"tls.caFile {tls.ca_file} {file_words(error, 'certificates')}") from error
    if tls.certificate_file is not None:
        try:
            made.load_cert_chain(tls.certificate_file, tls.key_file, password=no_password)
        except (OSError, PasswordAskedFor) as error:
            files = f"tls.certificateFile {tls.certificate_file}"
            if tls.key_file is not None:
                files += f" with tls.keyFile {tls.key_file}"
            raise TlsUnusable(f"{files} {file_words(error, 'a certificate and its key')}") from error
    return made


def words(error: ssl.SSLError) -> str:
    """What went wrong in a handshake or after it, and what to look at."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message} (see tls.caFile and tls.serverName)"
    reason = (error.reason or "").replace("_", " ").lower()
    match reason:
        case text if "alert" in text and ("certificate" in text or "unknown ca" in text or "handshake failure" in text):
            return f"it did not accept us: {reason} (see tls.certificateFile)"
        case "wrong version number" | "record layer failure" | "http request":
            return "it does not speak TLS on this port"
        case text if "protocol version" in text or "unsupported protocol" in text or "no shared cipher" in text:
            return f"it offers only what BCP 195 does not allow: {reason}"
    if isinstance(error, ssl.SSLEOFError) or not reason:
        return "it closed the connection"
    return f"TLS failed: {reason}"


class PasswordAskedFor(Exception):
    """By OpenSSL, for a key."""


def no_password() -> str:
    """To be given to OpenSSL, which would otherwise ask at the terminal; raises :class:`PasswordAskedFor`."""
    raise PasswordAskedFor


def file_words(error: Exception, expected: str) -> str:
    """Why a file cannot be used.

    Args:
        expected: What it should hold.
    """
    if isinstance(error, PasswordAskedFor):
        return "cannot be used: the key has a password, and nobody can be asked for it"
    if isinstance(error, ssl.SSLError):
        mismatch = "mismatch" in (error.reason or "").lower()
        problem = "the key is not that of the certificate" if mismatch else f"PEM with {expected} is expected"
        return f"cannot be used: {problem}"
    return f"cannot be read: {error.strerror if isinstance(error, OSError) else error}"
