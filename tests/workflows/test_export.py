"""The ExportWorkflow on a real Temporal server, with real activities, records, and Storage SCPs."""

import asyncio
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pynetdicom.events import Event
from sqlalchemy import delete
from support import exports
from support.dicom_objects import make_objects
from support.dicom_peers import SUCCESS, ScriptedScp, free_port, pynetdicom_scp
from support.dicomweb_service import Answer, serving, told
from support.exports import Site, worker
from support.results_service import FakeResultsService
from temporalio import activity
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import RetryPolicy

from clara_dicom_adapter.activities.export import ExportActivities
from clara_dicom_adapter.activities.export_download import DOWNLOADS_AT_ONCE
from clara_dicom_adapter.activities.export_journal import Lines, Outcome
from clara_dicom_adapter.activities.results import REPORTS_AT_ONCE
from clara_dicom_adapter.clara.results import ResultTask
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import Peer
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.records.submissions import SubmissionRecords
from clara_dicom_adapter.records.tables import ExportRow
from clara_dicom_adapter.temporal import attributes
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows import names, policies
from clara_dicom_adapter.workflows.export import ExportWorkflow
from clara_dicom_adapter.workflows.models import (
    DiscardInput,
    ExportInput,
    ExportResult,
    ExportStatus,
    HeldNode,
    JobPlan,
    JobRef,
    Offered,
    PinnedAeTitle,
    PollerInput,
    RetryInput,
    SendElsewhereInput,
    SendInput,
    SendResult,
    SubmissionInput,
)
from clara_dicom_adapter.workflows.results_poller import ResultsPollerWorkflow

AGENT = "ClaraSCU"
Value = TypeVar("Value")
Handle = WorkflowHandle[ExportWorkflow, ExportResult]


@pytest.fixture
def service() -> Iterator[FakeResultsService]:
    with FakeResultsService() as running:
        yield running


@pytest.fixture
def site(tmp_path: Path, temporal_server: str, service: FakeResultsService) -> Site:
    node = uuid.uuid4().hex[:12]
    return Site(tmp_path, temporal_server, service.url, node, queue=f"exports-{node}")


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_objects(tmp_path / "objects", 4)


async def until(look: Callable[[], Awaitable[Value]], good: Callable[[Value], bool], seconds: float = 60) -> Value:
    deadline = time.monotonic() + seconds
    while not good(value := await look()):
        assert time.monotonic() < deadline, value
        await asyncio.sleep(0.05)
    return value


async def in_state(handle: Handle, state: State) -> ExportStatus:
    return await until(lambda: handle.query(ExportWorkflow.status), lambda status: status.state == state)


def listed(site: Site) -> Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]:
    """Reads what ``clara dicom list exports`` lists."""
    listing = Listing(open_engine("", DataFolder(site.root)))

    async def look() -> Sequence[Mapping[str, Any]]:
        return listing.page(Subject.EXPORT, Filter({})).items

    return look


def impatient(monkeypatch: pytest.MonkeyPatch, *kinds: str) -> None:
    """Have activities of these policies repeated at once; for a worker that is not sandboxed."""
    for kind in kinds:
        config: dict[str, Any] = getattr(policies, kind)
        quick = replace(config["retry_policy"], initial_interval=timedelta(milliseconds=20))
        monkeypatch.setitem(config, "retry_policy", quick)


def hasty(monkeypatch: pytest.MonkeyPatch, seconds: float = 0.3) -> None:
    """Take a node for gone after so long; for a worker that is not sandboxed."""
    for kind in ("FETCH", "SEND", "CLEAN"):
        monkeypatch.setitem(getattr(policies, kind), "schedule_to_start_timeout", timedelta(seconds=seconds))
    monkeypatch.setattr(policies, "NODE_PATIENCE", timedelta(seconds=seconds))


async def start(
    site: Site, client: Client, service: FakeResultsService, uris: list[str], parameters: str, *, retries: int = 0
) -> Handle:
    """Do what the poll does with a new task, but on a queue of the test's own."""
    task_id = str(uuid.uuid4())
    service.add(task_id, uris, parameters, retries=retries)
    return await offer(site, client, service, task_id)


async def offer(site: Site, client: Client, service: FakeResultsService, task_id: str) -> Handle:
    pending = service.pending[task_id]
    task = ResultTask(
        task_id=task_id,
        job_id=pending["jobId"],
        pipeline_id=pending["pipelineId"],
        payload_id=pending["payloadId"],
        parameters=pending["parameters"],
        state="Pending",
        agent=AGENT,
        retries=pending["retries"],
        uris=tuple(pending["uris"]),
    )
    records = site.records()
    number = records.offer(AGENT, task, records.report_mark())
    assert number is not None
    return await client.start_workflow(
        ExportWorkflow.run,
        ExportInput(task_id=task_id, agent=AGENT),
        id=names.export(AGENT, task_id),
        task_queue=site.queue,
        start_signal="offered",
        start_signal_args=[Offered(offer=number)],
    )


