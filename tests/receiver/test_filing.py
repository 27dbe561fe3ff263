"""The files of many small instances are made by the receiver's process, while the listener goes on receiving."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from support.listener_site import ListenerSite, listening
from support.receiver_wire import RELEASE_REQUEST, established, read_pdu, store_message, store_response
from support.site import wait_until

from clara_dicom_adapter.receiver.filing import AskedFiles, FilesMaker
from clara_dicom_adapter.receiver.reports import FilesMade, FilesWanted, Order, Report
from clara_dicom_adapter.spool.filing import CopyAt, Filer
from clara_dicom_adapter.spool.segment import SEGMENTS

COUNT = 60
A_COPY = CopyAt("00", 1, 4096)


class Held:
    """Whoever makes files waits until it may."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.may = threading.Event()
        self.may.set()
        self.made = threading.Event()
        self.refused: list[str] = []

    def around(self, make: Callable[[Filer, Sequence[CopyAt]], dict[int, str]]) -> Callable[..., Mapping[int, str]]:
        def make_files(filer: Filer, wanted: Sequence[CopyAt]) -> Mapping[int, str]:
            self.asked.append(len(wanted))
            assert self.may.wait(60)
            refused = make(filer, wanted)
            self.refused += refused.values()
            self.made.set()
            return refused

        return make_files


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    monkeypatch.setattr(Filer, "make", held.around(Filer.make))
    return held


@pytest.fixture(params=["flush", "os"])
def site(request: pytest.FixtureRequest, tmp_path: Path, held: Held) -> Iterator[ListenerSite]:
    """One listener with one segment."""
    del held
    storage = {"reconcileIntervalSeconds": 1, "preparedSpaceMB": 35, "durability": request.param}
    with listening(tmp_path, storage=storage, receivers=1) as site:
        wait_until("there is a segment", lambda: list((site.spool.root / SEGMENTS).glob("[0-9][0-9]")) != [])
        yield site


class Told:
    """Takes reports."""

    def __init__(self) -> None:
        self.reports: list[Report] = []

    def __call__(self, report: Report) -> bool:
        self.reports.append(report)
        return True


def send(site: ListenerSite, *, release: bool = True) -> None:
    with closing(established(site.service.port, seconds=60)) as connection:
        for number in range(COUNT):
            connection.sendall(store_message(f"1.2.{number}", 3000))
            assert store_response(connection)[1] == 0
        if release:
            connection.sendall(RELEASE_REQUEST)
            read_pdu(connection)


def stored(site: ListenerSite) -> list[int]:
    return [instance.sequence for folder in site.spool.associations() for instance in folder.stored()]


def parts(site: ListenerSite) -> list[Path]:
    return list((site.spool.root / "associations").glob("*/*.part"))


def test_many_are_made_by_the_receiver(site: ListenerSite, held: Held) -> None:
    send(site)
    wait_until("its outcome is written", lambda: all(each.outcome for each in site.spool.associations()), 30)
    assert stored(site) == list(range(1, COUNT + 1)), "the outcome waits for the names"
    assert held.asked
    assert min(held.asked) > 8
    assert held.refused == []
    assert parts(site) == []


def test_a_stop_waits_for_files_that_are_being_made(site: ListenerSite, held: Held) -> None:
    held.may.clear()
    sending = threading.Thread(target=send, args=(site,), daemon=True)
    sending.start()
    wait_until("files are wanted", lambda: bool(held.asked), 30)
    stopping = threading.Thread(target=site.service.stop, args=(5,), daemon=True)
    stopping.start()
    wait_until("it is being stopped", lambda: site.listeners.listening == 0, 30)
    held.may.set()
    stopping.join(60)
    sending.join(60)
    assert not stopping.is_alive()
    assert stored(site) == list(range(1, COUNT + 1))
    assert parts(site) == []


def test_what_a_dead_listener_has_wanted_is_made_by_the_recovery_alone(site: ListenerSite, held: Held) -> None:
    """Its files might be used, released and deleted by the time that the request is served."""
    held.may.clear()
    with closing(established(site.service.port, seconds=60)) as connection:
        for number in range(COUNT):
            connection.sendall(store_message(f"1.2.{number}", 3000))
            assert store_response(connection)[1] == 0
        wait_until("files are wanted", lambda: bool(held.asked), 30)
        (pid,) = site.listeners.pids
        os.kill(pid, signal.SIGKILL)
    wait_until("all is there", lambda: stored(site) == list(range(1, COUNT + 1)), 30)
    wait_until("it is over", lambda: all(folder.outcome is not None for folder in site.spool.associations()), 30)
    held.may.set()
    assert held.made.wait(30)
    assert set(held.refused) == {"the segment is blank"}
    assert len(held.refused) == held.asked[0]
    assert stored(site) == list(range(1, COUNT + 1))
    assert parts(site) == []


def test_a_receiver_that_goes_leaves_the_files_to_the_next() -> None:
    told = Told()
    asked = AskedFiles(told)
    made: list[Mapping[int, str]] = []
    asking = threading.Thread(target=lambda: made.append(asked.make([A_COPY, A_COPY])), daemon=True)
    asking.start()
    wait_until("it has asked", lambda: bool(told.reports), 30)
    asked.gone()
    asking.join(30)
    assert made == [{0: "the receiver has gone", 1: "the receiver has gone"}]
    assert asked.make([A_COPY]) == {0: "the receiver has gone"}, "nobody waits for one that has gone"


def test_each_is_told_of_what_it_has_wanted() -> None:
    answers: list[dict[int, str]] = [{}, {0: "no space"}, {}]
    left = list(answers)

    def answer(_report: Report) -> bool:  # before anybody waits for it
        asked.made(FilesMade(refused=left.pop(0)))
        return True

    asked = AskedFiles(answer)
    assert [asked.make([A_COPY]) for _ in answers] == answers


def test_whatever_goes_wrong_the_listener_is_answered() -> None:
    def fail(_wanted: Sequence[CopyAt]) -> Mapping[int, str]:
        raise MemoryError

    maker = FilesMaker(fail)
    answers: list[Order] = []
    maker.hear(FilesWanted([A_COPY, A_COPY]), answers.append)
    maker.close()
    assert answers == [FilesMade(refused={0: "MemoryError", 1: "MemoryError"})]
