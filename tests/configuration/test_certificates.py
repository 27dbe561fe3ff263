"""The files of the SCP's TLS: everything that is wrong with them is told, with the file and the remedy."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.authority import Authority, encrypted_key, of_version_2

from clara_dicom_adapter.configuration.certificates import load
from clara_dicom_adapter.configuration.reader import read
from clara_dicom_adapter.configuration.settings import DataFolder, ScpTlsSettings
from clara_dicom_adapter.errors import ConfigurationInvalid
from clara_dicom_adapter.receiver.reports import ORDERS, Secure

TLS = "DicomAdapter>dicom>scp>tls"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def problems(folder: Path, tls: dict[str, Any], **scp: Any) -> list[str]:
    """What a start is refused for."""
    file = folder / "appsettings.json"
    file.write_text(json.dumps({"DicomAdapter": {"dicom": {"scp": {"tls": tls, **scp}}}}, default=str))
    try:
        read(file, DataFolder(folder), {}, starting=True)
    except ConfigurationInvalid as error:
        return [line.replace(f" (file {file}, line 1)", "") for line in error.problems]
    return []


def test_right_files_are_taken_whole(tmp_path: Path, authority: Authority) -> None:
    ours = authority.issue("ours", days=100)
    settings = ScpTlsSettings(certificate_file=ours.certificate, key_file=ours.key, ca_file=authority.ca)
    found = load(settings)
    assert found.problems == ()
    assert found.tls is not None
    assert found.tls.key not in repr(found), "a key gets into no log"
    assert [expiry.key for expiry in found.expiries] == ["certificateFile", "caFile"]
    assert [each.key for each in found.expiring()] == ["caFile"], "the authority's ends in ten days"
    assert not problems(tmp_path, {"certificateFile": ours.certificate, "keyFile": ours.key, "caFile": authority.ca})


def test_a_key_in_the_file_of_the_certificate_is_not_shown_either(tmp_path: Path, authority: Authority) -> None:
    ours = authority.issue("ours")
    both = tmp_path / "both.pem"
    both.write_bytes(ours.certificate.read_bytes() + ours.key.read_bytes())
    tls = load(ScpTlsSettings(certificate_file=both, ca_file=authority.ca)).tls
    assert tls is not None
    assert "PRIVATE KEY" in tls.certificate
    assert "PRIVATE KEY" not in repr([tls, Secure(tls=tls)])
    half = Secure(tls=tls).model_dump_json()[:-50]
    with pytest.raises(ValueError, match="Invalid JSON") as cut_off:
        ORDERS.validate_json(half)
    assert half[-10:] not in str(cut_off.value)


def test_relative_files_are_in_the_data_folder(tmp_path: Path, authority: Authority) -> None:
    ours = authority.issue("ours")
    (tmp_path / "both.pem").write_bytes(ours.certificate.read_bytes() + ours.key.read_bytes())
    assert not problems(tmp_path, {"certificateFile": "both.pem", "clientCertificates": "none"})


def test_what_stands_around_certificates_does_not_matter(tmp_path: Path, authority: Authority) -> None:
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes("Gew\xe4hlt:\n".encode("latin-1") + authority.ca.read_bytes() + b"\n# the end\n")
    ours = authority.issue("ours")
    assert not problems(tmp_path, {"certificateFile": ours.certificate, "keyFile": ours.key, "caFile": trusted})


def test_everything_wrong_with_the_files_is_told_with_everything_else(tmp_path: Path, authority: Authority) -> None:
    old = authority.issue("old", days=-1)
    nothing, text = tmp_path / "nothing.pem", tmp_path / "text.pem"
    text.write_text("no certificate")
    found = problems(tmp_path, {"certificateFile": old.certificate, "keyFile": nothing, "caFile": text}, port="x")
    remedy = "name a PEM file that the user of the adapter may read"
    assert f"{TLS}>keyFile: {nothing} cannot be read: No such file or directory; {remedy}" in found
    assert f"{TLS}>caFile: {text} holds no certificate that can be read; PEM is expected" in found
    assert any(line.startswith(f"{TLS}>certificateFile: {old.certificate} expired on ") for line in found)
    assert any("dicom>scp>port: 'x' is not allowed" in line for line in found)
    assert len(found) == 4


def test_a_certificate_of_a_version_that_nobody_reads_is_told(tmp_path: Path, authority: Authority) -> None:
    old = tmp_path / "old.pem"
    old.write_bytes(of_version_2(authority.ca.read_bytes()))
    ours = authority.issue("ours")
    (told,) = problems(tmp_path, {"certificateFile": ours.certificate, "keyFile": ours.key, "caFile": old})
    assert told.startswith(f"{TLS}>caFile: {old} holds a certificate of version 2 of X.509, not 3; ")


def test_a_key_that_does_not_fit_is_named(tmp_path: Path, authority: Authority) -> None:
    ours, other = authority.issue("ours"), authority.issue("other", key=3)
    locked = encrypted_key(tmp_path / "locked.key")
    for key, problem in ((other.key, "the key is not that of the certificate"), (locked, "the key has a password")):
        (told,) = problems(tmp_path, {"certificateFile": ours.certificate, "keyFile": key, "caFile": authority.ca})
        assert told.startswith(f"{TLS}>keyFile: {key} cannot be used: {problem}")
        assert told.endswith(f"give the key of {ours.certificate}, without a password")
    (told,) = problems(tmp_path, {"certificateFile": ours.certificate, "caFile": authority.ca})
    assert told.endswith("name the file of its key in keyFile, or put it into the same file")


def test_a_certificate_of_the_future_is_told(tmp_path: Path, authority: Authority) -> None:
    early = authority.issue("early", since_days=-1)
    (told,) = problems(tmp_path, {"certificateFile": early.certificate, "keyFile": early.key, "caFile": authority.ca})
    assert "is not valid before" in told
    assert "this machine's clock" in told


def test_what_does_not_go_together_is_told_without_looking_at_files(tmp_path: Path) -> None:
    for tls, problem in (
        ({"only": True}, "keyFile, caFile and only need a certificateFile"),
        ({"certificateFile": "c.pem"}, "caFile is needed to check senders' certificates, or clientCertificates none"),
        ({"minimumVersion": "1.1"}, "minimumVersion: '1.1' is not allowed: 1.2 or 1.3"),
    ):
        assert any(problem in line for line in problems(tmp_path, tls)), problem
    same = {"certificateFile": "c.pem", "clientCertificates": "none", "port": 104}
    assert any("port and tls>port must differ" in line for line in problems(tmp_path, same))
    assert not any("must differ" in line for line in problems(tmp_path, {**same, "only": True}))


def test_files_are_no_matter_for_who_does_not_start_the_scp(tmp_path: Path) -> None:
    """An adapter whose certificate has expired can still be looked at."""
    file = tmp_path / "appsettings.json"
    tls = {"certificateFile": "gone.pem", "caFile": "gone.pem"}
    file.write_text(json.dumps({"DicomAdapter": {"dicom": {"scp": {"tls": tls}}}}))
    assert read(file, DataFolder(tmp_path), {}).settings.dicom.scp.tls.enabled