def submitted(site: Site, job_id: str) -> None:
    """The job has been submitted by us, for the pipeline ``lung-seg`` of the AE title ``CLARA``."""
    engine = open_engine("", DataFolder(site.root))
    records = SubmissionRecords(engine)
    group = SubmissionInput(
        submission_id="submission-1",
        ae=PinnedAeTitle(ae_title="CLARA", name="CLARA", processor="ae-title"),
        calling_ae_title="CT1",
        nodes=(HeldNode(node_id="n1", instances=1, bytes=1),),
        instances=1,
        received_by="receive-1",
    )
    records.planned(group, [JobPlan(key="lung", pipeline="lung-seg", instances=1, bytes=1, nodes=("n1",))], {})
    records.created(JobRef(submission_id="submission-1", key="lung", job_id=job_id, payload_id="p"), "name")
    engine.dispose()


def uids(paths: list[Path]) -> list[str]:
    return [read_meta(path).sop_instance_uid for path in paths]


async def test_a_task_is_exported_to_every_destination_and_reported(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    client = await exports.connect(site.temporal)
    submitted(site, job_id="a" * 32)
    with pynetdicom_scp(files) as (one, got_one), pynetdicom_scp(files) as (two, got_two):
        site.set_destinations(PACS1=one, PACS2=two)
        async with worker(site, client):
            handle = await start(site, client, service, site.add_payload("p", files), '["pacs1", "PACS2"]')
            result = await handle.result()
            status = await handle.query(ExportWorkflow.status)
    assert result.success
    assert (result.sent, result.failed) == (8, 0)
    assert got_one.order == got_two.order == uids(files)
    assert [(outcome, later) for _, outcome, later in service.reports] == [("success", None)]
    assert status.state == State.EXPORTED
    assert status.reported
    assert not list((site.root / site.node_id / "exports").iterdir())
    description = await handle.describe()
    assert description.typed_search_attributes.get(attributes.STATE) == State.EXPORTED
    assert description.typed_search_attributes.get(attributes.DESTINATION) == ["PACS1", "PACS2"]
    assert description.typed_search_attributes.get(attributes.JOB_ID) == ["a" * 32]
    assert description.typed_search_attributes.get(attributes.INSTANCES) == 4
    assert description.typed_search_attributes.get(attributes.PIPELINE) == ["lung-seg"]
    assert description.typed_search_attributes.get(attributes.AE_TITLE) == "CLARA"


async def test_an_export_of_a_job_that_is_not_ours_shows_the_id_of_its_pipeline(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files) as (peer, _):
        site.set_destinations(PACS=peer)
        async with worker(site, client):
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"')
            await handle.result()
    shown = (await handle.describe()).typed_search_attributes
    assert shown.get(attributes.PIPELINE) == ["b" * 32]
    assert shown.get(attributes.AE_TITLE) is None


async def test_history_holds_no_uids_no_names_of_files_and_stays_small(
    site: Site, service: FakeResultsService, tmp_path: Path
) -> None:
    files = make_objects(tmp_path / "objects", 200)
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files) as (peer, _):
        site.set_destinations(PACS=peer)
        async with worker(site, client):
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"')
            await handle.result()
    history = (await handle.fetch_history()).to_json()
    assert len(history) < 30_000
    assert files[0].name not in history
    assert uids(files)[0] not in history


async def test_what_failed_is_sent_again_when_the_service_offers_the_task_again(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    """Three of four are refused at first: a failure with RetryLater, and only those three go out the next time."""
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files, answer=lambda _event, number: 0xA700 if 2 <= number <= 4 else 0x0000) as (peer, got):
        site.set_destinations(PACS=peer)
        async with worker(site, client):
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"')
            first = await handle.result()
            task_id = first.task_id
            again = await offer(site, client, service, task_id)
            second = await again.result()
    assert not first.success
    assert "3 of 4 not stored (3 x status A700)" in first.message
    assert second.success
    assert Counter(got.order) == Counter(uids(files) + uids(files)[1:])
    assert service.reports == [(task_id, "failure", True), (task_id, "success", None)]


async def test_exactly_half_failed_is_a_success(site: Site, service: FakeResultsService, files: list[Path]) -> None:
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files, answer=lambda _event, number: 0xA700 if number > 2 else 0x0000) as (peer, _):
        site.set_destinations(PACS=peer)
        async with worker(site, client):
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"')
            result = await handle.result()
    assert (result.success, result.sent, result.failed) == (True, 2, 2)


