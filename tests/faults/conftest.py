"""Fixtures of the fault tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.far_ends import Pacs
from support.site import Site


@pytest.fixture(scope="module")
def pacs() -> Iterator[Pacs]:
    with Pacs().serving() as pacs:
        yield pacs


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, pacs: Pacs, temporal_executable: Path) -> Iterator[Site]:
    """The adapter with one AE title per association and one window, and where results go."""
    site = Site(tmp_path_factory.mktemp("site"), pacs)
    site.start()
    try:
        site.configure_entities()
        yield site
    finally:
        site.stop()
