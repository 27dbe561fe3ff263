"""Following a server that misbehaves; a real one is in ``tests/cluster``."""

import json
import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.site import wait_until

from clara_dicom_adapter.errors import KubernetesUnavailable
from clara_dicom_adapter.resources.kinds import Resource
from clara_dicom_adapter.resources.watching import Gap, Watched


def made(name: str, version: int = 1) -> Resource:
    return {"metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": str(version)}, "spec": {}}


class Script:
    """A server that lists what a test says, and whose watch tells what a test puts into it."""

    address = "https://nowhere"

    def __init__(self, *names: str) -> None:
        self.there = [made(name) for name in names]
        self.down: Exception | None = None
        self.watched_from: list[str] = []
        self.lists = 0
        self.happens: queue.Queue[tuple[str, Resource] | Exception | None] = queue.Queue()

    def listed(self) -> tuple[Sequence[Resource], str]:
        self.lists += 1
        if self.down is not None:
            raise self.down
        return list(self.there), "10"

    def events(self, version: str) -> Iterator[tuple[str, Resource]]:
        self.watched_from.append(version)
        while (event := self.happens.get()) is not None:
            if isinstance(event, Exception):
                raise event
            yield event

    def stop(self) -> None:
        self.happens.put(None)


@contextmanager
def watching(server: Script, copy: Path | None = None) -> Iterator[Watched]:
    watched = Watched(server, "sources", copy, lambda: None)
    watched.start()
    try:
        yield watched
    finally:
        watched.stop()


def names(watched: Watched) -> list[str]:
    return sorted(each["metadata"]["name"] for each in watched.resources()[1])


def test_changes_are_applied_as_they_come() -> None:
    server = Script("a", "b")
    with watching(server) as watched:
        assert watched.wait(10)
        server.happens.put(("ADDED", made("c", 11)))
        server.happens.put(("DELETED", made("a", 12)))
        server.happens.put(("BOOKMARK", {"metadata": {"resourceVersion": "99"}}))
        wait_until("both are known", lambda: names(watched) == ["b", "c"])
        server.there = [made("b"), made("c", 11)]


@pytest.mark.parametrize("gap", [Gap(), KubernetesUnavailable("x", "reset"), ValueError("half a line")])
def test_after_any_gap_the_whole_state_is_taken_anew(gap: Exception) -> None:
    server = Script("a", "b")
    with watching(server) as watched:
        assert watched.wait(10)
        server.there = [made("b", 20), made("c", 21)]
        server.happens.put(gap)
        wait_until("the new list counts", lambda: names(watched) == ["b", "c"])
        wait_until("the trouble is over", lambda: watched.trouble is None)
        server.happens.put(("ADDED", made("d", 22)))
        wait_until("and is watched", lambda: names(watched) == ["b", "c", "d"])


def test_nothing_known_is_an_error_and_something_old_is_not() -> None:
    server = Script("a")
    server.down = KubernetesUnavailable(server.address, "refused")
    with watching(server) as watched:
        wait_until("it was tried", lambda: server.lists > 1)
        with pytest.raises(KubernetesUnavailable, match="refused"):
            watched.resources()
        server.down = None
        wait_until("it is known", lambda: watched.wait(0.1))
        server.down = KubernetesUnavailable(server.address, "gone")
        server.happens.put(server.down)
        wait_until("the trouble is seen", lambda: watched.trouble is not None)
        assert names(watched) == ["a"]


def test_the_copy_serves_a_start_without_the_server(tmp_path: Path) -> None:
    copy = tmp_path / "resources" / "sources.json"
    with watching(Script("a", "b"), copy) as watched:
        assert watched.wait(10)
        watched.save()
    server = Script()
    server.down = KubernetesUnavailable(server.address, "refused")
    with watching(server, copy) as watched:
        assert names(watched) == ["a", "b"]
        server.there, server.down = [made("b")], None
        wait_until("the list counts as soon as there is one", lambda: names(watched) == ["b"])


@pytest.mark.parametrize("text", ["", "{", "[1]", json.dumps([{"metadata": {}}])])
def test_a_broken_copy_is_no_obstacle(tmp_path: Path, text: str) -> None:
    copy = tmp_path / "sources.json"
    copy.write_text(text)
    with watching(Script("a"), copy) as watched:
        assert watched.wait(10)
        assert names(watched) == ["a"]


def test_what_we_removed_does_not_take_its_successor_along() -> None:
    server = Script("a")
    with watching(server) as watched:
        assert watched.wait(10)
        successor: dict[str, Any] = {**made("a", 30)}
        successor["metadata"] = {**successor["metadata"], "uid": "another"}
        watched.put(successor)
        watched.drop(made("a"))
        assert names(watched) == ["a"]


def test_an_answer_that_comes_after_the_watch_has_told_more_takes_nothing_back() -> None:
    """What we are answered and what the watch tells come by two connections."""
    server = Script("a", "b")
    with watching(server) as watched:
        assert watched.wait(10)
        server.happens.put(("MODIFIED", made("a", 31)))
        server.happens.put(("DELETED", made("b", 32)))
        wait_until("the watch has told both", lambda: watched.resources()[1] == [made("a", 31)])
        watched.update(made("a", 30))
        watched.update(made("b", 30))
        assert watched.resources()[1] == [made("a", 31)]
        watched.update(made("a", 33))
        assert watched.resources()[1] == [made("a", 33)]