async def test_a_final_failure_waits_for_a_person_and_retry_sends_what_failed(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    client = await exports.connect(site.temporal)
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    async with worker(site, client):
        handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=3)
        status = await in_state(handle, State.NEEDS_ATTENTION)
        assert status.reported
        assert [(outcome, later) for _, outcome, later in service.reports] == [("failure", False)]
        with pytest.raises(WorkflowUpdateFailedError):
            await handle.execute_update(ExportWorkflow.retry, RetryInput(item="ELSEWHERE"))
        shutil.rmtree(site.root / "payloads")  # as the platform does after hours; the objects were kept
        with pynetdicom_scp(files) as (peer, got):
            site.set_destinations(PACS=peer)
            answer = await handle.execute_update(ExportWorkflow.retry, RetryInput())
            result = await handle.result()
            status = await handle.query(ExportWorkflow.status)
    assert answer.changed == 4
    assert "nothing more is told" in answer.message
    assert result.success
    assert got.order == uids(files)
    assert len(service.reports) == 1
    assert status.state == State.EXPORTED
    assert "the Results Service knows it as failed" in status.notes[-1]
    assert not list((site.root / site.node_id / "exports").iterdir())


async def test_the_temporal_ui_says_what_a_person_can_do(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    """Its page of the workflow: the details while it waits, and the updates with their descriptions."""
    client = await exports.connect(site.temporal)
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    updates = {"retry", "send_elsewhere", "discard"}
    async with worker(site, client):
        handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=3)
        await in_state(handle, State.NEEDS_ATTENTION)
        shown = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
        assert {update.name for update in shown.definition.update_definitions if update.description} == updates
        assert {query.name for query in shown.definition.query_definitions} >= {"status"}
        assert all(f"`{update}`" in shown.current_details for update in updates)
        await handle.execute_update(ExportWorkflow.discard, DiscardInput())
        await handle.result()
        shown = await handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    assert shown.current_details == ""


async def test_what_was_confirmed_before_sending_failed_in_an_unforeseen_way_counts(
    site: Site, service: FakeResultsService, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal's disk is broken from the second object on."""
    twice = RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=2)
    monkeypatch.setitem(policies.SEND, "retry_policy", twice)
    write = Lines.result

    def broken(lines: Lines, outcome: Outcome) -> None:
        if outcome.index > 0:
            raise OSError("Input/output error")
        write(lines, outcome)

    monkeypatch.setattr(Lines, "result", broken)
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files) as (peer, got):
        site.set_destinations(PACS=peer)
        async with worker(site, client, sandboxed=False):
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"')
            await handle.result()
            status = await handle.query(ExportWorkflow.status)
    first, second, *_ = uids(files)
    assert got.order == [first, second, second]
    (told,) = status.destinations
    assert (told.sent, told.failed) == (1, 3)
    assert "PACS: 3 of 4 not stored (sending failed: unexpected OSError" in status.message
    assert [(outcome, later) for _, outcome, later in service.reports] == [("failure", True)]


async def test_an_unknown_destination_is_named_and_can_be_added(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files) as (peer, got):
        site.set_destinations(PACS=peer)
        async with worker(site, client):
            handle = await start(site, client, service, site.add_payload("p", files), '"ARCHIVE"')
            status = await in_state(handle, State.NEEDS_ATTENTION)
            assert "'ARCHIVE'" in status.message
            assert "PACS" in status.message
            assert [(outcome, later) for _, outcome, later in service.reports] == [("failure", False)]
            shutil.rmtree(site.root / "payloads")  # as the platform does after hours; the objects are here by then
            site.set_destinations(PACS=peer, Archive=peer)
            await handle.execute_update(ExportWorkflow.retry, RetryInput())
            assert (await handle.result()).success
    assert got.order == uids(files)


