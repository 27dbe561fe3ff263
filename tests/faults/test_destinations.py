"""Destinations that misbehave beside one that does not.

After each run what the destinations hold, what the Results Service was told and what workflow and records say agree.
"""

import asyncio
import os
import signal
import subprocess
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.events import Event
from support import exports
from support.authority import Authority
from support.dicom_objects import make_objects
from support.dicom_peers import SUCCESS, ScriptedScp, free_port, pynetdicom_scp, storescp, tool
from support.exports import Site, worker
from support.orthanc import orthanc
from support.results_service import FakeResultsService
from support.site import wait_until
from temporalio.client import Client

from clara_dicom_adapter.clara.results import ResultTask
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import Peer
from clara_dicom_adapter.dicom.tls import TlsClient
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows import names
from clara_dicom_adapter.workflows.export import ExportWorkflow
from clara_dicom_adapter.workflows.models import DiscardInput, ExportInput, ExportStatus, Offered

AGENT = "ClaraSCU"
OBJECTS = 12
UNHEARD_OF = "1.2.840.10008.5.1.4.1.1.999"
NO_ROOM, NO_SUCH_CLASS = b"\x00\xa7", b"\x00\xa9"


@dataclass(frozen=True)
class Bad:
    """A destination that misbehaves.

    Attributes:
        holds: SOP instance UIDs that it has stored, as often as it has.
    """

    peer: Peer
    holds: Callable[[], Sequence[str]]


@dataclass(frozen=True)
class Expected:
    """What must come of it.

    Attributes:
        sent: How many objects the destination has confirmed.
        success: What the Results Service is told.
        reason: Part of what an operator is told.
        held: How many it has stored; None: what it has confirmed.
    """

    sent: int
    success: bool
    retry_later: bool = True
    reason: str = ""
    held: int | None = None


def uids(paths: Sequence[Path]) -> list[str]:
    return [read_meta(path).sop_instance_uid for path in paths]


# ---- destinations ----


@contextmanager
def scripted(behave: Callable[[int], bytes | None]) -> Iterator[Bad]:
    """One that holds what it answered with success."""
    held: list[str] = []

    def answer(scp: ScriptedScp, number: int) -> bytes | None:
        said = behave(number)
        if said == SUCCESS:
            held.append(scp.instances[-1])
        return said

    with ScriptedScp(answer) as scp:
        yield Bad(scp.peer, lambda: held)


@contextmanager
def dcmtk(folder: Path, *options: str, tls: TlsClient | None = None) -> Iterator[Bad]:
    with storescp(folder, "+B", *options) as peer:
        yield Bad(replace(peer, tls=tls), lambda: uids(sorted(folder.iterdir())))


