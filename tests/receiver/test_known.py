"""The snapshot of AE titles and sources: fresh, resolved ahead, and there without the database."""

import threading
from collections.abc import Collection
from pathlib import Path

from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Source
from clara_dicom_adapter.receiver.known import KnownKeeper
from clara_dicom_adapter.workflows.models import PinnedAeTitle


class Configured:
    """A configuration that can be changed, and lost."""

    def __init__(self) -> None:
        self.number = 1
        self.titles = ["CLARA"]
        self.hosts = [("CT1", "10.0.0.1")]
        self.lost = False

    def revision(self) -> int:
        if self.lost:
            raise ConnectionError("no database")
        return self.number

    def ae_titles(self) -> list[tuple[ClaraAeTitle, PinnedAeTitle]]:
        return [
            (
                ClaraAeTitle(name=title, ae_title=title),
                PinnedAeTitle(ae_title=title, name=title, processor="p", revision=self.number),
            )
            for title in self.titles
        ]

    def sources(self) -> list[Source]:
        return [Source(ae_title=ae_title, host_ip=host) for ae_title, host in self.hosts]


def no_name_server(host: str) -> Collection[str]:
    return frozenset()


def test_changes_are_noticed_in_the_background(tmp_path: Path) -> None:
    configured = Configured()
    keeper = KnownKeeper(configured, tmp_path / "known.json", poll_seconds=0.01, resolve=no_name_server)
    keeper.start()
    try:
        assert keeper.current is not None
        assert list(keeper.current.ae_titles) == ["CLARA"]
        configured.titles.append("SECOND")
        configured.number += 1
        noticed = threading.Event()
        for _ in range(500):
            if "SECOND" in keeper.current.ae_titles:
                noticed.set()
                break
            noticed.wait(0.01)
        assert noticed.is_set()
        assert keeper.current.ae_titles["SECOND"].pinned.revision == 2
    finally:
        keeper.stop()


def test_one_calling_ae_title_may_have_several_hosts(tmp_path: Path) -> None:
    configured = Configured()
    configured.hosts = [("CT1", "10.0.0.1"), ("CT1", "::ffff:10.0.0.2"), ("CT1", "scanner.example")]
    names = {"scanner.example": ["10.0.0.3"]}
    keeper = KnownKeeper(configured, tmp_path / "k", resolve=lambda host: names.get(host, ()))
    keeper.refresh()
    keeper.resolve_now()
    assert keeper.current is not None
    assert keeper.current.sources["CT1"] == {"10.0.0.1", "10.0.0.2", "10.0.0.3"}


def test_a_name_that_cannot_be_resolved_any_more_keeps_its_addresses(tmp_path: Path) -> None:
    configured = Configured()
    configured.hosts = [("CT1", "scanner.example")]
    names = {"scanner.example": ["10.0.0.3"]}
    keeper = KnownKeeper(configured, tmp_path / "k", resolve=lambda host: names.get(host, ()))
    keeper.refresh()
    keeper.resolve_now()
    names.clear()
    keeper.resolve_now()
    assert keeper.current is not None
    assert keeper.current.sources["CT1"] == {"10.0.0.3"}


def test_the_last_snapshot_stays_in_force_when_the_database_is_lost(tmp_path: Path) -> None:
    configured = Configured()
    keeper = KnownKeeper(configured, tmp_path / "k", resolve=no_name_server)
    assert keeper.refresh()
    before = keeper.current
    configured.lost = True
    assert not keeper.refresh()
    assert not keeper.reachable
    assert keeper.current is before


def test_a_receiver_starts_without_the_database_from_the_copy(tmp_path: Path) -> None:
    configured = Configured()
    configured.hosts = [("CT1", "scanner.example")]
    first = KnownKeeper(configured, tmp_path / "k", resolve=lambda host: ["10.0.0.3"])
    first.refresh()
    first.resolve_now()
    configured.lost = True
    second = KnownKeeper(configured, tmp_path / "k", resolve=no_name_server)
    second.start()
    second.stop()
    assert second.current == first.current
    assert second.current is not None
    assert second.current.sources["CT1"] == {"10.0.0.3"}


def test_without_database_and_copy_nothing_is_known(tmp_path: Path) -> None:
    configured = Configured()
    configured.lost = True
    (tmp_path / "k").write_text("not json")
    keeper = KnownKeeper(configured, tmp_path / "k", resolve=no_name_server)
    keeper.start()
    keeper.stop()
    assert keeper.current is None
