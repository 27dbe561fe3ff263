"""Whose turn it is at which destination, and exports that wait for theirs."""

import asyncio
import inspect
import threading
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from support.dicom_objects import make_objects
from support.dicom_peers import SUCCESS, ScriptedScp, free_port, pynetdicom_scp
from support.exports import Site, fetch
from temporalio.testing import ActivityEnvironment

from clara_dicom_adapter.activities import export_sending
from clara_dicom_adapter.activities.export_turns import Turns
from clara_dicom_adapter.clara.results import ResultTask
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import Peer
from clara_dicom_adapter.workflows.models import FetchInput, SendInput, SendResult

AGENT = "ClaraSCU"


async def settled() -> None:
    """Let everything run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


# ---- turns ----


async def test_a_full_destination_keeps_nobody_from_another() -> None:
    turns = Turns(4)
    assert await turns.take("slow", 2, 1) == 1
    assert await turns.take("slow", 2, 1) == 1
    third = asyncio.ensure_future(turns.take("slow", 2, 1))
    assert await asyncio.wait_for(turns.take("other", 2, 1), 5) == 1
    await settled()
    assert not third.done()
    turns.give_back("slow", 1)
    assert await asyncio.wait_for(third, 5) == 1


async def test_the_limit_over_all_destinations_is_kept_in_the_order_asked() -> None:
    turns = Turns(1)
    await turns.take("a", 2, 1)
    order: list[str] = []

    async def ask(name: str) -> None:
        await turns.take(name, 2, 1)
        order.append(name)

    waiting = [asyncio.ensure_future(ask(name)) for name in "bcb"]
    for _ in range(3):
        await settled()
        turns.give_back("a" if not order else order[-1], 1)
    await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert order == ["b", "c", "b"]


async def test_further_associations_are_given_only_while_nobody_waits() -> None:
    turns = Turns(4)
    assert await turns.take("a", 3, 10) == 3
    waits = asyncio.ensure_future(turns.take("a", 3, 10))
    await settled()
    assert turns.awaited("a")
    assert not turns.awaited("b")
    turns.give_back("a", 3)
    assert await asyncio.wait_for(waits, 5) == 3
    assert not turns.awaited("a")


async def test_who_gives_up_waiting_takes_nothing_away() -> None:
    turns = Turns(1)
    await turns.take("a", 1, 1)
    gone = asyncio.ensure_future(turns.take("a", 1, 1))
    granted_and_gone = asyncio.ensure_future(turns.take("a", 1, 1))
    last = asyncio.ensure_future(turns.take("a", 1, 1))
    await settled()
    gone.cancel()
    await settled()
    turns.give_back("a", 1)  # granted to the second, which is cancelled before it learns of it
    granted_and_gone.cancel()
    assert await asyncio.wait_for(last, 5) == 1


# ---- exports that wait for theirs ----


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, "", "http://127.0.0.1:1", "node")


def fetched(site: Site, activities: Any, files: list[Path], task_id: str, parameters: str = '"PACS"') -> SendInput:
    records = site.records()
    uris = site.add_payload(task_id, files)
    task = ResultTask(task_id, "job", "pipeline", task_id, parameters, "Pending", AGENT, 0, tuple(uris))
    records.offer(AGENT, task, records.report_mark())
    fetch(activities, FetchInput(task_id=task_id, agent=AGENT))
    return SendInput(task_id=task_id, agent=AGENT, destination="PACS")


def sending(activities: Any, request: SendInput) -> Coroutine[Any, Any, SendResult]:
    started = ActivityEnvironment().run(activities.send, request)
    assert inspect.iscoroutine(started)
    return started


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns are over as soon as another one waits."""
    monkeypatch.setattr(export_sending, "TURN_SECONDS", 0.0)


