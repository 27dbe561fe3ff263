"""Associations over TLS, with dcmtk's storescp in its BCP 195 profile, and what is said when something is wrong."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from support.authority import Authority, Issued, encrypted_key
from support.dicom_objects import make_objects
from support.dicom_peers import SUCCESS, ScriptedScp, storescp

from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import ObjectResult, Peer, SendSettings, TimeLimits, Verdict, send
from clara_dicom_adapter.dicom.tls import TlsClient

SETTINGS = SendSettings("SENDER", TimeLimits(connect=5, association=5, response=5), retries=0)


class Hospital:
    """An authority, our certificate, and a PACS that wants one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder / "ca")
        self.stranger = Authority(folder / "stranger", "stranger", key=1)
        self.ours = self.authority.issue("ours", host="clara.hospital", key=3)
        self.files = make_objects(folder / "files", 3, size=300_000)

    @property
    def tls(self) -> TlsClient:
        return TlsClient(self.authority.ca, self.ours.certificate, self.ours.key)

    @contextmanager
    def pacs(self, certificate: Issued | None = None, *options: str) -> Iterator[Peer]:
        shown = certificate or self.authority.issue("pacs")
        secured = ["+tls", str(shown.key), str(shown.certificate), "+cf", str(self.authority.ca)]
        with storescp(self.folder / "in", "+B", *secured, *options) as peer:
            yield peer

    def received(self) -> list[Path]:
        return sorted((self.folder / "in").iterdir())

    def send(self, peer: Peer, tls: TlsClient | None) -> ObjectResult:
        """Send, and return the first result; they must be of one kind."""
        results: list[ObjectResult] = []
        send(self.files, replace(peer, tls=tls), SETTINGS, results.append)
        (_,) = {(result.verdict, result.reason) for result in results}
        return results[0]


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def dataset(path: Path) -> bytes:
    return path.read_bytes()[read_meta(path).dataset_offset :]


def test_dcmtk_stores_over_tls_with_certificates_on_both_sides(hospital: Hospital) -> None:
    with hospital.pacs() as peer:
        assert hospital.send(peer, hospital.tls).verdict is Verdict.STORED
    assert sorted(map(dataset, hospital.received())) == sorted(map(dataset, hospital.files))


def test_a_key_may_be_in_the_file_of_the_certificate(hospital: Hospital) -> None:
    together = hospital.folder / "together.pem"
    together.write_bytes(hospital.ours.key.read_bytes() + hospital.ours.certificate.read_bytes())
    with hospital.pacs() as peer:
        assert hospital.send(peer, TlsClient(hospital.authority.ca, together)).verdict is Verdict.STORED


def test_the_certificate_may_bear_another_name_than_the_host_when_that_is_configured(hospital: Hospital) -> None:
    named = hospital.authority.issue("named", host="pacs.hospital")
    with hospital.pacs(named) as peer:
        wrong = hospital.send(peer, hospital.tls)
        right = hospital.send(peer, replace(hospital.tls, server_name="pacs.hospital"))
    assert "IP address mismatch" in wrong.reason
    assert "tls.serverName" in wrong.reason
    assert right.verdict is Verdict.STORED


def test_a_peer_of_another_authority_gets_nothing(hospital: Hospital) -> None:
    with hospital.pacs(hospital.stranger.issue("pacs")) as peer:
        result = hospital.send(peer, hospital.tls)
    assert result.verdict is Verdict.NOT_SENT
    assert "its certificate was not accepted: unable to get local issuer certificate" in result.reason
    assert "tls.caFile" in result.reason
    assert not hospital.received()


def test_a_peer_whose_certificate_has_expired_gets_nothing(hospital: Hospital) -> None:
    with hospital.pacs(hospital.authority.issue("old", days=-1)) as peer:
        result = hospital.send(peer, hospital.tls)
    assert "certificate has expired" in result.reason
    assert not hospital.received()


@pytest.mark.parametrize("shown", ["nothing", "of a stranger"])
def test_a_peer_that_does_not_accept_us_is_told_as_such(hospital: Hospital, shown: str) -> None:
    tls = TlsClient(hospital.authority.ca)
    if shown == "of a stranger":
        issued = hospital.stranger.issue("ours")
        tls = TlsClient(hospital.authority.ca, issued.certificate, issued.key)
    with hospital.pacs() as peer:
        result = hospital.send(peer, tls)
    assert result.verdict is Verdict.NOT_SENT
    assert "tls.certificateFile" in result.reason
    assert not hospital.received()


def test_a_renewed_certificate_counts_from_the_next_association_on(hospital: Hospital) -> None:
    tls = replace(hospital.tls, ca_file=hospital.folder / "trusted.pem")
    assert tls.ca_file is not None
    shutil.copy(hospital.stranger.ca, tls.ca_file)
    with hospital.pacs() as peer:
        assert hospital.send(peer, tls).verdict is Verdict.NOT_SENT
        shutil.copy(hospital.authority.ca, tls.ca_file)
        assert hospital.send(peer, tls).verdict is Verdict.STORED


def test_a_peer_that_speaks_no_tls_is_told_as_such(hospital: Hospital) -> None:
    with storescp(hospital.folder / "in") as peer:
        result = hospital.send(peer, hospital.tls)
    assert result.verdict is Verdict.NOT_SENT
    assert "no TLS" in result.reason


def test_without_tls_a_peer_that_wants_it_gets_nothing(hospital: Hospital) -> None:
    with hospital.pacs() as peer:
        assert hospital.send(peer, None).verdict is Verdict.NOT_SENT
    assert not hospital.received()


def test_files_that_cannot_be_used_are_named(hospital: Hospital) -> None:
    other = hospital.authority.issue("other", key=2)
    nothing = hospital.folder / "nothing.pem"
    text = hospital.folder / "text.pem"
    text.write_text("no certificate")
    locked = encrypted_key(hospital.folder / "locked.key", key=3)
    ca, certificate = hospital.authority.ca, hospital.ours.certificate
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        for tls, named, problem in (
            (TlsClient(nothing), nothing, "No such file"),
            (TlsClient(text), text, "cannot be used"),
            (TlsClient(ca, nothing), nothing, "No such file"),
            (TlsClient(ca, certificate, nothing), nothing, "No such file"),
            (TlsClient(ca, certificate, other.key), other.key, "not that of the certificate"),
            (TlsClient(ca, certificate), certificate, "cannot be used"),
            (TlsClient(ca, certificate, locked), locked, "password"),
        ):
            reason = hospital.send(scp.peer, tls).reason
            assert str(named) in reason
            assert problem in reason
    assert scp.associations == 0
