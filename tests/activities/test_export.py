"""Rules, journal and activities of the export, one by one."""

import asyncio
import inspect
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support import exports
from support.dicom_objects import make_objects
from support.dicom_peers import SUCCESS, ScriptedScp, free_port
from support.exports import Site
from support.results_service import FakeResultsService
from temporalio import activity, workflow
from temporalio.client import WorkflowFailureError
from temporalio.common import RetryPolicy
from temporalio.service import RPCError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from clara_dicom_adapter.activities import interceptor
from clara_dicom_adapter.activities.export_folder import ExportFolders
from clara_dicom_adapter.activities.export_journal import Outcome
from clara_dicom_adapter.activities.export_rules import NoDestination, Rules, decide, destinations
from clara_dicom_adapter.activities.results import MORE_THAN_IN_FLIGHT, ResultsActivities
from clara_dicom_adapter.clara.results import ResultsServiceClient, ResultTask
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.dicom.delivery import ObjectResult
from clara_dicom_adapter.dicom.head import read_head
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import Peer, Verdict
from clara_dicom_adapter.errors import (
    DestinationUnknown,
    DownloadsLost,
    InvalidInstance,
    PlatformUnreachable,
    StorageFull,
)
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.exports import ExportRecords, OfferedTask
from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.records.trace import Tracer
from clara_dicom_adapter.workflows import names
from clara_dicom_adapter.workflows.models import (
    CleanInput,
    ExportDecision,
    FetchInput,
    FetchResult,
    PollerInput,
    ReportInput,
    SendInput,
    SendProgress,
    SendResult,
)

AGENT = "ClaraSCU"

# ---- rules ----


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ('"PACS1"', ("PACS1",)),
        ('"pacs1"', ("PACS1",)),
        ("PACS1", ("PACS1",)),
        ('["pacs2", "PACS1", "Pacs2"]', ("Pacs2", "PACS1")),
    ],
)
def test_destinations_are_named_in_any_case_and_form(parameters: str, expected: tuple[str, ...]) -> None:
    assert destinations(parameters, ["PACS1", "Pacs2"]) == expected


@pytest.mark.parametrize("parameters", ["", "  ", '""', "[]", "null"])
def test_parameters_without_a_destination(parameters: str) -> None:
    with pytest.raises(NoDestination, match="defaultDestination"):
        destinations(parameters, ["PACS1"])
    assert destinations(parameters, ["PACS1", "PACS2"], "pacs2") == ("PACS2",)
    with pytest.raises(DestinationUnknown):
        destinations(parameters, ["PACS1"], "PACS2")


def test_an_unknown_destination_is_told_with_the_known_ones() -> None:
    with pytest.raises(DestinationUnknown, match=r"'ARCHIVE'.*PACS1, PACS2"):
        destinations('["PACS1", "ARCHIVE"]', ["PACS2", "PACS1"])


def fetched(objects: int, downloaded: int, problem: str = "") -> FetchResult:
    return FetchResult(node_id="n", objects=objects, downloaded=downloaded, destinations=("A", "B"), problem=problem)


@pytest.mark.parametrize(
    ("what", "sent", "retries", "success", "retry_later"),
    [
        (fetched(4, 4), (4, 4), 0, True, False),
        (fetched(4, 4), (4, 2), 0, True, False),  # exactly half failed: no failure
        (fetched(4, 4), (4, 1), 0, False, True),  # the worst destination decides
        (fetched(4, 4), (4, 1), 2, False, True),
        (fetched(4, 4), (4, 1), 3, False, False),  # retries used up
        (fetched(4, 2), (2, 2), 0, True, False),
        (fetched(4, 2), (1, 2), 0, False, True),  # what was not downloaded counts as not sent
        (fetched(4, 1), (1, 1), 0, False, False),  # downloads over the threshold: final
        (fetched(0, 0), (0, 0), 0, True, False),  # empty on purpose
        (fetched(4, 0, "no such destination"), (0, 0), 0, False, False),
        (fetched(1, 1), (0, 1), 0, False, True),
    ],
)
def test_the_decision(what: FetchResult, sent: tuple[int, int], retries: int, success: bool, retry_later: bool) -> None:
    results = [SendResult(destination=name, sent=count, failed=0) for name, count in zip("AB", sent, strict=True)]
    decision = decide(what, results, Rules(failure_threshold=0.5, maximum_retries=3, retries=retries))
    assert (decision.success, decision.retry_later) == (success, retry_later)
    assert isinstance(decision, ExportDecision)