async def test_a_person_can_have_an_export_sent_to_another_destination(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    """Everything goes there, also when another destination has it; an unknown name changes nothing."""
    client = await exports.connect(site.temporal)
    nobody = Peer("PACS", "127.0.0.1", free_port())
    with pynetdicom_scp(files) as (good, got), pynetdicom_scp(files) as (backup, got_instead):
        site.set_destinations(GOOD=good, PACS=nobody, Backup=backup)
        async with worker(site, client):
            handle = await start(site, client, service, site.add_payload("p", files), '["GOOD", "PACS"]', retries=3)
            status = await in_state(handle, State.NEEDS_ATTENTION)
            assert [(each.destination, each.sent) for each in status.destinations] == [("GOOD", 4), ("PACS", 0)]
            with pytest.raises(WorkflowUpdateFailedError):
                await handle.execute_update(
                    ExportWorkflow.send_elsewhere, SendElsewhereInput(destination="backup", instead_of="OTHER")
                )
            await handle.execute_update(ExportWorkflow.send_elsewhere, SendElsewhereInput(destination="typo"))
            status = await until(lambda: handle.query(ExportWorkflow.status), lambda status: "'typo'" in status.message)
            await in_state(handle, State.NEEDS_ATTENTION)
            answer = await handle.execute_update(
                ExportWorkflow.send_elsewhere, SendElsewhereInput(destination="backup")
            )
            result = await handle.result()
            status = await handle.query(ExportWorkflow.status)
    assert answer.changed == 4
    assert result.success
    assert got.order == got_instead.order == uids(files)
    assert [(each.destination, each.sent) for each in status.destinations] == [("GOOD", 4), ("Backup", 4)]
    assert "sent to backup instead of PACS, as a person asked" in status.notes
    assert len(service.reports) == 1


async def test_a_dicomweb_service_is_a_destination_like_any_other(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    """What it refuses is told object by object, and only that is sent again."""
    client = await exports.connect(site.temporal)
    refused = uids(files)[:3]

    def refuses(instances: list[str], number: int) -> Answer:
        failed = [] if number > 1 else [uid for uid in instances if uid in refused]
        return 202, told([uid for uid in instances if uid not in failed], dict.fromkeys(failed, 0xA900))

    with serving(refuses) as web, pynetdicom_scp(files) as (peer, got):
        site.set_destinations(PACS=peer, web=[web.peer])
        async with worker(site, client):
            handle = await start(site, client, service, site.add_payload("p", files), '["PACS", "web"]', retries=3)
            status = await in_state(handle, State.NEEDS_ATTENTION)
            assert [(each.destination, each.sent) for each in status.destinations] == [("PACS", 4), ("WEB", 1)]
            assert "WEB: 3 of 4 not stored (3 x status A900)" in status.message
            await handle.execute_update(ExportWorkflow.retry, RetryInput(item="WEB"))
            assert (await handle.result()).success
    assert web.requests == [uids(files), refused]
    assert got.order == uids(files)


async def test_a_task_without_a_destination_goes_to_the_default_one(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    site = replace(site, scu={"export": {"defaultDestination": "pacs"}})
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files) as (peer, got):
        site.set_destinations(PACS=peer)
        async with worker(site, client):
            handle = await start(site, client, service, site.add_payload("p", files), "")
            assert (await handle.result()).success
    assert got.order == uids(files)


@pytest.mark.parametrize("item", [None, "FIRST"])
async def test_only_the_destinations_of_the_newest_round_count(
    site: Site, service: FakeResultsService, files: list[Path], item: str | None
) -> None:
    """The default destination is another one when a person has the export sent again, even if he names the old one."""
    client = await exports.connect(site.temporal)
    nobody = Peer("FIRST", "127.0.0.1", free_port())
    with pynetdicom_scp(files) as (peer, got):
        site.set_destinations(FIRST=nobody, SECOND=peer)
        async with worker(replace(site, scu={"export": {"defaultDestination": "first"}}), client):
            handle = await start(site, client, service, site.add_payload("p", files), "", retries=3)
            await in_state(handle, State.NEEDS_ATTENTION)
        async with worker(replace(site, scu={"export": {"defaultDestination": "second"}}), client):
            await handle.execute_update(ExportWorkflow.retry, RetryInput(item=item))
            assert (await handle.result()).success
            status = await handle.query(ExportWorkflow.status)
    assert got.order == uids(files)
    assert [(each.destination, each.sent) for each in status.destinations] == [("SECOND", 4)]


async def test_a_destination_that_was_created_anew_in_another_case_is_the_same_one(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files, answer=lambda _event, number: 0xA900 if 2 <= number <= 4 else 0x0000) as (peer, got):
        site.set_destinations(PACS=peer)
        async with worker(site, client):
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=3)
            await in_state(handle, State.NEEDS_ATTENTION)
            site.set_destinations(Pacs=peer)
            await handle.execute_update(ExportWorkflow.retry, RetryInput(item="pacs"))
            assert (await handle.result()).success
            status = await handle.query(ExportWorkflow.status)
    assert Counter(got.order) == Counter(uids(files) + uids(files)[1:])
    assert [(each.destination, each.sent) for each in status.destinations] == [("Pacs", 4)]
    (row,) = await listed(site)()
    assert row["destinations"] == [{"name": "PACS", "delivered": 4, "failed": 0}]


async def test_a_parked_export_can_be_discarded(site: Site, service: FakeResultsService, files: list[Path]) -> None:
    client = await exports.connect(site.temporal)
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    async with worker(site, client):
        handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=3)
        await in_state(handle, State.NEEDS_ATTENTION)
        await handle.execute_update(ExportWorkflow.discard, DiscardInput(reason="study was sent by hand"))
        assert not (await handle.result()).success
        status = await handle.query(ExportWorkflow.status)
    assert status.state == State.DISCARDED
    assert "study was sent by hand" in status.notes[-1]
    assert not list((site.root / site.node_id / "exports").iterdir())


async def test_nobody_answers_and_the_objects_are_removed(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    site = replace(site, scu={"export": {"retentionHours": 0.0001}})
    client = await exports.connect(site.temporal)
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    async with worker(site, client):
        handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=3)
        assert not (await handle.result()).success
        status = await handle.query(ExportWorkflow.status)
    assert status.state == State.EXPORT_FAILED
    assert "objects were removed" in status.notes[-1]
    assert not list((site.root / site.node_id / "exports").iterdir())


async def test_a_parked_task_that_is_offered_anew_starts_over(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    client = await exports.connect(site.temporal)
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    async with worker(site, client):
        handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=3)
        await in_state(handle, State.NEEDS_ATTENTION)
        task_id = service.reports[0][0]
        with pynetdicom_scp(files) as (peer, _):
            site.set_destinations(PACS=peer)
            service.add(task_id, [f"out/{file.name}" for file in files], '"PACS"')
            await offer(site, client, service, task_id)
            assert (await handle.result()).success
    assert service.reports[1:] == [(task_id, "success", None)]


