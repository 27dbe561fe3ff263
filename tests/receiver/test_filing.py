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
from clara_dicom_adapter.spool.filing import CopyAt, Filer, MakerGone
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


def test_who_asks_one_that_goes_hears_of_it() -> None:
    told = Told()
    asked = AskedFiles(told)
    heard: list[bool] = []

    def ask() -> None:
        with pytest.raises(MakerGone):
            asked.make([A_COPY])
        heard.append(True)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    wait_until("it has asked", lambda: bool(told.reports), 30)
    asked.gone()
    asking.join(30)
    assert heard == [True]
    with pytest.raises(MakerGone):  # nobody waits for one that has gone
        asked.make([A_COPY])


def test_each_is_told_of_what_it_has_wanted() -> None:
    answers: list[dict[int, str]] = [{}, {0: "no space"}, {}]
    left = list(answers)

    def answer(report: Report) -> bool:  # before anybody waits for it
        assert isinstance(report, FilesWanted)
        asked.made(FilesMade(number=report.number, refused=left.pop(0)))
        return True

    asked = AskedFiles(answer)
    assert [asked.make([A_COPY]) for _ in answers] == answers


def test_an_answer_to_something_else_is_none() -> None:
    """What could not be told at once may have been told all the same."""
    told: list[FilesWanted] = []

    def refuse_first(report: Report) -> bool:
        assert isinstance(report, FilesWanted)
        told.append(report)
        if len(told) == 1:
            raise MemoryError
        asked.made(FilesMade(number=told[0].number, refused={}))
        threading.Timer(0.05, lambda: asked.made(FilesMade(number=report.number, refused={0: "no space"}))).start()
        return True

    asked = AskedFiles(refuse_first)
    with pytest.raises(MemoryError):
        asked.make([A_COPY])
    assert asked.make([A_COPY]) == {0: "no space"}


class Channel:
    """To a listener that has asked."""

    def __init__(self) -> None:
        self.told: list[Order] = []
        self.given_up = 0

    def tell(self, order: Order) -> None:
        self.told.append(order)

    def give_up(self) -> None:
        self.given_up += 1


def test_a_listener_for_whom_there_is_no_answer_is_replaced() -> None:
    made: list[int] = []

    def fail_once(wanted: Sequence[CopyAt]) -> Mapping[int, str]:
        made.append(len(wanted))
        if len(made) == 1:
            raise MemoryError
        return {}

    maker, first, second = FilesMaker(fail_once), Channel(), Channel()
    maker.hear(FilesWanted(1, [A_COPY, A_COPY]), first)
    maker.hear(FilesWanted(7, [A_COPY]), second)
    maker.close()
    assert (first.told, first.given_up) == ([], 1)
    assert (second.told, second.given_up) == ([FilesMade(number=7, refused={})], 0)
