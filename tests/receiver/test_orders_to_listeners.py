"""What the receiver tells its listeners gets there, however slow or broken they are; the test is the listener here."""

import errno
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.receiving import LOOPBACK
from support.site import wait_until

from clara_dicom_adapter.configuration.entities import Source
from clara_dicom_adapter.configuration.settings import ScpSettings, StorageSettings
from clara_dicom_adapter.log import LogSetup
from clara_dicom_adapter.receiver.known import KnownCopy
from clara_dicom_adapter.receiver.listeners import Keeper, ListenerProcesses
from clara_dicom_adapter.receiver.reports import ListenerSetup, Listening, Report

PATIENCE_SECONDS = 20


def known(title: str, count: int = 1) -> KnownCopy:
    return KnownCopy(sources=tuple(Source(ae_title=title, host_ip=LOOPBACK) for _ in range(count)))


LARGE = 20_000
"""So many sources are more than lies in a socket that nobody reads."""


class Child:
    """A listener process that a test plays."""

    pid = 2**22 + 1  # of nobody: above the largest there can be

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.connection.settimeout(PATIENCE_SECONDS)
        self.lines = connection.makefile("rb")
        self.returncode: int | None = None
        self._ended = threading.Event()

    def told(self) -> dict[str, Any]:
        """What it is told next."""
        told: dict[str, Any] = json.loads(self.lines.readline())
        return told

    def listens(self) -> None:
        self.connection.sendall(b'{"kind": "listening"}\n')

    def ends(self, status: int) -> None:
        self.returncode = status
        self._ended.set()
        self.lines.close()
        self.connection.close()

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("listener", timeout or 0)
        assert self.returncode is not None
        return self.returncode


class Nobody:
    """Hears of listeners, and does nothing."""

    def hear(self, listener: int, report: Report) -> None: ...

    def dying(self, listener: int) -> None: ...

    def died(self, listener: int) -> None: ...


class Failing:
    """Fails at whatever it hears, with what nobody expects or with what the system says."""

    def __init__(self) -> None:
        self.heard: SimpleQueue[str] = SimpleQueue()

    def hear(self, listener: int, report: Report) -> None:
        self.heard.put(report.kind)
        raise RuntimeError("nobody expected this") if isinstance(report, Listening) else OSError(errno.EMFILE, "full")

    def dying(self, listener: int) -> None:
        self.heard.put("dying")
        raise RuntimeError("nobody expected this")

    def died(self, listener: int) -> None:
        self.heard.put("died")
        raise RuntimeError("nobody expected this")