def test_a_threshold_of_zero_allows_no_failure() -> None:
    result = SendResult(destination="A", sent=99, failed=1, message="1 x status A700")
    decision = decide(fetched(100, 100), [result], Rules(failure_threshold=0, maximum_retries=3, retries=0))
    assert not decision.success
    assert decision.message == "A: 1 of 100 not stored (1 x status A700)"


# ---- folder and journal ----


def test_a_journal_line_that_a_crash_cut_short_does_not_count(tmp_path: Path) -> None:
    folder = ExportFolders(tmp_path).of("task")
    folder.create("task", AGENT, ())
    journal = folder.journal("PACS")
    with journal.writer() as lines:
        lines.result(Outcome("1.1", 0, Verdict.STORED, 0))
        lines.result(Outcome("1.1", 1, Verdict.REFUSED, 0xA700, "no room", "status A700"))
    (path,) = (tmp_path / "exports").glob("*/sent-*.log")
    path.write_bytes(path.read_bytes()[:-20])
    assert [outcome.index for outcome in journal.read().outcomes] == [0]
    with journal.writer() as lines:
        lines.result(Outcome("1.1", 2, Verdict.STORED, 0))
    assert [outcome.index for outcome in journal.read().outcomes] == [0, 2]
    assert [outcome.index for outcome in folder.journal("pacs").read().outcomes] == [0, 2]
    assert folder.journal("OTHER").read().outcomes == []


@pytest.mark.parametrize(
    "torn",
    [
        b'{"send": "1.1", "index": 1, "verdict": "refused", "comment": "{no room}',
        b'{"send": "1.1"}',
        b'{"send": "1.1", "index": 1, "verdict": "lost", "status": 0, "comment": "", "reason": ""}',
        b'{"send": "1.1", "index": "1", "verdict": "stored", "status": 0, "comment": "", "reason": ""}',
        b'{"lane": ""}',
        b'{"lane": "", "order": [0], "at_once": 1, "lost": []',
        b'{"lane": "", "order": {"0": 1}, "at_once": null, "lost": {}}',
        b"[]",
        b"}",
        b"\xff\x00}",
    ],
)
def test_a_journal_line_that_cannot_be_read_costs_no_other_one(tmp_path: Path, torn: bytes) -> None:
    """It ends like a whole one, as what a crash or a power cut leaves may."""
    folder = ExportFolders(tmp_path).of("task")
    folder.create("task", AGENT, ())
    journal = folder.journal("PACS")
    with journal.writer() as lines:
        lines.result(Outcome("1.1", 0, Verdict.STORED, 0))
    (path,) = (tmp_path / "exports").glob("*/sent-*.log")
    path.write_bytes(path.read_bytes() + torn)
    with journal.writer() as lines:
        lines.result(Outcome("1.1", 2, Verdict.STORED, 0))
    assert [outcome.index for outcome in journal.read().outcomes] == [0, 2]


def test_a_folder_that_was_left_of_an_offer_of_other_files_is_begun_anew(tmp_path: Path) -> None:
    folder = ExportFolders(tmp_path).of("task")
    folder.create("task", AGENT, ("a", "b"))
    with folder.journal("PACS").writer() as lines:
        lines.result(Outcome("1.1", 0, Verdict.STORED, 0))
    folder.object(0).write_bytes(b"a")
    folder.create("task", AGENT, ("a", "b"))
    assert list(folder.objects()) == [0]
    assert len(folder.journal("PACS").read().outcomes) == 1
    folder.create("task", AGENT, ("b", "a"))
    assert folder.objects() == {}
    assert folder.journal("PACS").read().outcomes == []
    assert folder.whose == (AGENT, "task")


