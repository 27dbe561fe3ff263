"""A certificate authority for tests of TLS, and what it issues; keys are made once, because making them takes long."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID


@cache
def _key(number: int) -> rsa.RSAPrivateKey:
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, PEM."""

    certificate: Path
    key: Path


class Authority:
    """One that may be trusted, by its file ``ca``."""

    def __init__(self, folder: Path, name: str = "authority", key: int = 0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._key = _key(key)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.ca = folder / f"{name}.pem"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        self.ca.write_bytes(_pem(self._signed(self._name, self._key, days=10, extension=basic)))

    def issue(
        self, name: str, *, host: str = "127.0.0.1", days: int = 10, key: int = 2, since_days: int = 20
    ) -> Issued:
        """A certificate for a host name or an address, valid until so many days from now, since so many days ago."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternative: x509.GeneralName = x509.DNSName(host)
        if host.replace(".", "").isdigit():
            alternative = x509.IPAddress(ip_address(host))
        names = x509.SubjectAlternativeName([alternative])
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        issued.certificate.write_bytes(
            _pem(self._signed(subject, _key(key), days=days, extension=names, since_days=since_days))
        )
        issued.key.write_bytes(_key_pem(_key(key), serialization.NoEncryption()))
        return issued

    def _signed(
        self,
        subject: x509.Name,
        key: rsa.RSAPrivateKey,
        *,
        days: int,
        extension: x509.ExtensionType,
        since_days: int = 20,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=since_days))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(extension, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def encrypted_key(path: Path, key: int = 2) -> Path:
    """The same key behind a password."""
    path.write_bytes(_key_pem(_key(key), serialization.BestAvailableEncryption(b"secret")))
    return path


def of_version_2(certificate: bytes) -> bytes:
    """The same certificate, PEM, with a version that nobody issues any more (RFC 5280 section 4.1.2.1)."""
    encoded = ssl.PEM_cert_to_DER_cert(certificate.decode())
    return ssl.DER_cert_to_PEM_cert(encoded.replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\1", 1)).encode()


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: rsa.RSAPrivateKey, encryption: serialization.KeySerializationEncryption) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, encryption)