async def test_a_dead_destination_does_not_hold_up_another(site: Site, tmp_path: Path) -> None:
    """Twenty exports wait for a PACS that never answers; one to another PACS goes at once."""
    files = make_objects(tmp_path / "o", 2)
    released = threading.Event()

    def behave(scp: ScriptedScp, _number: int) -> bytes:
        released.wait(60)
        return SUCCESS

    activities = site.exports(site.records())
    with ScriptedScp(behave) as dead, pynetdicom_scp(files) as (alive, got):
        site.set_destinations(PACS=dead.peer, OTHER=alive)
        stuck = [
            asyncio.ensure_future(sending(activities, fetched(site, activities, files, f"t-{number}")))
            for number in range(20)
        ]
        request = fetched(site, activities, files, "other", '"OTHER"')
        result = await asyncio.wait_for(sending(activities, request.model_copy(update={"destination": "OTHER"})), 30)
        assert (result.sent, got.associations) == (2, 1)
        assert not any(each.done() for each in stuck)
        released.set()
        for each in stuck:
            each.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
    assert dead.associations <= 2


@pytest.mark.usefixtures("hurried")
async def test_exports_to_one_destination_take_turns(site: Site, tmp_path: Path) -> None:
    """A small export that came later does not wait for the end of a large one, and nothing is sent twice."""
    large, small = make_objects(tmp_path / "large", 60), make_objects(tmp_path / "small", 1, name="small-")
    started, small_waits = threading.Event(), threading.Event()

    def behave(scp: ScriptedScp, number: int) -> bytes:
        started.set()
        small_waits.wait(30)
        return SUCCESS

    activities = site.exports(site.records())
    with ScriptedScp(behave) as scp:
        site.set_destinations(PACS=scp.peer, limit=1)
        first = asyncio.ensure_future(sending(activities, fetched(site, activities, large, "large")))
        assert await asyncio.to_thread(started.wait, 30)
        second = asyncio.ensure_future(sending(activities, fetched(site, activities, small, "small")))
        while not activities.turns.awaited("pacs"):
            await asyncio.sleep(0.01)
        small_waits.set()
        assert (await asyncio.wait_for(second, 30)).sent == 1
        assert (await asyncio.wait_for(first, 30)).sent == 60
    uids = [read_meta(path).sop_instance_uid for path in (*large, *small)]
    assert sorted(scp.instances) == sorted(uids)
    assert scp.instances.index(uids[-1]) < 5