def test_what_was_delivered_is_known_by_its_uri_when_a_task_is_offered_with_others(
    site: Site, records: ExportRecords, tmp_path: Path
) -> None:
    files = make_objects(tmp_path / "o", 4)
    first, second, third, fourth = site.add_payload("p", files)
    with ScriptedScp(lambda _scp, number: SUCCESS if number <= 2 else b"\x00\xa9") as scp:
        site.set_destinations(PACS=scp.peer)
        records.offer(AGENT, task([first, second, third]), 0)
        exports.fetch(site.exports(records), FETCH)
        assert run(site.exports(records).send, SEND).sent == 2
        records.reported("t-1", 1, success=False, retry_later=True, accepted=True, message="")
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        site.set_destinations(PACS=scp.peer)
        assert records.offer(AGENT, task([fourth, third, second]), records.report_mark()) == 2
        assert records.delivered("t-1", "PACS") == {2}
        exports.fetch(site.exports(records), FETCH)
        assert run(site.exports(records).send, SEND.model_copy(update={"offer": 2})).sent == 3
        assert len(scp.instances) == 2
    # an operator still sees what became of the one that is not asked for any more
    listing = Listing(open_engine("", DataFolder(site.root)))
    seen = [(row["number"], row["sop_instance_uid"]) for row in listing.export_objects("t-1", Filter({})).items]
    uids = [read_meta(path).sop_instance_uid for path in files]
    assert seen == [(0, uids[3]), (1, uids[2]), (2, uids[1]), (-1, uids[0])]
    assert listing.get(Subject.EXPORT, "t-1")["destinations"] == [{"name": "PACS", "delivered": 3, "failed": 0}]
    records.reported("t-1", 2, success=False, retry_later=True, accepted=True, message="")
    assert records.offer(AGENT, task([fourth]), records.report_mark()) == 3
    numbers = {row["sop_instance_uid"]: row["number"] for row in listing.export_objects("t-1", Filter({})).items}
    assert numbers == {uids[3]: 0, uids[0]: -1, uids[2]: -2, uids[1]: -3}
    assert records.delivered("t-1", "PACS") == {0}


def test_what_a_peer_says_is_journalled_as_the_records_can_store_it(tmp_path: Path) -> None:
    said = ObjectResult(0, tmp_path, Verdict.REFUSED, 0, 0xA700, "no\x00room", "code \ud800")
    outcome = Outcome.of("1.1", 0, said)
    assert (outcome.comment, outcome.reason) == ("no?room", "code ?")


def test_nothing_of_a_task_becomes_a_path(tmp_path: Path) -> None:
    folder = ExportFolders(tmp_path).of("../../etc")
    folder.create("../../etc", AGENT, ())
    (made,) = (tmp_path / "exports").iterdir()
    assert made.name.isalnum()
    assert folder.whose == (AGENT, "../../etc")


# ---- activities ----


@pytest.fixture
def service() -> Any:
    with FakeResultsService() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path, service: FakeResultsService) -> Site:
    return Site(tmp_path, "", service.url, "node")


@pytest.fixture
def records(site: Site) -> ExportRecords:
    return site.records()


def task(uris: Sequence[str], task_id: str = "t-1", retries: int = 0) -> ResultTask:
    return ResultTask(task_id, "job", "pipeline", "p", '"PACS"', "Pending", AGENT, retries, tuple(uris))


FETCH = FetchInput(task_id="t-1", agent=AGENT)
CLEAN = CleanInput(task_id="t-1")
SEND = SendInput(task_id="t-1", agent=AGENT, destination="PACS")