async def test_a_retry_of_a_task_that_the_records_have_lost_is_no_success_and_keeps_the_objects(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    """As when the database was restored from a backup."""
    client = await exports.connect(site.temporal)
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    async with worker(site, client):
        handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=3)
        await in_state(handle, State.NEEDS_ATTENTION)
        with open_engine("", DataFolder(site.root)).begin() as connection:
            connection.execute(delete(ExportRow))
        await handle.execute_update(ExportWorkflow.retry, RetryInput())
        status = await until(
            lambda: handle.query(ExportWorkflow.status), lambda status: "records do not know" in status.message
        )
        assert (status.objects, status.downloaded) == (4, 4)
        assert len(list((site.root / site.node_id / "exports").glob("*/*.dcm"))) == 4
        await in_state(handle, State.NEEDS_ATTENTION)
        await handle.execute_update(ExportWorkflow.discard, DiscardInput())
        assert not (await handle.result()).success


@pytest.mark.parametrize(
    ("gateway", "reason"),
    [
        (0, "503"),
        (401, "PUT /api/tasks/success/[^ ]+ was answered.* 401"),
        (404, "PUT /api/tasks/success/[^ ]+ was refused.* 404, while the service goes on offering the task"),
    ],
)
async def test_a_report_is_repeated_until_it_is_taken(
    site: Site,
    service: FakeResultsService,
    files: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    gateway: int,
    reason: str,
) -> None:
    """Whoever does not let it through; the reason is shown meanwhile, and the objects are sent once."""
    impatient(monkeypatch, "REPORT", "REPORT_WAITING")
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files) as (peer, got):
        site.set_destinations(PACS=peer)
        async with worker(site, client, sandboxed=False):
            service.down, service.gateway = not gateway, gateway
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"')
            status = await in_state(handle, State.WAITING_FOR_RESULTS_SERVICE)
            assert re.search(reason, status.notes[-1])
            (row,) = await until(listed(site), lambda rows: rows[0]["state"] == State.WAITING_FOR_RESULTS_SERVICE)
            assert re.search(reason, row["message"])
            assert site.records().in_flight(AGENT) == 1
            service.down, service.gateway = False, 0
            assert (await handle.result()).success
    assert got.order == uids(files)
    assert len(service.reports) == 1


async def test_a_task_the_service_has_forgotten_is_done(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files) as (peer, _):
        site.set_destinations(PACS=peer)
        async with worker(site, client):
            uris = site.add_payload("p", files)
            task_id = str(uuid.uuid4())
            service.add(task_id, uris, '"PACS"')
            service.forgotten.add(task_id)
            handle = await offer(site, client, service, task_id)
            assert (await handle.result()).success
            status = await handle.query(ExportWorkflow.status)
    assert "404" in status.notes[-1]
    assert site.records().in_flight(AGENT) == 0


def waits_for(reason: str) -> Callable[[ExportStatus], bool]:
    return lambda status: reason in status.message


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a download are short."""
    for kind in ("PLACE", "FETCH"):
        monkeypatch.setitem(getattr(policies, kind), "retry_policy", RetryPolicy(maximum_attempts=1))
    monkeypatch.setattr(policies, "FETCH_PAUSE", timedelta(milliseconds=100))


@pytest.mark.usefixtures("brief")
async def test_downloads_wait_for_whatever_is_away(
    site: Site, service: FakeResultsService, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Platform, space, database, Kubernetes, and a disk that is full before the rule of space sees it."""
    client = await exports.connect(site.temporal)

    class Disk(exports.FolderPlatform):
        def download(self, payload_id: str, name: str, target: Path) -> int:
            if (site.root / "no-room").exists():
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().download(payload_id, name, target)

    monkeypatch.setattr(exports, "FolderPlatform", Disk)
    waits = {
        "platform-down": "Clara Platform",
        "disk-full": " 1 must stay free",
        "database-down": "PostgreSQL database cannot be used",
        "kubernetes-down": "Kubernetes API server",
        "no-room": " 0 must stay free",
    }
    flags = [site.root / name for name in waits]
    flags[0].touch()
    with pynetdicom_scp(files) as (peer, _):
        site.set_destinations(PACS=peer)
        async with worker(site, client, sandboxed=False):
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"')
            await in_state(handle, State.WAITING_FOR_PLATFORM)
            for flag, following in zip(flags, [*flags[1:], None], strict=True):
                await until(lambda: handle.query(ExportWorkflow.status), waits_for(waits[flag.name]))
                if following:
                    following.touch()
                flag.unlink()
            assert (await handle.result()).success
    assert [(outcome, later) for _, outcome, later in service.reports] == [("success", None)]


