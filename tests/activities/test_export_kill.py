"""What an export knows after its worker was killed: which objects were on their way."""

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from support.dicom_objects import make_objects
from support.dicom_peers import SUCCESS, ScriptedScp, pynetdicom_scp
from support.dicomweb_service import Answer, everything, serving
from support.export_pass import sending
from support.exports import Site, fetch
from temporalio.testing import ActivityEnvironment

from clara_dicom_adapter.activities.export_folder import ExportFolders
from clara_dicom_adapter.activities.export_journal import ALL_LANES, KILLED, History, Journal, Outcome
from clara_dicom_adapter.activities.export_ledger import Ledger
from clara_dicom_adapter.activities.export_sending import Route, Sending
from clara_dicom_adapter.activities.export_turns import Turns
from clara_dicom_adapter.clara.results import ResultTask
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.dicom.delivery import UnderWay
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import Peer, SendSettings, TimeLimits, Verdict
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.listing import Filter, Listing
from clara_dicom_adapter.workflows.models import FetchInput, SendInput, SendResult

AGENT = "ClaraSCU"
SEND = SendInput(task_id="t", agent=AGENT, destination="PACS")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, "", "http://127.0.0.1:1", "node")


def downloaded(site: Site, files: list[Path], destination: str = "PACS") -> None:
    records = site.records()
    uris = tuple(site.add_payload("p", files))
    task = ResultTask("t", "job", "pipeline", "p", destination, "Pending", AGENT, 0, uris)
    records.offer(AGENT, task, records.report_mark())
    fetch(site.exports(records), FetchInput(task_id="t", agent=AGENT))


def send(site: Site, request: SendInput = SEND) -> SendResult:
    return asyncio.run(ActivityEnvironment().run(site.exports(site.records()).send, request))


def shown(site: Site) -> Sequence[Mapping[str, Any]]:
    """What an operator is shown of the objects that have been sent."""
    engine = open_engine("", DataFolder(site.root))
    page = Listing(engine).export_objects("t", Filter({}, limit=1000))
    engine.dispose()
    return page.items


def history(site: Site) -> History:
    return ExportFolders(site.root / site.node_id).of("t").journal("PACS").read()


# ---- a worker that is killed ----


def test_the_object_that_was_on_its_way_when_the_worker_was_killed_is_unknown_until_it_is_sent_again(
    site: Site, tmp_path: Path
) -> None:
    files = make_objects(tmp_path / "o", 6)
    on_its_way, killed = threading.Event(), threading.Event()

    def behave(_scp: ScriptedScp, number: int) -> bytes:
        if number == 3:
            on_its_way.set()
            assert killed.wait(30)
        return SUCCESS

    with ScriptedScp(behave) as scp:
        site.set_destinations(1, PACS=scp.peer)
        downloaded(site, files)
        with sending(site, SEND) as process:
            assert on_its_way.wait(30)
            process.kill()
            process.wait(10)
        killed.set()
    assert history(site).lost == {2: KILLED}

    result = send(site)  # nobody is there any more
    assert (result.sent, result.failed) == (2, 4)
    assert [row["verdict"] for row in shown(site)] == ["stored"] * 2 + ["unknown"] + ["not-sent"] * 3
    assert shown(site)[2]["reason"].startswith(f"{KILLED}; then ")
    assert f"1 x {KILLED}" in result.message

    # the next offer finds nobody either, and the PACS may have it all the same
    send(site, SEND.model_copy(update={"offer": 2}))
    assert [row["verdict"] for row in shown(site)] == ["stored"] * 2 + ["unknown"] + ["not-sent"] * 3

    # nor does another node, which has no journal
    site.set_destinations(1, PACS=Peer("PACS", "127.0.0.1", 1))
    other = Site(site.root, "", site.results, "other")
    fetch(other.exports(other.records()), FetchInput(task_id="t", agent=AGENT))
    send(other, SEND.model_copy(update={"offer": 3}))
    assert shown(site)[2]["verdict"] == "unknown"
    assert shown(site)[2]["reason"].count("; then ") == 1

    with pynetdicom_scp(files) as (peer, got):
        site.set_destinations(1, PACS=peer)
        assert send(site, SEND.model_copy(update={"offer": 4})).sent == 6
    assert got.order == [read_meta(path).sop_instance_uid for path in files[2:]]
    assert {row["verdict"] for row in shown(site)} == {"stored"}
    assert history(site).lost == {}


def test_the_requests_that_were_on_their_way_when_the_worker_was_killed_are_unknown(site: Site, tmp_path: Path) -> None:
    """Two lanes of 60: one has 50 confirmed and 10 on their way, the other has 50 on their way."""
    files = make_objects(tmp_path / "o", 120)
    on_their_way, killed = threading.Barrier(3), threading.Event()

    def answer(uids: list[str], number: int) -> Answer | None:
        if number == 1:
            return everything(uids, number)
        on_their_way.wait(30)
        assert killed.wait(30)
        return None

    with serving(answer) as service:
        site.set_destinations(web=[service.peer])
        downloaded(site, files, "WEB")
        request = SEND.model_copy(update={"destination": "WEB"})
        with sending(site, request) as process:
            on_their_way.wait(30)
            process.kill()
            process.wait(10)
        killed.set()
    result = send(site, request)
    assert (result.sent, result.failed) == (50, 70)
    assert Counter(row["verdict"] for row in shown(site)) == {"stored": 50, "unknown": 60, "not-sent": 10}