async def test_a_large_export_uses_the_associations_that_its_destination_allows(site: Site, tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", 100)
    together = threading.Barrier(3)
    first = threading.local()

    def behave(_event: object, _number: int) -> int:
        if not getattr(first, "seen", False):
            first.seen = True
            together.wait(30)  # each association in a thread of its own: three of them at once
        return 0x0000

    activities = site.exports(site.records())
    with pynetdicom_scp(files, answer=behave) as (peer, got):
        site.set_destinations(PACS=peer, limit=3)
        result = await asyncio.wait_for(sending(activities, fetched(site, activities, files, "t")), 60)
    assert (result.sent, result.failed) == (100, 0)
    assert got.associations == 3
    assert sorted(got.order) == sorted(read_meta(path).sop_instance_uid for path in files)


async def test_an_association_that_has_ended_is_another_exports_at_once(site: Site, tmp_path: Path) -> None:
    """One of three is kept waiting by its peer; the place of the other two is not."""
    files = make_objects(tmp_path / "o", 60)
    kept, released = threading.Event(), threading.Event()
    slow = read_meta(files[0]).sop_instance_uid

    def behave(event: Event, _number: int) -> int:
        assert isinstance(event.request, C_STORE)
        if event.request.AffectedSOPInstanceUID == slow:
            kept.set()
            released.wait(60)
        return 0x0000

    patient = {"maximumNumberOfAssociations": 3, "responseTimeoutSeconds": 60}
    activities = replace(site, scu=patient).exports(site.records())
    with pynetdicom_scp(files, answer=behave) as (peer, _), pynetdicom_scp(files) as (other, got):
        site.set_destinations(limit=3, PACS=peer, OTHER=other)
        first = asyncio.ensure_future(sending(activities, fetched(site, activities, files, "t")))
        try:
            assert await asyncio.to_thread(kept.wait, 30)
            requests = [fetched(site, activities, files[:1], name, '"OTHER"') for name in ("u", "v")]
            others = [sending(activities, request.model_copy(update={"destination": "OTHER"})) for request in requests]
            assert [each.sent for each in await asyncio.wait_for(asyncio.gather(*others), 30)] == [1, 1]
            assert not first.done()
        finally:
            released.set()
        assert (await asyncio.wait_for(first, 30)).sent == 60
    assert got.associations == 2


async def test_a_destination_that_allows_fewer_associations_than_configured_gets_all(
    site: Site, tmp_path: Path
) -> None:
    """What further associations could not send goes over the one that works."""
    files = make_objects(tmp_path / "o", 100)
    patient = {"connectRetries": 2, "connectRetryDelaySeconds": 0.1}
    activities = replace(site, scu={"export": patient}).exports(site.records())
    with pynetdicom_scp(files, associations=1) as (peer, got):
        site.set_destinations(PACS=peer, limit=4)
        result = await asyncio.wait_for(sending(activities, fetched(site, activities, files, "t")), 60)
    assert (result.sent, result.failed) == (100, 0)
    assert sorted(got.order) == sorted(read_meta(path).sop_instance_uid for path in files)


async def test_a_run_ends_when_its_time_is_over(site: Site, tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", 5)
    activities = replace(site, scu={"export": {"timeLimitSeconds": 0.001}}).exports(site.records())
    with pynetdicom_scp(files) as (peer, _):
        site.set_destinations(PACS=peer)
        result = await asyncio.wait_for(sending(activities, fetched(site, activities, files, "t")), 60)
    assert result.sent + result.failed == 5
    assert result.failed >= 4
    assert "not sent within 0.001 s" in result.message


@pytest.mark.timeout(60)  # it is the time limit that has to end this
async def test_a_run_ends_within_an_object_when_its_time_is_over(site: Site, tmp_path: Path) -> None:
    """The peer does not answer, for longer than there is time."""
    files = make_objects(tmp_path / "o", 2)
    impatient = {"responseTimeoutSeconds": 600, "export": {"timeLimitSeconds": 1}}
    activities = replace(site, scu=impatient).exports(site.records())
    with ScriptedScp(lambda _scp, _number: b"") as scp:
        site.set_destinations(PACS=scp.peer)
        result = await sending(activities, fetched(site, activities, files, "t"))
    assert (result.sent, result.failed) == (0, 2)
    assert "broken off by us, because the time limit is over; then not sent within 1 s" in result.message
    assert scp.aborts == 1


async def test_cancelling_ends_after_the_object_under_way(site: Site, tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", 5)
    second, cancelled = threading.Event(), threading.Event()

    def behave(_event: object, number: int) -> int:
        if number == 2:
            second.set()
            cancelled.wait(30)
        return 0x0000

    activities = site.exports(site.records())
    with pynetdicom_scp(files, answer=behave) as (peer, got):
        site.set_destinations(PACS=peer)
        request = fetched(site, activities, files, "t")
        running = asyncio.ensure_future(sending(activities, request))
        assert await asyncio.to_thread(second.wait, 30)
        running.cancel()
        await settled()
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(got.order) == 2
        assert (await sending(activities, request)).sent == 5
    assert len(got.order) == 5


async def test_nobody_there_is_told_after_its_attempts(site: Site, tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", 50)
    activities = site.exports(site.records())
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()), limit=4)
    result = await asyncio.wait_for(sending(activities, fetched(site, activities, files, "t")), 60)
    assert (result.sent, result.failed) == (0, 50)
    assert result.message.startswith("50 x no association with PACS: cannot connect")