@pytest.mark.usefixtures("brief")
async def test_sending_waits_for_the_database(
    site: Site, service: FakeResultsService, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes away when everything has been downloaded, for longer than the attempts of an activity last."""
    monkeypatch.setitem(policies.SEND, "retry_policy", RetryPolicy(maximum_attempts=1))
    client = await exports.connect(site.temporal)

    class Last(exports.FolderPlatform):
        def download(self, payload_id: str, name: str, target: Path) -> int:
            if name.endswith(files[-1].name):
                (site.root / "database-down").touch()
            return super().download(payload_id, name, target)

    monkeypatch.setattr(exports, "FolderPlatform", Last)
    with pynetdicom_scp(files) as (peer, got):
        site.set_destinations(PACS=peer)
        async with worker(site, client, sandboxed=False):
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"')
            reason = "PostgreSQL database cannot be used"
            status = await until(lambda: handle.query(ExportWorkflow.status), waits_for(reason))
            assert status.downloaded == len(files)
            (site.root / "database-down").unlink()
            assert (await handle.result()).success
    assert got.order == uids(files)
    assert [(outcome, later) for _, outcome, later in service.reports] == [("success", None)]


@pytest.mark.usefixtures("brief")
async def test_a_task_that_is_offered_anew_is_reported_anew_when_its_download_fails(
    site: Site, service: FakeResultsService, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that follows on the parked one has nothing but the offer to know what the report is of."""
    client = await exports.connect(site.temporal)
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    broken = False

    class Breaking(exports.FolderPlatform):
        def download(self, payload_id: str, name: str, target: Path) -> int:
            if broken:
                raise OSError(errno.EIO, "Input/output error")
            return super().download(payload_id, name, target)

    with monkeypatch.context() as patch:
        patch.setattr(exports, "FolderPlatform", Breaking)
        async with worker(site, client, sandboxed=False):
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=3)
            await in_state(handle, State.NEEDS_ATTENTION)
            broken = True
            task_id = service.reports[0][0]
            service.add(task_id, [f"out/{file.name}" for file in files], '"PACS"')
            await offer(site, client, service, task_id)
            assert not (await handle.result()).success
    assert service.reports == [(task_id, "failure", False), (task_id, "failure", True)]
    assert site.records().in_flight(AGENT) == 0


@pytest.mark.parametrize("retries", [0, 3])
@pytest.mark.usefixtures("brief")
async def test_a_download_that_fails_for_an_unforeseen_reason_is_worth_another_attempt_and_leaves_nothing(
    site: Site, service: FakeResultsService, files: list[Path], monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    """By the rule of retries; one object has come before the disk breaks."""
    client = await exports.connect(site.temporal)

    class Broken(exports.FolderPlatform):
        def download(self, payload_id: str, name: str, target: Path) -> int:
            if name.endswith(files[1].name):
                raise OSError(errno.EIO, "Input/output error")
            return super().download(payload_id, name, target)

    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    with monkeypatch.context() as patch:
        patch.setattr(exports, "FolderPlatform", Broken)
        async with worker(site, client, sandboxed=False):
            handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=retries)
            if retries:
                await in_state(handle, State.NEEDS_ATTENTION)
                await handle.execute_update(ExportWorkflow.discard, DiscardInput())
            assert "unexpected OSError" in (await handle.result()).message
    assert [(outcome, later) for _, outcome, later in service.reports] == [("failure", retries == 0)]
    assert not list((site.root / site.node_id / "exports").iterdir())