# ---- between two turns ----


async def test_what_was_lost_in_one_turn_is_written_down_before_the_next(site: Site, tmp_path: Path) -> None:
    """The turn ends, and somebody else has the associations."""
    files = make_objects(tmp_path / "o", 40)
    lost = read_meta(files[1]).sop_instance_uid  # over the second association, which does not try again

    begun, awaited = threading.Event(), threading.Event()

    def behave(event: Event, _number: int) -> int:
        begun.set()
        assert awaited.wait(30)
        assert isinstance(event.request, C_STORE)
        if str(event.request.AffectedSOPInstanceUID) == lost:
            event.assoc.abort()
        return 0x0000

    turns = Turns(2)
    with pynetdicom_scp(files, answer=behave) as (peer, _):
        site.set_destinations(PACS=peer)
        await asyncio.to_thread(downloaded, site, files)
        activities = site.exports(site.records())
        activities.turns = turns
        first = asyncio.ensure_future(ActivityEnvironment().run(activities.send, SEND))
        assert await asyncio.to_thread(begun.wait, 30)
        others = [asyncio.ensure_future(turns.take("pacs", 2, 1)) for _ in range(2)]
        await asyncio.sleep(0)  # they are in the queue
        awaited.set()
        await asyncio.wait_for(asyncio.gather(*others), 60)
        left = history(site)
        rows = shown(site)
        assert not first.done()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
    assert list(left.lost) == [1]
    assert KILLED not in left.lost[1]
    assert [(row["number"], row["reason"]) for row in rows if row["verdict"] == "unknown"] == [(1, left.lost[1])]


# ---- the journal ----


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "sent.log")


def stored(index: int) -> Outcome:
    return Outcome("1.1", index, Verdict.STORED, 0)


def test_of_an_association_only_the_first_without_a_result_is_on_its_way(journal: Journal) -> None:
    with journal.writer() as lines:
        lines.under_way("a", UnderWay([0, 2, 4], 1))
        lines.under_way("b", UnderWay([1, 3, 5], 1))
        lines.result(stored(0))
    assert journal.read().lost == {2: KILLED, 1: KILLED}


def test_what_a_lane_says_replaces_what_it_said_before(journal: Journal) -> None:
    with journal.writer() as lines:
        lines.under_way("a", UnderWay([0, 1], 2))
        lines.under_way("b", UnderWay([2], 1))
        lines.under_way("a", UnderWay(lost={1: "no answer in time"}))
    assert journal.read().lost == {1: "no answer in time", 2: KILLED}
    with journal.writer() as lines:
        lines.under_way(ALL_LANES, UnderWay(lost={2: KILLED}))
    assert journal.read().lost == {2: KILLED}


def test_a_result_ends_what_was_lost_before_it_and_not_what_is_sent_after_it(journal: Journal) -> None:
    with journal.writer() as lines:
        lines.result(Outcome("1.1", 0, Verdict.REFUSED, 0xA700))
        lines.under_way("a", UnderWay([0], 1, {1: "lost"}))
        lines.result(stored(1))
    assert journal.read().lost == {0: KILLED}


def test_a_line_that_was_cut_short_anywhere_does_not_count(journal: Journal, tmp_path: Path) -> None:
    path = tmp_path / "sent.log"
    for cut in range(2, 60):  # with only its end missing, a line is whole
        path.unlink(missing_ok=True)
        with journal.writer() as lines:
            lines.under_way("a", UnderWay([0], 1, {7: "{}"}))
            lines.under_way("b", UnderWay([1], 1, {8: "{}"}))
        path.write_bytes(path.read_bytes()[:-cut])
        with journal.writer() as lines:
            lines.result(stored(2))
        assert journal.read().lost == {0: KILLED, 7: "{}"}
        assert journal.read().outcomes == [stored(2)]


def test_the_journal_costs_one_line_an_object_and_a_few_a_pass(site: Site, tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", 19)
    downloaded_to = ExportFolders(site.root / site.node_id).of("t")
    downloaded_to.create("t", AGENT, ())
    with pynetdicom_scp(files) as (peer, _):
        ledger = Ledger(SEND, downloaded_to, site.records())
        route = Route("pacs", peer, SendSettings("SENDER", TimeLimits()), 1, 600)
        asyncio.run(_all(dict(enumerate(files)), ledger, route))
    (path,) = (site.root / site.node_id / "exports").glob("*/sent-*.log")
    assert len(path.read_bytes().splitlines()) == 19 + 3  # the pass begins, the association begins, and ends


async def _all(objects: dict[int, Path], ledger: Ledger, route: Route) -> None:
    with ThreadPoolExecutor(1) as threads:
        await Sending(objects, ledger, Turns(1), threads).to(route)
