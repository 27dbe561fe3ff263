"""Activities of the ExportWorkflow that work on one node's disk: download, send, clean; and the decision.

They are synchronous and run in the worker's thread pool, but for downloading and sending: many exports may wait for a
platform that stands still, or for one destination, and they must not hold threads that the others need.
"""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from weakref import WeakValueDictionary

import structlog
from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from clara_dicom_adapter.activities import export_rules
from clara_dicom_adapter.activities.export_download import DOWNLOADS_AT_ONCE, Download
from clara_dicom_adapter.activities.export_folder import ExportFolders
from clara_dicom_adapter.activities.export_ledger import Ledger
from clara_dicom_adapter.activities.export_needs import Destinations, Downloads, ExportStore, Space
from clara_dicom_adapter.activities.export_route import route_to
from clara_dicom_adapter.activities.export_sending import Sending
from clara_dicom_adapter.activities.export_turns import Turns
from clara_dicom_adapter.activities.heartbeat import heartbeats_aside
from clara_dicom_adapter.activities.share import Share
from clara_dicom_adapter.configuration.entities import Destination, WebDestination
from clara_dicom_adapter.configuration.settings import ScuSettings
from clara_dicom_adapter.errors import DestinationUnknown
from clara_dicom_adapter.workflows import names
from clara_dicom_adapter.workflows.models import (
    CleanInput,
    CleanResult,
    ExportDecision,
    ExportDecisionInput,
    FetchInput,
    FetchResult,
    NoteExportInput,
    NoteResult,
    PlaceInput,
    PlaceResult,
    SendInput,
    SendProgress,
    SendResult,
)

log = structlog.get_logger("clara_dicom_adapter.activities.export")