def run(function: Callable[..., Any], *arguments: Any) -> Any:
    result = ActivityEnvironment().run(function, *arguments)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def test_fetching_twice_is_fetching_once_and_what_is_no_dicom_counts_as_missing(
    site: Site, records: ExportRecords, tmp_path: Path
) -> None:
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", 1))
    text, empty = tmp_path / "report.txt", tmp_path / "empty.dcm"
    text.write_text("no DICOM")
    objects = make_objects(tmp_path / "o", 2)
    empty.write_bytes(objects[0].read_bytes()[: read_meta(objects[0]).dataset_offset])  # no dataset
    uris = [*site.add_payload("p", [*objects, text, empty]), "out/missing.dcm"]
    assert records.offer(AGENT, task(uris), records.report_mark()) == 1
    activities = site.exports(records)
    result = run(activities.fetch, FETCH)
    assert (result.objects, result.downloaded, result.destinations) == (5, 2, ("PACS",))
    downloaded = sorted((site.root / "node" / "exports").glob("*/*.dcm"))
    assert [path.name for path in downloaded] == ["0000.dcm", "0001.dcm"]
    times = [path.stat().st_mtime_ns for path in downloaded]
    assert run(activities.fetch, FETCH) == result
    assert [path.stat().st_mtime_ns for path in downloaded] == times
    tracer = Tracer(open_engine("", DataFolder(site.root)))
    for path in downloaded:
        head = read_head(path)
        for uid in (head.sop_instance_uid, head.series_instance_uid, head.study_instance_uid):
            assert {event.ids["task_id"] for event in tracer.trace(uid).events} == {FETCH.task_id}
    assert run(activities.clean, CLEAN).removed == 2
    assert run(activities.clean, CLEAN).removed == 0


def test_a_short_disk_stops_the_download_before_it_begins(site: Site, records: ExportRecords, tmp_path: Path) -> None:
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", 1))
    records.offer(AGENT, task(site.add_payload("p", make_objects(tmp_path / "o", 1))), 0)
    (site.root / "disk-full").touch()
    with pytest.raises(StorageFull):
        run(site.exports(records).fetch, FETCH)
    (site.root / "disk-full").unlink()
    (site.root / "platform-down").touch()
    with pytest.raises(PlatformUnreachable):
        run(site.exports(records).fetch, FETCH)
    assert not list((site.root / "node" / "exports").glob("*/*.dcm"))