async def test_a_platform_that_stands_still_holds_up_nothing_but_downloads(
    site: Site, service: FakeResultsService, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is here is sent, decided and reported while more downloads wait than there are threads for them."""
    client = await exports.connect(site.temporal)
    sending, standing = threading.Event(), threading.Semaphore(0)
    go_on, released = threading.Event(), threading.Event()

    class Still(exports.FolderPlatform):
        def download(self, payload_id: str, name: str, target: Path) -> int:
            if sending.is_set():
                standing.release()
                assert released.wait(60)
            return super().download(payload_id, name, target)

    def answer(_event: Event, _number: int) -> int:
        sending.set()
        assert go_on.wait(60)
        return 0x0000

    monkeypatch.setattr(exports, "FolderPlatform", Still)
    with pynetdicom_scp(files, answer=answer) as (peer, _):
        site.set_destinations(PACS=peer)
        uris = site.add_payload("p", files)
        async with worker(site, client):
            try:
                first = await start(site, client, service, uris, '"PACS"')
                assert await asyncio.to_thread(sending.wait, 60)
                others = [await start(site, client, service, uris, '"PACS"') for _ in range(DOWNLOADS_AT_ONCE + 4)]
                for _ in range(DOWNLOADS_AT_ONCE):
                    assert await asyncio.to_thread(standing.acquire, timeout=60)
                go_on.set()
                assert (await asyncio.wait_for(first.result(), 60)).success
                assert len(service.reports) == 1
            finally:
                go_on.set()
                released.set()
            assert all([(await other.result()).success for other in others])


async def test_a_results_service_that_stands_still_holds_up_nothing_but_reports(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    """An export that needs a decision gets it while more reports wait than there are threads for them."""
    client = await exports.connect(site.temporal)
    with pynetdicom_scp(files) as (peer, _):
        site.set_destinations(PACS=peer)
        uris = site.add_payload("p", files)
        async with worker(site, client):
            service.answering.clear()
            try:
                waiting = [await start(site, client, service, uris, '"PACS"') for _ in range(REPORTS_AT_ONCE + 2)]
                for _ in range(REPORTS_AT_ONCE):
                    assert await asyncio.to_thread(service.standing.acquire, timeout=60)
                last = await start(site, client, service, uris, '"NOWHERE"')
                await until(lambda: last.query(ExportWorkflow.status), waits_for("'NOWHERE'"))
            finally:
                service.answering.set()
            for handle in waiting:
                assert (await handle.result()).success
            await in_state(last, State.NEEDS_ATTENTION)
            await last.execute_update(ExportWorkflow.discard, DiscardInput())
            await last.result()


async def test_another_node_starts_over_when_the_one_with_the_download_is_gone(
    site: Site, service: FakeResultsService, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hasty(monkeypatch)
    client = await exports.connect(site.temporal)
    other = replace(site, node_id=f"{site.node_id}-b")
    taken = asyncio.Event()

    class NeverSends(ExportActivities):
        @activity.defn(name="send_export")
        async def send(self, request: SendInput) -> SendResult:
            taken.set()
            await asyncio.Event().wait()
            raise AssertionError(request)

    with pynetdicom_scp(files) as (peer, got):
        site.set_destinations(PACS=peer)
        with monkeypatch.context() as patch:
            patch.setattr(exports, "ExportActivities", NeverSends)
            async with worker(site, client, sandboxed=False):
                handle = await start(site, client, service, site.add_payload("p", files), '"PACS"')
                await asyncio.wait_for(taken.wait(), 30)
        async with worker(other, client, sandboxed=False):
            result = await handle.result()
            status = await handle.query(ExportWorkflow.status)
    assert result.success
    assert status.node_id == other.node_id
    assert f"node {site.node_id} went away with the downloaded objects" in status.notes[0]
    assert f"node {site.node_id} is away" in status.notes[-1]
    assert got.order == uids(files)


async def test_a_retry_goes_on_with_the_node_that_keeps_the_objects(
    site: Site, service: FakeResultsService, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform has removed them, and another node would take the download; both are clean at the end."""
    hasty(monkeypatch, seconds=20)
    client = await exports.connect(site.temporal)
    other = replace(site, node_id=f"{site.node_id}-b")
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    async with worker(site, client, sandboxed=False):
        handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=3)
        await in_state(handle, State.NEEDS_ATTENTION)
    shutil.rmtree(site.root / "payloads")
    keeper = replace(site, queue=f"{site.queue}-nobody")
    with pynetdicom_scp(files) as (peer, got):
        site.set_destinations(PACS=peer)
        async with worker(other, client, sandboxed=False), worker(keeper, client, sandboxed=False):
            await handle.execute_update(ExportWorkflow.retry, RetryInput())
            assert (await handle.result()).success
            assert (await handle.query(ExportWorkflow.status)).node_id == site.node_id
    assert got.order == uids(files)
    assert not list((site.root / site.node_id / "exports").iterdir())