class Parent:
    """One listener, and who starts it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
        self.refusals: list[OSError] = []
        self.keeper: Keeper = Nobody()
        self._born: SimpleQueue[Child] = SimpleQueue()
        settings = ScpSettings.model_validate({"port": 0, "host": LOOPBACK, "receivers": 1})

        def spawn(command: Sequence[str], *, pass_fds: Sequence[int]) -> Child:
            del command
            if self.refusals:
                raise self.refusals.pop()
            child = Child(socket.fromfd(pass_fds[0], socket.AF_UNIX, socket.SOCK_STREAM))
            self._born.put(child)
            return child

        def setup(number: int, known: KnownCopy | None) -> ListenerSetup:
            return ListenerSetup(
                scp=settings,
                storage=StorageSettings(),
                spool=root,
                number=number,
                listeners=1,
                log=LogSetup(),
                known=known,
            )

        monkeypatch.setattr("clara_dicom_adapter.receiver.listeners.spawn", spawn)
        self.listeners = ListenerProcesses(settings, setup, lambda _copies: {})
        self._starting: threading.Thread | None = None

    def start(self, known: KnownCopy | None = None) -> None:
        """Have it started, which takes as long as the test takes to listen."""
        self._starting = _aside(lambda: self.listeners.start(self.keeper, known))

    def born(self) -> Child:
        """The next process that is started."""
        return self._born.get(timeout=PATIENCE_SECONDS)

    def stop(self, child: Child) -> None:
        """Have it stopped, as a listener that obeys."""
        assert self._starting is not None
        self._starting.join(PATIENCE_SECONDS)
        assert not self._starting.is_alive()
        stopping = _aside(lambda: self.listeners.stop(0))
        while child.told().get("kind") != "stop":
            pass
        child.ends(0)
        stopping.join(PATIENCE_SECONDS)
        assert not stopping.is_alive()


def _aside(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


@pytest.fixture
def parent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Parent:
    return Parent(monkeypatch, tmp_path)


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with capture_logs() as lines:
        yield lines


def titles(told: dict[str, Any]) -> set[str]:
    return {source["aeTitle"] for source in told["known"]["sources"]}


def test_a_setup_of_any_size_waits_for_a_listener_that_is_slow_to_begin_and_the_newest_order_follows(
    parent: Parent,
) -> None:
    parent.start(known("FIRST", LARGE))
    child = parent.born()
    for title in ("SECOND", "THIRD"):
        parent.listeners.know(known(title, LARGE))
    parent.listeners.log_levels({"receiver": "debug"})
    assert titles(child.told()) == {"FIRST"}
    assert (told := child.told())["kind"] == "know"
    assert titles(told) == {"THIRD"}
    assert child.told() == {"kind": "log_levels", "levels": {"receiver": "debug"}}
    child.listens()
    parent.stop(child)


def test_one_that_dies_before_it_has_read_its_setup_is_replaced(parent: Parent) -> None:
    parent.start(known("FIRST", LARGE))
    parent.born().ends(1)
    another = parent.born()
    assert titles(another.told()) == {"FIRST"}
    another.listens()
    parent.stop(another)


def test_one_that_cannot_be_started_is_tried_again(parent: Parent, logged: list[Any]) -> None:
    parent.refusals = [OSError(errno.EAGAIN, "no more processes"), OSError(errno.ENOMEM, "no more memory")]
    parent.start()
    child = parent.born()
    child.listens()
    child.told()
    parent.stop(child)
    reasons = [line["reason"] for line in logged if line["event"] == "listener_not_started"]
    assert reasons == ["no more memory", "no more processes"]


def test_a_receiver_that_fails_at_a_report_hears_the_next_and_replaces_who_dies(
    parent: Parent, logged: list[Any]
) -> None:
    parent.keeper = keeper = Failing()
    parent.start()
    child = parent.born()
    child.listens()
    child.connection.sendall(b'{"kind": "progress", "associations": []}\n' * 2)
    child.told()
    assert [keeper.heard.get(timeout=PATIENCE_SECONDS) for _ in range(3)] == ["listening", "progress", "progress"]
    child.ends(1)
    another = parent.born()
    another.listens()
    assert [keeper.heard.get(timeout=PATIENCE_SECONDS) for _ in range(3)] == ["dying", "died", "listening"]
    another.told()
    parent.stop(another)
    failed = [line["number"] for line in logged if line["event"] == "report_failed"]
    assert failed == [0] * 6


def test_one_that_takes_half_an_order_is_replaced_by_one_that_knows_the_newest(
    parent: Parent, logged: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clara_dicom_adapter.receiver.orders._HANGING_SECONDS", 1)
    parent.start(known("FIRST"))
    hanging = parent.born()
    hanging.told()
    hanging.listens()
    parent.listeners.know(known("SECOND", LARGE))
    wait_until("it is noticed", lambda: any(line["event"] == "listener_hangs" for line in logged), PATIENCE_SECONDS)
    parent.listeners.know(known("THIRD"))
    rest = hanging.lines.read()
    assert rest
    assert b"\n" not in rest, "nothing follows half an order"
    hanging.ends(1)
    another = parent.born()
    assert titles(another.told()) == {"THIRD"}
    another.listens()
    parent.stop(another)