@pytest.mark.parametrize(
    "trouble", [PlatformUnreachable("platform", "gone"), StorageFull("/data", 1, 2), OSError("disk")]
)
def test_downloads_that_break_off_do_not_fill_the_disk(
    site: Site, records: ExportRecords, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    """However often they are tried again; and what a process that was killed has begun goes with the next attempt."""
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", 1))
    records.offer(AGENT, task(site.add_payload("p", make_objects(tmp_path / "o", 2))), 0)
    activities = site.exports(records)
    whole = activities._downloads

    class BreaksOff:
        def download(self, payload_id: str, name: str, target: Path) -> int:
            target.write_bytes(b"x" * 1000)
            raise trouble

    monkeypatch.setattr(activities, "_downloads", BreaksOff())
    for _ in range(2):
        with pytest.raises(type(trouble)):
            run(activities.fetch, FETCH)
    (folder,) = (site.root / "node" / "exports").iterdir()
    assert [path.name for path in folder.iterdir()] == ["task.json"]
    for left in ("0000.0123.part", "0001.0123.part.part"):
        (folder / left).touch()
    monkeypatch.setattr(activities, "_downloads", whole)
    assert run(activities.fetch, FETCH).downloaded == 2
    assert sorted(path.name for path in folder.iterdir()) == ["0000.dcm", "0001.dcm", "task.json"]


def test_sending_twice_is_sending_once_and_a_new_pass_sends_what_failed(
    site: Site, records: ExportRecords, tmp_path: Path
) -> None:
    """The records alone suffice too: on another node, which has no journal."""
    files = make_objects(tmp_path / "o", 3)
    records.offer(AGENT, task(site.add_payload("p", files)), 0)
    answers = {2: b"\x00\xa7"}
    with ScriptedScp(lambda _scp, number: answers.get(number, SUCCESS)) as scp:
        site.set_destinations(PACS=scp.peer)
        run(site.exports(records).fetch, FETCH)
        beats: list[SendProgress] = []
        environment = ActivityEnvironment()
        environment.on_heartbeat = lambda *details: beats.extend(details)
        first = asyncio.run(environment.run(site.exports(records).send, SEND))
        assert (first.sent, first.failed, first.message) == (2, 1, "1 x status A700")
        assert beats[0] == SendProgress(done=0, failed=0, total=3)
        assert run(site.exports(records).send, SEND) == first
        assert len(scp.instances) == 3
        second = run(site.exports(records).send, SEND.model_copy(update={"round": 2}))
        assert (second.sent, second.failed) == (3, 0)
        assert scp.instances[3:] == scp.instances[1:2]
        elsewhere = replace(site, node_id="other").exports(records)
        run(elsewhere.fetch, FETCH)
        assert not list((site.root / "other" / "exports").glob("*/*.dcm"))  # nothing is left to be sent
        assert run(elsewhere.send, SEND.model_copy(update={"offer": 2})).sent == 3
        assert len(scp.instances) == 4


def test_sending_without_the_download_says_so(site: Site, records: ExportRecords) -> None:
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    records.offer(AGENT, task(["a"]), 0)
    with pytest.raises(DownloadsLost):
        run(site.exports(records).send, SEND)


async def test_the_sweep_keeps_what_a_workflow_still_needs(
    site: Site, records: ExportRecords, temporal_server: str
) -> None:
    client = await exports.connect(temporal_server)
    folders = ExportFolders(site.root / "node")
    wanted, over, unknown = (str(uuid.uuid4()) for _ in range(3))
    for task_id in (wanted, over, unknown):
        folders.of(task_id).create(task_id, AGENT, ())
    for task_id in (wanted, over):
        await client.start_workflow("ExportWorkflow", id=names.export(AGENT, task_id), task_queue="nobody")
    await client.get_workflow_handle(names.export(AGENT, over)).terminate()
    assert await site.exports(records).sweep(client) == 2
    assert [folder.whose for folder in folders.all()] == [(AGENT, wanted)]
    await client.get_workflow_handle(names.export(AGENT, wanted)).terminate()


# ---- poll and report ----


def test_a_report_is_made_once_and_a_stale_one_never(
    site: Site, records: ExportRecords, service: FakeResultsService
) -> None:
    service.add("t-1", [], '"PACS"')
    with ResultsServiceClient(service.url) as client:
        activities = ResultsActivities(None, client, records, 50)  # type: ignore[arg-type]
        records.offer(AGENT, task([]), records.report_mark())
        request = ReportInput(task_id="t-1", agent=AGENT, success=False, retry_later=True, offer=1)
        run(activities.report, request)
        run(activities.report, request)
        assert records.offer(AGENT, task([], retries=1), records.report_mark()) == 2
        run(activities.report, request)  # an attempt of the first offer that was thought dead
    assert service.reports == [("t-1", "failure", True)]
    assert records.is_open("t-1", 2)


async def test_an_answer_older_than_the_report_starts_nothing(
    site: Site, records: ExportRecords, service: FakeResultsService, temporal_server: str
) -> None:
    """The service says "pending" while the report is confirmed; the next answer counts again."""
    client = await exports.connect(temporal_server)
    task_id = str(uuid.uuid4())
    offered = task([], task_id)

    class Slow(ResultsServiceClient):
        looks = 0

        def pending(self, agent: str, size: int = 10) -> list[ResultTask]:
            self.looks += 1
            if self.looks == 1:  # the answer is made, and then the earlier run's report is confirmed
                records.reported(task_id, 1, success=False, retry_later=True, accepted=True, message="")
            return [offered]

    assert records.offer(AGENT, offered, records.report_mark()) == 1
    with Slow(service.url) as slow:
        activities = ResultsActivities(client, slow, records, 50)
        assert await activities._look(AGENT) == 0
        handle = client.get_workflow_handle(names.export(AGENT, task_id))
        with pytest.raises(RPCError, match="not found"):
            await handle.describe()
        assert await activities._look(AGENT) == 1
        assert await activities._look(AGENT) == 0
        await handle.terminate()
    assert records.is_open(task_id, 2)


async def test_a_task_that_cannot_be_stored_holds_up_no_other_one(
    site: Site, records: ExportRecords, service: FakeResultsService, temporal_server: str
) -> None:
    """However many of them the service lists first."""
    client = await exports.connect(temporal_server)
    good = str(uuid.uuid4())
    for number in range(MORE_THAN_IN_FLIGHT):
        service.add(f"bad-{number}", [], '"PACS"')
    service.add("no/id", [], '"PACS"')
    service.add(good, [], '"PACS"')

    class Picky(ExportRecords):
        def offer(self, agent: str, task: OfferedTask, mark: int) -> int | None:
            if task.task_id.startswith("bad-"):
                raise ValueError("the database does not take it")
            return super().offer(agent, task, mark)

    with ResultsServiceClient(service.url) as asked:
        picky = Picky(open_engine("", DataFolder(site.root)))
        activities = ResultsActivities(client, asked, picky, 50)
        with capture_logs() as logs:
            assert await activities._look(AGENT) == 0
            assert await activities._look(AGENT) == 1
            assert await activities._look(AGENT) == 0
    unusable = [entry["task_id"] for entry in logs if entry["event"] == "task_unusable"]
    assert unusable == [*(f"bad-{number}" for number in range(MORE_THAN_IN_FLIGHT)), ""]
    await client.get_workflow_handle(names.export(AGENT, good)).terminate()


async def test_the_poll_outlives_the_service_and_ends_with_its_worker(
    site: Site, records: ExportRecords, service: FakeResultsService
) -> None:
    service.down = True
    environment = ActivityEnvironment()
    beats = asyncio.Event()
    environment.on_heartbeat = lambda *_: beats.set()
    with ResultsServiceClient(service.url) as client:
        activities = ResultsActivities(None, client, records, 10)  # type: ignore[arg-type]
        polling = asyncio.ensure_future(environment.run(activities.poll, PollerInput(agent=AGENT)))
        await asyncio.wait_for(beats.wait(), 10)
        service.down = False
        while len(service.sizes) < 2:
            await asyncio.sleep(0.02)
        environment.worker_shutdown()
        assert (await asyncio.wait_for(polling, 10)).started == 0


# ---- errors ----


def test_errors_become_what_temporal_decides_by() -> None:
    permanent = interceptor.translate(InvalidInstance("x" * 5000))
    assert (permanent.type, permanent.non_retryable) == ("InvalidInstance", True)
    assert len(permanent.message) == interceptor.LONGEST_TEXT
    transient = interceptor.translate(StorageFull("/data", 1, 2))
    assert (transient.type, transient.non_retryable) == ("StorageFull", False)
    assert "must stay free" in transient.message


@activity.defn(name="leaks")
def leaks() -> None:
    try:
        raise ValueError("DOE^JOHN")
    except ValueError as error:
        raise KeyError("DOE^JANE") from error


@workflow.defn(name="RunsLeaks")
class RunsLeaks:
    @workflow.run
    async def run(self) -> None:
        await workflow.execute_activity(
            leaks, start_to_close_timeout=timedelta(seconds=10), retry_policy=RetryPolicy(maximum_attempts=1)
        )


async def test_the_text_of_a_foreign_error_and_of_a_cause_stays_out_of_history(temporal_server: str) -> None:
    client = await exports.connect(temporal_server)
    queue = f"leaks-{uuid.uuid4()}"
    with ThreadPoolExecutor(1) as threads:
        async with Worker(
            client,
            task_queue=queue,
            workflows=[RunsLeaks],
            activities=[leaks],
            activity_executor=threads,
            interceptors=[interceptor.ErrorInterceptor()],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            handle = await client.start_workflow(RunsLeaks.run, id=queue, task_queue=queue)
            with pytest.raises(WorkflowFailureError):
                await handle.result()
    history = (await handle.fetch_history()).to_json()
    assert "unexpected KeyError" in history
    assert "DOE" not in history