class ExportActivities:
    """Download, send, decide, clean."""

    def __init__(
        self,
        *,
        store: ExportStore,
        destinations: Destinations,
        downloads: Downloads,
        space: Space,
        scu: ScuSettings,
        temporary: Path,
        node_id: str,
    ) -> None:
        self._store = store
        self._destinations = destinations
        self._downloads = downloads
        self._space = space
        self._scu = scu
        self._folders = ExportFolders(temporary)
        self._node_id = node_id
        self.turns = Turns(scu.maximum_number_of_associations)
        self._passes: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        """Who sends a task to a destination right now, by both."""
        self._downloading = Share(DOWNLOADS_AT_ONCE, "download")
        self._threads = ThreadPoolExecutor(scu.maximum_number_of_associations, thread_name_prefix="export")

    # ---- fetch ----

    @activity.defn(name="place_export")
    def place(self, _request: PlaceInput) -> PlaceResult:
        """Say that an export may be downloaded to this node; raises ``StorageFull`` when its disk is short."""
        self._space.check()
        return PlaceResult(node_id=self._node_id)

    @activity.defn(name="fetch_export")
    async def fetch(self, request: FetchInput) -> FetchResult:
        """Download a task's objects to this node; safe to repeat, goes on where it stopped.

        Objects that every destination has already are not downloaded again; those of a task whose destinations are not
        known are, to be kept for a person. What the platform refuses, and what is not
        a DICOM part 10 file with a dataset, counts as not downloaded. Waits for its turn first. Raises ``StorageFull``
        and ``PlatformUnreachable``.
        """
        under_way: list[Download] = []

        def progress() -> SendProgress:
            return under_way[0].progress if under_way else SendProgress(done=0, failed=0, total=0)

        async with heartbeats_aside(progress):
            return await self._downloading.run(lambda stop: self._fetch(request, stop, under_way))

    def _fetch(self, request: FetchInput, stop: threading.Event, under_way: list[Download]) -> FetchResult:
        task = self._store.task(request.task_id)
        if task is None or not (task.open or request.again):
            offer = task.offer if task else 0
            return FetchResult(node_id=self._node_id, offer=offer, open=False, objects=0, downloaded=0, destinations=())
        result = FetchResult(
            node_id=self._node_id,
            offer=task.offer,
            retention_seconds=timedelta(hours=self._scu.export.retention_hours).total_seconds(),
            objects=len(task.uris),
            downloaded=0,
            destinations=(),
            pipeline_id=task.pipeline_id,
            pipeline=task.pipeline or task.pipeline_id,
            ae_title=task.called_ae_title,
            job_id=task.job_id,
        )
        destinations: tuple[str, ...] = ()
        try:
            known = [destination.name for destination in self._destinations.destinations()]
            if request.destinations:
                destinations = export_rules.known_as(request.destinations, known)
            else:
                default = self._scu.export.default_destination
                destinations = export_rules.destinations(task.parameters, known, default)
        except (export_rules.NoDestination, DestinationUnknown) as problem:
            # downloaded all the same: the platform may not have them any more when a person comes to name another one
            result = result.model_copy(update={"problem": str(problem)})
        folder = self._folders.of(task.task_id)
        folder.create(task.task_id, request.agent, task.uris)
        delivered = [self._store.delivered(task.task_id, name) for name in destinations]
        needless = frozenset.intersection(*delivered) if delivered else frozenset[int]()
        download = Download(folder, task.payload_id, task.uris, needless)
        under_way.append(download)
        done = download.run(self._downloads, self._space, stop)
        self._store.save_objects(task.task_id, download.objects)
        log.info("export_downloaded", task_id=task.task_id, count=done, failed=download.failed)
        return result.model_copy(update={"destinations": destinations, "downloaded": done})

    # ---- send ----

    @activity.defn(name="send_export")
    async def send(self, request: SendInput) -> SendResult:
        """Send a task's objects to one destination; safe to repeat.

        Repeating sends only what has no confirmation in the journal; the objects whose responses were on their way when
        an attempt died, one per association, may be sent twice, and are unknown until then. An attempt that begins
        while an earlier one goes on, because nobody heard its heartbeats, waits for its end. Raises ``DownloadsLost``
        when this node does not have the objects.
        """
        one_pass = self._passes.setdefault((request.task_id, request.destination), asyncio.Lock())
        async with heartbeats_aside():
            await one_pass.acquire()
        try:
            return await self._send(request)
        finally:
            one_pass.release()

    async def _send(self, request: SendInput) -> SendResult:
        objects, ledger, destination = await asyncio.to_thread(self._prepared, request)

        def progress() -> SendProgress:
            return SendProgress(done=len(ledger.delivered), failed=len(ledger.failed), total=len(objects))

        if destination is None:
            await asyncio.to_thread(ledger.record)
            todo = sum(map(ledger.is_to_be_sent, objects))
            message = f"destination {request.destination} is no longer configured"
            return SendResult(destination=request.destination, sent=len(ledger.delivered), failed=todo, message=message)
        async with heartbeats_aside(progress):
            await Sending(objects, ledger, self.turns, self._threads).to(route_to(destination, self._scu))
        return SendResult(
            destination=request.destination,
            sent=len(ledger.delivered),
            failed=len(ledger.failed),
            message=ledger.message,
        )

    def _prepared(self, request: SendInput) -> tuple[dict[int, Path], Ledger, Destination | WebDestination | None]:
        folder = self._folders.of(request.task_id)
        objects = folder.objects()
        name = request.destination.casefold()
        found = [each for each in self._destinations.destinations() if each.name.casefold() == name]
        return objects, Ledger(request, folder, self._store), found[0] if found else None

    # ---- decide, note, clean ----

    @activity.defn(name="decide_export")
    def decide(self, request: ExportDecisionInput) -> ExportDecision:
        """Judge a task by the configured rules; safe to repeat. An activity, so that the verdict is recorded.

        A sending that ended in an unforeseen way does not know how far it got; what was confirmed until then counts.
        """
        sent = tuple(self._as_recorded(request, result) for result in request.sent)
        task = self._store.task(request.task_id)
        rules = export_rules.Rules(
            failure_threshold=self._scu.export.failure_threshold,
            maximum_retries=self._scu.export.maximum_retries,
            retries=task.retries if task else 0,
        )
        return export_rules.decide(request.fetched, sent, rules).model_copy(update={"sent": sent})

    def _as_recorded(self, request: ExportDecisionInput, result: SendResult) -> SendResult:
        delivered = len(self._store.delivered(request.task_id, result.destination))
        if delivered <= result.sent:
            return result
        return result.model_copy(update={"sent": delivered, "failed": max(request.fetched.downloaded - delivered, 0)})

    @activity.defn(name="note_export")
    def note(self, request: NoteExportInput) -> NoteResult:
        """Write an export's state to the records; safe to repeat."""
        self._store.note(request.task_id, request.state, request.message)
        return NoteResult()

    @activity.defn(name="clean_export", no_thread_cancel_exception=True)
    def clean(self, request: CleanInput) -> CleanResult:
        """Delete a task's objects and journal from this node; safe to repeat."""
        return CleanResult(removed=self._folders.of(request.task_id).remove())

    async def sweep(self, client: Client) -> int:
        """Delete folders whose workflow is over, and return how many; called when a worker starts.

        A node that was away when its exports ended, or started over elsewhere, has such folders.
        """
        removed = 0
        for folder in self._folders.all():
            whose = folder.whose
            if whose is None or not await _runs(client, names.export(*whose)):
                await asyncio.to_thread(folder.remove)
                removed += 1
        return removed


async def _runs(client: Client, workflow_id: str) -> bool:
    try:
        description = await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return description.status is WorkflowExecutionStatus.RUNNING
