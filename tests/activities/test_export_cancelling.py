"""Exports that are cancelled, more than once, while threads of theirs are at work."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from support.dicom_objects import make_objects
from support.dicom_peers import SUCCESS, ScriptedScp, free_port

from clara_dicom_adapter.activities.export_ledger import Ledger, Notes
from clara_dicom_adapter.activities.export_sending import Route, Sending
from clara_dicom_adapter.activities.export_turns import Turns
from clara_dicom_adapter.activities.to_the_end import in_thread
from clara_dicom_adapter.dicom.sender import ObjectResult, Peer, SendSettings, TimeLimits

SETTINGS = SendSettings("SENDER", TimeLimits(connect=5, association=5, response=30), retries=0, retry_delay=0)
LONG_ENOUGH = 0.3
"""Seconds in which something that does not wait for a thread has ended."""


class HeldLedger:
    """Holds up the threads that open it, or that write the first result."""

    def __init__(self, held: str) -> None:
        self._held = held
        self.reached, self.released = threading.Event(), threading.Event()
        self.events: list[str] = []
        self._sent: set[int] = set()
        self.lost: dict[int, str] = {}

    def _hold(self, where: str) -> None:
        if where == self._held:
            self.reached.set()
            assert self.released.wait(30)

    def is_to_be_sent(self, index: int) -> bool:
        return index not in self._sent

    @contextmanager
    def writer(self) -> Iterator[Notes]:
        def write(index: int, _result: ObjectResult) -> None:
            self._hold("write")
            self.events.append("written")
            self._sent.add(index)

        self._hold("open")
        self.events.append("opened")
        yield Notes(write, lambda *_: None)
        self.events.append("closed")


@pytest.fixture
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def route(peer: Peer, time_limit: float = 600) -> Route:
    return Route("pacs", peer, SETTINGS, 1, time_limit)


def nobody() -> Peer:
    return Peer("NOBODY", "127.0.0.1", free_port())


async def goes_on(running: asyncio.Task[Any]) -> bool:
    done, _ = await asyncio.wait({running}, timeout=LONG_ENOUGH)
    return not done


async def cancelled_twice(running: asyncio.Task[Any]) -> None:
    for _ in range(2):
        running.cancel()
        assert await goes_on(running)


@pytest.mark.parametrize(
    ("held", "time_limit", "events"),
    [
        ("write", 600, ["opened", "written", "written", "closed"]),  # nobody there: what was not sent is written
        ("write", 0, ["opened", "written", "written", "closed"]),  # no time left: all is given up
        ("open", 600, ["opened", "closed"]),
    ],
)
async def test_a_journal_is_closed_when_nobody_writes_to_it_any_more(
    tmp_path: Path, threads: Executor, held: str, time_limit: float, events: list[str]
) -> None:
    """However often that is cancelled: its descriptor may be another file's by then."""
    ledger = HeldLedger(held)
    objects = dict(enumerate(make_objects(tmp_path / "o", 2)))
    sending = Sending(objects, cast(Ledger, ledger), Turns(1), threads)
    running = asyncio.create_task(sending.to(route(nobody(), time_limit)))
    try:
        assert await asyncio.to_thread(ledger.reached.wait, 30)
        await cancelled_twice(running)
    finally:
        ledger.released.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ledger.events == events


async def test_turns_are_given_back_when_their_associations_have_ended(tmp_path: Path, threads: Executor) -> None:
    second, released = threading.Event(), threading.Event()

    def behave(_scp: ScriptedScp, number: int) -> bytes:
        if number == 2:
            second.set()
            assert released.wait(30)
        return SUCCESS

    ledger, turns = HeldLedger(""), Turns(1)
    objects = dict(enumerate(make_objects(tmp_path / "o", 5)))
    with ScriptedScp(behave) as scp:
        sending = Sending(objects, cast(Ledger, ledger), turns, threads)
        running = asyncio.create_task(sending.to(route(scp.peer)))
        try:
            assert await asyncio.to_thread(second.wait, 30)
            await cancelled_twice(running)
            next_one = asyncio.create_task(turns.take("pacs", 1, 1))
            assert await goes_on(next_one)
        finally:
            released.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await asyncio.wait_for(next_one, 30) == 1
    assert ledger.events == ["opened", "written", "written", "closed"]
    assert len(scp.instances) == 2


async def test_what_fails_while_it_is_cancelled_is_the_cause_of_the_cancellation() -> None:
    begun, released = threading.Event(), threading.Event()

    def fails() -> None:
        begun.set()
        assert released.wait(30)
        raise OSError("the disk is full")

    running = asyncio.create_task(in_thread(fails))
    try:
        assert await asyncio.to_thread(begun.wait, 30)
        await cancelled_twice(running)
    finally:
        released.set()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await running
    assert "the disk is full" in str(cancelled.value.__cause__)
