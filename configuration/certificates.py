"""The files that the Storage SCP speaks TLS with: read as a whole, and judged before they are used.

What is wrong with them is told at a start in the list of everything that is wrong, and while the receiver runs in its
log and its warnings: :class:`Certificates` serves both.
"""

import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from clara_dicom_adapter.configuration.gathered import Gathered
from clara_dicom_adapter.configuration.settings import DataFolder, ScpTlsSettings
from clara_dicom_adapter.dicom import tls_server
from clara_dicom_adapter.dicom.tls import PasswordAskedFor, file_words
from clara_dicom_adapter.dicom.tls_server import TlsServer

_EXPIRY_WARNING: Final = timedelta(days=30)
"""Time enough to have a certificate renewed by a hospital's authority."""


class Problem(NamedTuple):
    """Something that is wrong.

    Attributes:
        key: The setting below ``dicom>scp>tls`` that it is about.
        text: The file, and what is wrong with it.
    """

    key: str
    text: str
    remedy: str

    @property
    def words(self) -> str:
        """What is wrong, and what to do."""
        return f"{self.text}; {self.remedy}"


class Expiry(NamedTuple):
    """When the first certificate of a file ends to be valid."""

    key: str
    file: Path
    at: datetime


@dataclass(frozen=True)
class Certificates:
    """What the files hold.

    Attributes:
        tls: None: it cannot be used. One that has expired can, though hardly anybody will listen.
        problems: Everything that is wrong.
        expiries: Ours first.
    """

    tls: TlsServer | None
    problems: tuple[Problem, ...]
    expiries: tuple[Expiry, ...]

    def expiring(self) -> Iterator[Problem]:
        """What ends within 30 days, or has ended."""
        now = datetime.now(UTC)
        for key, file, at in self.expiries:
            if at - now < _EXPIRY_WARNING:
                yield Problem(
                    key, f"{file} {'expires' if at > now else 'expired'} on {in_words(at)}", "have it renewed"
                )


def check(found: Gathered, data: DataFolder) -> None:
    """Add what is wrong with the files of gathered settings, whatever else is wrong with these."""
    path = ("dicom", "scp", "tls")
    files = {
        name: (data.root / Path(given).expanduser()) if isinstance(given := found.value((*path, name)), str) else None
        for name in ("certificateFile", "keyFile", "caFile")
    }
    if files["certificateFile"] is None:
        return
    settings = ScpTlsSettings.model_construct(
        certificate_file=files["certificateFile"], key_file=files["keyFile"], ca_file=files["caFile"]
    )
    for problem in load(settings).problems:
        where = (*path, problem.key)
        found.problems.append(f"{found.name(where)}: {problem.words} ({found.origin(where)})")


def load(settings: ScpTlsSettings) -> Certificates:
    """Read the files of settings that have TLS on."""
    if settings.certificate_file is None:
        raise ValueError("these settings have no TLS")
    problems: list[Problem] = []
    own = _read("certificateFile", settings.certificate_file, problems)
    key = _read("keyFile", settings.key_file, problems) if settings.key_file else ""
    ca = _read("caFile", settings.ca_file, problems) if settings.ca_file else ""
    chain = _certificates("certificateFile", settings.certificate_file, own, problems)
    trusted = _certificates("caFile", settings.ca_file, ca, problems) if settings.ca_file else []
    tls = None
    if not problems:
        tls = TlsServer(
            certificate=own or "",
            key=key or "",
            ca="".join(each.pem for each in trusted),
            client_certificates=settings.client_certificates.value,
            minimum_version=settings.minimum_version,
        )
        problems += _unusable(tls, settings)
        tls = None if problems else tls
    expiries: list[Expiry] = []
    if chain:
        expiries.append(Expiry("certificateFile", settings.certificate_file, chain[0].end))
        problems += _out_of_time(chain[0], settings.certificate_file)
    if trusted and settings.ca_file:
        expiries.append(Expiry("caFile", settings.ca_file, min(each.end for each in trusted)))
    return Certificates(tls, tuple(problems), tuple(expiries))


def in_words(time: datetime) -> str:
    """To the minute."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


class _Certificate(NamedTuple):
    pem: str
    begin: datetime
    end: datetime


def _read(key: str, file: Path, problems: list[Problem]) -> str | None:
    try:
        # what stands around certificates may be in any encoding
        return file.read_bytes().decode("latin-1")
    except OSError as error:
        remedy = "name a PEM file that the user of the adapter may read"
        problems.append(Problem(key, f"{file} {file_words(error, 'PEM')}", remedy))
        return None


def _certificates(key: str, file: Path, text: str | None, problems: list[Problem]) -> Sequence[_Certificate]:
    """Those in a file that could be read."""
    if text is None:
        return []
    # a large library, which an adapter without TLS does not need
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding  # noqa: PLC0415

    try:
        return [
            _Certificate(each.public_bytes(Encoding.PEM).decode(), each.not_valid_before_utc, each.not_valid_after_utc)
            for each in x509.load_pem_x509_certificates(text.encode("latin-1"))
        ]
    except x509.InvalidVersion as error:
        text = f"{file} holds a certificate of version {error.parsed_version + 1} of X.509, not 3"
        problems.append(Problem(key, text, "take it out of the file, or have it issued anew"))
        return []
    except ValueError:
        problems.append(Problem(key, f"{file} holds no certificate that can be read", "PEM is expected"))
        return []


def _unusable(tls: TlsServer, settings: ScpTlsSettings) -> Iterator[Problem]:
    try:
        tls_server.context(tls)
    except (ssl.SSLError, PasswordAskedFor) as error:
        if settings.key_file:
            text = f"{settings.key_file} {file_words(error, 'a key')}"
            yield Problem("keyFile", text, f"give the key of {settings.certificate_file}, without a password")
        else:
            text = f"{settings.certificate_file} {file_words(error, 'a certificate and its key')}"
            yield Problem("certificateFile", text, "name the file of its key in keyFile, or put it into the same file")


def _out_of_time(certificate: _Certificate, file: Path) -> Iterator[Problem]:
    now = datetime.now(UTC)
    if certificate.end <= now:
        yield Problem("certificateFile", f"{file} expired on {in_words(certificate.end)}", "have it renewed")
    elif certificate.begin > now:
        remedy = "wait until then, or set this machine's clock"
        yield Problem("certificateFile", f"{file} is not valid before {in_words(certificate.begin)}", remedy)