async def test_a_retry_downloads_elsewhere_when_the_node_that_keeps_the_objects_does_not_answer(
    site: Site, service: FakeResultsService, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And asks it first again when the platform has less than that node keeps."""
    hasty(monkeypatch)
    client = await exports.connect(site.temporal)
    other = replace(site, node_id=f"{site.node_id}-b")
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    async with worker(site, client, sandboxed=False):
        handle = await start(site, client, service, site.add_payload("p", files), '"PACS"', retries=3)
        await in_state(handle, State.NEEDS_ATTENTION)
    shutil.move(site.root / "payloads", site.root / "removed")
    with pynetdicom_scp(files) as (peer, got):
        site.set_destinations(PACS=peer)
        async with worker(other, client, sandboxed=False):
            await handle.execute_update(ExportWorkflow.retry, RetryInput())
            look = lambda: handle.query(ExportWorkflow.status)  # noqa: E731
            status = await until(look, lambda status: "could not be downloaded" in status.message)
            assert f"node {site.node_id} does not answer" in status.notes[-1]
            await in_state(handle, State.NEEDS_ATTENTION)
            keeper = replace(site, queue=f"{site.queue}-nobody")
            async with worker(keeper, client, sandboxed=False):
                await handle.execute_update(ExportWorkflow.retry, RetryInput())
                assert (await handle.result()).success
    assert got.order == uids(files)
    for node in (site, other):
        assert not list((site.root / node.node_id / "exports").iterdir())


async def test_kill_9_in_the_middle_of_500_objects_to_two_destinations(
    tmp_path: Path, temporal_server: str, service: FakeResultsService
) -> None:
    """A worker process is killed and another one goes on, also with the poll.

    What the destinations hold, what the Results Service is told and what workflow and records say agree; only what was
    unconfirmed comes twice, at most one object per association.
    """
    site = Site(tmp_path, temporal_server, service.url, uuid.uuid4().hex[:12])
    files = make_objects(tmp_path / "objects", 500)
    client = await exports.connect(temporal_server)
    far_enough, released = threading.Barrier(3), threading.Event()

    def slow_in_the_middle(_event: Event, number: int) -> int:
        if number == 150:
            far_enough.wait(60)
            released.wait(60)
        return 0x0000

    poller = await client.start_workflow(
        ResultsPollerWorkflow.run,
        PollerInput(agent=AGENT),
        id=f"poller-{uuid.uuid4()}",
        task_queue="clara-dicom",
    )
    command = [sys.executable, "-m", "support.exports", site.json()]
    paths = [str(Path(exports.__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with (
        pynetdicom_scp(files, answer=slow_in_the_middle) as (peer, got),
        pynetdicom_scp(files, answer=slow_in_the_middle) as (other_peer, other_got),
    ):
        site.set_destinations(PACS=peer, ARCHIVE=other_peer)
        task_id = str(uuid.uuid4())
        service.add(task_id, site.add_payload("p", files), '["PACS", "ARCHIVE"]')
        first = subprocess.Popen(command, env=environment)
        second = None
        try:
            await asyncio.to_thread(far_enough.wait, 60)
            first.send_signal(signal.SIGKILL)
            first.wait(10)
            released.set()
            second = subprocess.Popen(command, env=environment)
            handle = client.get_workflow_handle(names.export(AGENT, task_id), result_type=ExportResult)
            result = await handle.result()
            # the poll was taken over as well
            other_task = str(uuid.uuid4())
            service.add(other_task, [], '"PACS"')

            async def reported() -> list[Any]:
                return [each for each in service.reports if each[0] == other_task]

            await until(reported, bool)
        finally:
            await poller.terminate()
            for process in filter(None, (first, second)):
                process.kill()
                process.wait(10)
    assert (result.success, result.sent, result.failed) == (True, 1000, 0)
    for received in (got, other_got):
        counts = Counter(received.order)
        assert set(counts) == set(uids(files))
        twice = [count for count in counts.values() if count > 1]
        assert set(twice) <= {2}
        assert len(twice) <= 2  # associations with each destination
    records = site.records()
    for name in ("PACS", "ARCHIVE"):
        assert records.delivered(task_id, name) == frozenset(range(500))
    assert [each for each in service.reports if each[0] == task_id] == [(task_id, "success", None)]


async def test_a_task_being_worked_on_is_not_started_twice(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    """The service goes on saying "pending" until the report; the poll knows better."""
    client = await exports.connect(site.temporal)
    site = replace(site, queue="clara-dicom")
    release = threading.Event()

    def wait(_scp: ScriptedScp, _number: int) -> bytes:
        release.wait(30)
        return SUCCESS

    with ScriptedScp(wait) as scp:
        site.set_destinations(PACS=scp.peer)
        task_id = str(uuid.uuid4())
        service.add(task_id, site.add_payload("p", files), '"PACS"')
        async with worker(site, client):
            poller = await client.start_workflow(
                ResultsPollerWorkflow.run, PollerInput(agent=AGENT), id=f"poller-{uuid.uuid4()}", task_queue=site.queue
            )
            try:

                async def looks() -> int:
                    return len(service.sizes)

                await until(looks, lambda number: number > 10)
                release.set()
                handle = client.get_workflow_handle(names.export(AGENT, task_id), result_type=ExportResult)
                assert (await handle.result()).success
                seen = len(service.sizes)
                await until(looks, lambda number: number > seen + 5)
            finally:
                await poller.terminate()
        runs = [run async for run in client.list_workflows(f"WorkflowId = '{handle.id}'")]
    assert service.sizes[0] == 10
    assert max(service.sizes) == 11  # ten more than what is in flight
    assert len(runs) == 1
    assert len(scp.instances) == len(files)
    assert len(service.reports) == 1


async def test_a_task_that_was_reported_or_is_unknown_ends_quietly(
    site: Site, service: FakeResultsService, files: list[Path]
) -> None:
    client = await exports.connect(site.temporal)
    site.set_destinations(PACS=Peer("PACS", "127.0.0.1", free_port()))
    async with worker(site, client):
        for known in (True, False):
            task_id = str(uuid.uuid4())
            if known:
                service.add(task_id, [], '"PACS"')
                await (await offer(site, client, service, task_id)).result()
            handle = await client.start_workflow(
                ExportWorkflow.run,
                ExportInput(task_id=task_id, agent=AGENT),
                id=names.export(AGENT, task_id),
                task_queue=site.queue,
                start_signal="offered",
                start_signal_args=[Offered(offer=1)],
            )
            assert (await asyncio.wait_for(handle.result(), 20)).sent == 0
    assert len(service.reports) == 1
