"""A spool of its own for every test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from clara_dicom_adapter.spool import Spool, SpoolRole


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(root: Path) -> Iterator[Spool]:
    with Spool.open(root, SpoolRole.RECEIVER) as opened:
        yield opened
