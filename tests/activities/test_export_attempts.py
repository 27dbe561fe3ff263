"""Two attempts at once of one activity of an export: Temporal was away for longer than a heartbeat may take, and begins
anew what still goes on."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.events import Event
from support.dicom_objects import make_objects
from support.dicom_peers import pynetdicom_scp
from support.exports import Site, fetch
from temporalio.testing import ActivityEnvironment

from clara_dicom_adapter.clara.results import ResultTask
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import Peer
from clara_dicom_adapter.workflows.models import FetchInput, SendInput, SendResult

AGENT = "ClaraSCU"
FETCH = FetchInput(task_id="t", agent=AGENT)
SEND = SendInput(task_id="t", agent=AGENT, destination="PACS")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path, "", "http://127.0.0.1:1", "node")
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", 1))
    return site


def offered(site: Site, files: list[Path]) -> None:
    records = site.records()
    task = ResultTask("t", "job", "pipeline", "p", '"PACS"', "Pending", AGENT, 0, tuple(site.add_payload("p", files)))
    records.offer(AGENT, task, records.report_mark())


async def attempt(activities: Any, *, begun: threading.Event | None = None) -> SendResult:
    """Send, and tell of the first heartbeat."""
    environment = ActivityEnvironment()
    if begun:
        environment.on_heartbeat = lambda *_: begun.set()
    result: SendResult = await environment.run(activities.send, SEND)
    return result


async def test_a_second_attempt_at_sending_waits_for_the_first_and_sends_nothing_twice(
    site: Site, tmp_path: Path
) -> None:
    files = make_objects(tmp_path / "o", 30)
    offered(site, files)
    activities = site.exports(site.records())
    fetch(activities, FETCH)
    fifth, second_is_there = threading.Event(), threading.Event()

    def behave(_event: Event, number: int) -> int:
        if number == 5:
            fifth.set()
            assert second_is_there.wait(30)
        return 0x0000

    with pynetdicom_scp(files, answer=behave) as (peer, got):
        site.set_destinations(PACS=peer)
        first = asyncio.ensure_future(attempt(activities))
        assert await asyncio.to_thread(fifth.wait, 30)
        second = asyncio.ensure_future(attempt(activities, begun=second_is_there))
        results = await asyncio.wait_for(asyncio.gather(first, second), 60)
    assert [result.sent for result in results] == [30, 30]
    assert sorted(got.order) == sorted(read_meta(path).sop_instance_uid for path in files)


def test_two_attempts_at_downloading_do_not_write_into_one_file(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first has written half of an object when the second downloads them all; then it goes on."""
    files = make_objects(tmp_path / "o", 3)
    offered(site, files)
    activities = site.exports(site.records())
    whole = site.exports(site.records())

    class Slow:
        def download(self, payload_id: str, name: str, target: Path) -> int:
            content = (site.root / "payloads" / payload_id / name).read_bytes()
            with target.open("wb") as file:
                file.write(content[:500])
                file.flush()
                assert fetch(whole, FETCH).downloaded == 3
                assert contents() == [path.read_bytes() for path in files]
                file.write(content[500:])
            return len(content)

    def contents() -> list[bytes]:
        return [path.read_bytes() for path in sorted((site.root / "node" / "exports").glob("*/*.dcm"))]

    monkeypatch.setattr(activities, "_downloads", Slow())
    assert fetch(activities, FETCH).downloaded == 3
    assert contents() == [path.read_bytes() for path in files]
