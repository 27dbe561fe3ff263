"""Certificates that are wrong are looked at again until they are right, and told of once."""

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest
from structlog.testing import capture_logs
from support.authority import Authority
from support.site import wait_until

from clara_dicom_adapter.configuration.settings import ScpTlsSettings
from clara_dicom_adapter.dicom.tls_server import TlsServer
from clara_dicom_adapter.receiver.certificates import CertificateKeeper


class InTwoDays(datetime):
    """A clock that shows what it will show."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(days=2)


class Kept:
    """A keeper whose files a test replaces, and what it has taken."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder / "ca")
        self.settings = ScpTlsSettings(
            certificate_file=folder / "ours.pem", key_file=folder / "ours.key", ca_file=folder / "trusted.pem"
        )
        self.taken: list[TlsServer] = []
        self.fails_with: list[Exception] = []
        self.keeper = CertificateKeeper(self.settings, self._take)
        self.put("ours")
        shutil.copy(self.authority.ca, self.trusted)

    @property
    def trusted(self) -> Path:
        assert self.settings.ca_file is not None
        return self.settings.ca_file

    def put(self, name: str, **issued: Any) -> None:
        """Replace certificate and key."""
        new = self.authority.issue(name, **issued)
        assert self.settings.certificate_file is not None
        assert self.settings.key_file is not None
        shutil.copy(new.certificate, self.settings.certificate_file)
        shutil.copy(new.key, self.settings.key_file)

    def look(self) -> None:
        """Look twice: what has changed must look the same twice."""
        self.keeper.look()
        self.keeper.look()

    def _take(self, tls: TlsServer) -> None:
        for error in self.fails_with:
            raise error
        self.taken.append(tls)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.keeper.stop()


@pytest.fixture
def by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the test looks."""
    monkeypatch.setattr("clara_dicom_adapter.receiver.certificates.LOOK_SECONDS", 3600)


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


@pytest.mark.usefixtures("by_hand")
def test_one_that_is_not_valid_yet_is_taken_when_it_is(
    kept: Kept, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.keeper.start()
    kept.put("renewed", since_days=-1, days=30)
    for _ in range(3):
        kept.look()
    assert len(kept.taken) == 1
    (warning, *_) = kept.keeper.warnings
    assert "is not valid before" in warning
    monkeypatch.setattr("clara_dicom_adapter.configuration.certificates.datetime", InTwoDays)
    kept.look()
    assert len(kept.taken) == 2
    assert not any("is not valid before" in warning for warning in kept.keeper.warnings)
    events = [line["event"] for line in logged]
    assert events == ["certificate_taken", "certificate_not_renewed", "certificate_taken"]


@pytest.mark.usefixtures("by_hand")
def test_a_start_with_one_that_is_not_valid_yet_warns_until_it_is(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.put("early", since_days=-1, days=60)
    kept.keeper.start()
    kept.look()
    assert any("is not valid before" in warning for warning in kept.keeper.warnings)
    monkeypatch.setattr("clara_dicom_adapter.configuration.certificates.datetime", InTwoDays)
    kept.look()
    assert not any("is not valid before" in warning for warning in kept.keeper.warnings)
    assert len(kept.taken) == 1


def test_nothing_ends_the_looking_unseen(kept: Kept, logged: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clara_dicom_adapter.receiver.certificates.LOOK_SECONDS", 0.02)
    kept.keeper.start()
    kept.fails_with = [RuntimeError("no more threads")]
    kept.put("renewed")
    wait_until("it is told", lambda: any(line["event"] == "certificate_look_failed" for line in logged), 10)
    kept.fails_with = []
    wait_until("it is taken all the same", lambda: len(kept.taken) == 2, 10)
    assert [line["event"] for line in logged].count("certificate_look_failed") == 1
