"""A spool of its own for every test, and segments for those who ask for them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.segments import make_segments
from support.spooling import facts

from clara_dicom_adapter.spool import AssociationFolder, Spool, SpoolRole, settling


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(root: Path) -> Iterator[Spool]:
    with Spool.open(root, SpoolRole.RECEIVER) as opened:
        yield opened


@pytest.fixture
def folder(spool: Spool) -> AssociationFolder:
    """An association in a spool with two segments, and nothing else that is prepared."""
    make_segments(spool.root, 2)
    return spool.begin_association(facts())


@pytest.fixture
def never_settles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files get their names when somebody waits for them, and segments stay as they are."""
    monkeypatch.setattr(settling, "_PAUSE_SECONDS", 1000.0)
    monkeypatch.setattr(settling, "_IDLE_SECONDS", 1000.0)
