"""HTTPS by certificate files."""

import os
import ssl
from contextlib import suppress
from pathlib import Path

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine
from support.api import dependencies, serving
from support.authority import Authority

from clara_dicom_adapter.api.server import Certificate
from clara_dicom_adapter.configuration.settings import ApiSettings, DataFolder, Settings
from clara_dicom_adapter.errors import ConfigurationInvalid


async def test_it_is_served_over_https_with_the_certificate_of_the_files(tmp_path: Path, engine: Engine) -> None:
    authority = Authority(tmp_path)
    ours = authority.issue("clara")
    settings = Settings(api=ApiSettings(tls_certificate_file=ours.certificate, tls_key_file=ours.key))
    trust = ssl.create_default_context(cafile=str(authority.ca))
    async with serving(dependencies(engine, DataFolder(tmp_path), settings), trust) as client:
        assert client.base_url.scheme == "https"
        assert (await client.get("/api/config/sourceaetitle")).json() == []


def shown(server: ssl.SSLContext) -> bytes:
    """The certificate that a client is shown now, by a handshake in memory."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True)]
    for end in (*ends, *ends, *ends):
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ends[0].getpeercert(binary_form=True) or b""


def test_a_renewed_certificate_is_taken_and_one_without_its_key_is_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    ours, renewed = authority.issue("clara"), authority.issue("renewed", key=1)
    served = Certificate(ours.certificate, ours.key)
    before = shown(served.context)
    ours.certificate.write_bytes(renewed.certificate.read_bytes())
    os.utime(ours.certificate, ns=(1, 1))
    served.renew()
    assert shown(served.context) == before, "its key is still the old one"
    ours.key.write_bytes(renewed.key.read_bytes())
    os.utime(ours.key, ns=(1, 1))
    served.renew()
    assert shown(served.context) not in (before, b"")


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    ours = Authority(tmp_path).issue("clara")
    with pytest.raises(ConfigurationInvalid, match="tlsCertificateFile"):
        Certificate(ours.key, ours.certificate)
    with pytest.raises(ConfigurationInvalid, match="No such file"):
        Certificate(tmp_path / "none.pem", ours.key)
    with pytest.raises(ValidationError, match="given together"):
        ApiSettings(tls_certificate_file=ours.certificate)