def accepts_half(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del folder, files
    return scripted(lambda number: SUCCESS if number % 2 else NO_SUCH_CLASS)


def accepts_less_than_half(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del folder, files
    return scripted(lambda number: SUCCESS if number <= OBJECTS // 2 - 1 else NO_SUCH_CLASS)


def has_no_room_for_a_while(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del folder, files
    return scripted(lambda number: NO_ROOM if 3 <= number <= 4 else SUCCESS)


def has_no_room(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del folder, files
    return scripted(lambda _number: NO_ROOM)


def aborts_once(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del folder, files
    return scripted(lambda number: None if number == 5 else SUCCESS)


def aborts_always(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del files
    return dcmtk(folder, "--abort-during")


def aborts_before_each_reply(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del files
    return dcmtk(folder, "--abort-after")


@contextmanager
def stores_one_and_never_says_so(folder: Path, files: Sequence[Path]) -> Iterator[Bad]:
    """The object counts as failed, because nobody knows better."""
    del folder
    third = uids(files)[2]
    with ScriptedScp(lambda scp, _number: None if scp.instances[-1] == third else SUCCESS) as scp:
        yield Bad(scp.peer, lambda: scp.instances)


def never_answers(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del folder, files
    return scripted(lambda _number: b"")


def closes_after_each(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del folder, files
    return scripted(lambda number: SUCCESS if number % 2 else None)


def refuses_the_association(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del files
    return dcmtk(folder, "--refuse")


def accepts_no_context(folder: Path, files: Sequence[Path]) -> AbstractContextManager[Bad]:
    del files
    return dcmtk(folder, "+xi")  # the objects are in Explicit VR


@contextmanager
def has_the_wrong_certificate(folder: Path, files: Sequence[Path]) -> Iterator[Bad]:
    del files
    ours, theirs = Authority(folder.parent / "ours"), Authority(folder.parent / "theirs", "theirs", key=1)
    issued = theirs.issue("pacs")
    with dcmtk(folder, "+tls", str(issued.key), str(issued.certificate), "-ic", tls=TlsClient(ours.ca)) as bad:
        yield bad


BAD: Sequence[tuple[Any, Expected]] = (
    (accepts_half, Expected(6, success=True, reason="6 x status A900")),
    (accepts_less_than_half, Expected(5, success=False, reason="7 x status A900")),
    (has_no_room_for_a_while, Expected(OBJECTS, success=True)),
    (has_no_room, Expected(0, success=False, reason="12 x status A700")),
    (aborts_once, Expected(OBJECTS, success=True)),
    (aborts_always, Expected(0, success=False, reason="lost")),
    (aborts_before_each_reply, Expected(0, success=False, reason="lost")),
    (stores_one_and_never_says_so, Expected(OBJECTS - 1, success=True, reason="lost", held=OBJECTS)),
    (never_answers, Expected(0, success=False, reason="no answer in time")),
    (closes_after_each, Expected(OBJECTS, success=True)),
    (refuses_the_association, Expected(0, success=False, reason="Rejected (Permanent)")),
    (accepts_no_context, Expected(0, success=False, reason="12 x ")),
    (has_the_wrong_certificate, Expected(0, success=False, reason="certificate was not accepted")),
)


# ---- the runs ----


@pytest.fixture
def service() -> Iterator[FakeResultsService]:
    with FakeResultsService() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path, temporal_server: str, service: FakeResultsService) -> Site:
    node = uuid.uuid4().hex[:12]
    impatient = {
        "responseTimeoutSeconds": 0.5,
        "export": {"connectRetries": 2, "connectRetryDelaySeconds": 0.05},
    }
    return Site(tmp_path, temporal_server, service.url, node, queue=f"exports-{node}", scu=impatient)


@pytest.fixture
async def client(site: Site) -> AsyncIterator[Client]:
    client = await exports.connect(site.temporal)
    async with worker(site, client):
        yield client


async def offered(site: Site, client: Client, service: FakeResultsService, files: Sequence[Path]) -> Any:
    """Do what the poll does with a new task for both destinations."""
    task_id = str(uuid.uuid4())
    service.add(task_id, site.add_payload("p", files), '["BAD", "GOOD"]')
    pending = service.pending[task_id]
    task = ResultTask(task_id, "j", "q", "p", pending["parameters"], "Pending", AGENT, 0, tuple(pending["uris"]))
    assert site.records().offer(AGENT, task, 0) == 1
    return await client.start_workflow(
        ExportWorkflow.run,
        ExportInput(task_id=task_id, agent=AGENT),
        id=names.export(AGENT, task_id),
        task_queue=site.queue,
        start_signal="offered",
        start_signal_args=[Offered(offer=1)],
    )


def agree(
    site: Site, task_id: str, status: ExportStatus, held: dict[str, Sequence[str]], files: Sequence[Path]
) -> None:
    """Workflow and records say the same, and nothing counts as sent that the destination does not hold."""
    listing = Listing(open_engine("", DataFolder(site.root)))
    export = listing.get(Subject.EXPORT, task_id)
    told = {result.destination: result for result in status.destinations}
    by_records = {each["name"]: (each["delivered"], each["failed"]) for each in export["destinations"]}
    assert by_records == {name: (result.sent, result.failed) for name, result in told.items()}
    every = uids(files)
    for name, instances in held.items():
        page = listing.export_objects(task_id, Filter({"destination": [name]}, limit=1000))
        assert page.total == len(files)
        confirmed = {every[row["number"]] for row in page.items if row["delivered"]}
        unknown = {every[row["number"]] for row in page.items if row["verdict"] == "unknown"}
        assert confirmed <= set(instances)
        assert set(instances) - confirmed <= unknown, f"{name} holds what it has refused"


@pytest.mark.parametrize(("kind", "expected"), BAD, ids=[kind.__name__ for kind, _ in BAD])
async def test_a_bad_destination_is_told_as_it_is_and_harms_no_other(
    site: Site, client: Client, service: FakeResultsService, tmp_path: Path, kind: Any, expected: Expected
) -> None:
    files = make_objects(tmp_path / "objects", OBJECTS)
    with kind(tmp_path / "bad", files) as bad, pynetdicom_scp(files) as (good, got):
        site.set_destinations(BAD=bad.peer, GOOD=good)
        handle = await offered(site, client, service, files)
        result = await handle.result()
        status = await handle.query(ExportWorkflow.status)
        held = list(bad.holds())
    task_id = handle.id.removeprefix(f"export-{AGENT}-")
    assert service.reports == [
        (task_id, "success", None) if expected.success else (task_id, "failure", expected.retry_later)
    ]
    assert result.success == expected.success
    assert status.state == (State.EXPORTED if expected.success else State.EXPORT_FAILED)
    by_name = {each.destination: each for each in status.destinations}
    assert (by_name["BAD"].sent, by_name["GOOD"].sent) == (expected.sent, OBJECTS)
    assert expected.reason in status.message
    assert got.order == uids(files)
    assert len(set(held)) == (expected.sent if expected.held is None else expected.held)
    agree(site, task_id, status, {"BAD": held, "GOOD": got.order}, files)


async def test_orthanc_that_does_not_know_the_class_is_named_with_it(
    site: Site, client: Client, service: FakeResultsService, tmp_path: Path
) -> None:
    """Objects of the class it knows are stored; at a half, the task is a success, and the others are named."""
    known = make_objects(tmp_path / "objects", 2)
    strange = make_objects(tmp_path / "objects", 2, sop_class=UNHEARD_OF, name="strange")
    files = [*known, *strange]
    with (
        orthanc(tmp_path / "orthanc", UnknownSopClassAccepted=False) as one,
        ScriptedScp(lambda _scp, _number: SUCCESS) as good,
    ):
        site.set_destinations(BAD=Peer(one.ae_title, "127.0.0.1", one.dicom_port), GOOD=good.peer)
        handle = await offered(site, client, service, files)
        assert (await handle.result()).success
        status = await handle.query(ExportWorkflow.status)
        held = list(one.instances())
    assert sorted(held) == sorted(uids(known))
    assert UNHEARD_OF in status.message
    agree(site, handle.id.removeprefix(f"export-{AGENT}-"), status, {"BAD": held, "GOOD": good.instances}, files)


async def test_a_destination_is_killed_in_the_middle_and_comes_back(
    site: Site, client: Client, service: FakeResultsService, tmp_path: Path
) -> None:
    """dcmtk's storescp with kill -9; what it holds when it is back is everything."""
    files = make_objects(tmp_path / "objects", 300)
    folder, port = tmp_path / "bad", free_port()
    folder.mkdir()
    command = [tool("storescp"), "+B", "-od", str(folder), str(port)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    site.set_destinations(BAD=Peer("STORESCP", "127.0.0.1", port))
    patient = replace(site, node_id=f"{site.node_id}-b", queue=f"{site.queue}-b")
    patient = replace(patient, scu={"export": {"connectRetries": 20, "connectRetryDelaySeconds": 0.2}})
    first = subprocess.Popen(command, env=environment)
    second = None
    try:
        async with worker(patient, client):
            with pynetdicom_scp(files) as (good, got):
                site.set_destinations(BAD=Peer("STORESCP", "127.0.0.1", port), GOOD=good)
                handle = await offered(patient, client, service, files)
                await asyncio.to_thread(wait_until, "it has some", lambda: len(list(folder.iterdir())) > 40)
                first.send_signal(signal.SIGKILL)
                first.wait(10)
                second = subprocess.Popen(command, env=environment)
                result = await handle.result()
                status = await handle.query(ExportWorkflow.status)
    finally:
        for process in filter(None, (first, second)):
            process.kill()
            process.wait(10)
    assert (result.success, result.sent) == (True, 600)
    held = uids(sorted(folder.iterdir()))
    assert sorted(held) == sorted(uids(files))
    assert Counter(got.order) == Counter(uids(files))
    agree(site, handle.id.removeprefix(f"export-{AGENT}-"), status, {"BAD": held, "GOOD": got.order}, files)


async def test_what_was_refused_is_sent_when_the_service_offers_it_again_and_the_rest_is_not(
    site: Site, client: Client, service: FakeResultsService, tmp_path: Path
) -> None:
    """Until the last attempt, which waits for a person."""
    files = make_objects(tmp_path / "objects", 10)
    refused = set(uids(files)[:6])
    answers: list[str] = []

    def behave(event: Event, _number: int) -> int:
        request: Any = event.request
        answers.append(str(request.AffectedSOPInstanceUID))
        return 0xA900 if answers[-1] in refused else 0x0000

    with pynetdicom_scp(files, answer=behave) as (bad, _), pynetdicom_scp(files) as (good, got):
        site.set_destinations(BAD=bad, GOOD=good)
        handle = await offered(site, client, service, files)
        task_id = handle.id.removeprefix(f"export-{AGENT}-")
        await handle.result()
        for _ in range(3):
            pending = service.pending[task_id]
            uris, retries = tuple(pending["uris"]), pending["retries"]
            task = ResultTask(task_id, "j", "q", "p", pending["parameters"], "Pending", AGENT, retries, uris)
            records = site.records()
            number = records.offer(AGENT, task, records.report_mark())
            assert number is not None
            handle = await client.start_workflow(
                ExportWorkflow.run,
                ExportInput(task_id=task_id, agent=AGENT),
                id=handle.id,
                task_queue=site.queue,
                start_signal="offered",
                start_signal_args=[Offered(offer=number)],
            )
            if retries < 3:
                await handle.result()
        while (await handle.query(ExportWorkflow.status)).state != State.NEEDS_ATTENTION:
            await asyncio.sleep(0.05)
        await handle.execute_update(ExportWorkflow.discard, DiscardInput(reason="the PACS does not want them"))
        await handle.result()
        status = await handle.query(ExportWorkflow.status)
    assert [later for _, _, later in service.reports] == [True, True, True, False]
    assert Counter(answers) == Counter({uid: 4 if uid in refused else 1 for uid in uids(files)})
    assert got.order == uids(files)
    assert [(each.destination, each.sent) for each in status.destinations] == [("BAD", 4), ("GOOD", 10)]
