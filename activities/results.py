"""Activities that speak with the Results Service: the poll, which finds tasks and starts their exports, and the report.

How a task is never exported twice and never forgotten: the records count a task's offers. An offer begins when the
poll finds the task while no earlier offer of it is open, and ends when its report is confirmed. A poll answer may be
older than that report (the service still said "pending" while we reported), so the poll reads a mark before it
asks, and what has been reported after the mark is not taken from that answer. Whoever reads such an old answer, even
another worker's poll that was frozen for minutes, is refused by the same comparison. The next answer tells the truth.
"""

import asyncio
import re
import time
from collections.abc import Sequence
from typing import Final, Protocol

import structlog
from temporalio import activity
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError

from clara_dicom_adapter.activities.heartbeat import heartbeats_aside
from clara_dicom_adapter.activities.share import Share
from clara_dicom_adapter.clara.results import ResultTask
from clara_dicom_adapter.errors import AdapterError, ResultsServiceRefused, ResultsServiceUnreachable
from clara_dicom_adapter.temporal import queues
from clara_dicom_adapter.workflows import names
from clara_dicom_adapter.workflows.models import (
    ExportInput,
    Offered,
    PollerInput,
    PollResult,
    ReportInput,
    ReportResult,
)

log = structlog.get_logger("clara_dicom_adapter.activities.results")

MORE_THAN_IN_FLIGHT: Final = 10
"""Tasks asked for beyond those being worked on, which the service may list first."""
SPELL_SECONDS: Final = 3600.0
"""A poll ends after this long and the workflow starts the next, so that a new version of the workflow gets its turn."""
REMIND_SECONDS: Final = 300.0
"""An open offer whose workflow was terminated by hand is noticed after this long at the latest."""
LONGEST_PAUSE_SECONDS: Final = 15.0
"""Between two attempts while the service cannot be reached."""

REPORTS_AT_ONCE: Final = 8
"""A service that stands still holds these, and no thread that anything else needs."""

_TASK_ID: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
"""It becomes part of a workflow id and of a URL; the service makes GUIDs."""


class ResultsService(Protocol):
    """The Results Service."""

    @property
    def endpoint(self) -> str: ...
    def pending(self, agent: str, size: int) -> Sequence[ResultTask]: ...
    def offers(self, agent: str, task_id: str) -> bool: ...
    def report_success(self, task_id: str) -> None: ...
    def report_failure(self, task_id: str, *, retry_later: bool) -> None: ...


class OfferStore(Protocol):
    """Where offers are recorded."""

    def report_mark(self) -> int:
        """Grows with every confirmed report."""
        ...

    def offer(self, agent: str, task: ResultTask, mark: int) -> int | None:
        """Store a pending task and return the number of its open offer, begun now or before.

        None: its last report was confirmed after ``mark``, so that the answer it stands in proves nothing.
        """
        ...

    def in_flight(self, agent: str) -> int: ...
    def is_open(self, task_id: str, offer: int) -> bool: ...
    def reported(
        self, task_id: str, offer: int, *, success: bool, retry_later: bool, accepted: bool, message: str
    ) -> None: ...


class ResultsActivities:
    """Poll and report."""

    def __init__(self, client: Client, service: ResultsService, store: OfferStore, poll_frequency_ms: int) -> None:
        self._client = client
        self._service = service
        self._store = store
        self._pause = poll_frequency_ms / 1000
        self._reporting = Share(REPORTS_AT_ONCE, "report")
        self._started: dict[tuple[str, int], float] = {}
        """Offers whose workflow this process has started, and when."""
        self._unusable: dict[str, set[str]] = {}
        """Of each agent, the tasks of its last answer that nothing could be done with; more are asked for."""

    @activity.defn(name="poll_results")
    async def poll(self, request: PollerInput) -> PollResult:
        """Look for tasks until the spell is over or the worker stops; safe to repeat, and to run twice at once."""
        started = 0
        pause = self._pause
        until = time.monotonic() + SPELL_SECONDS
        over = asyncio.ensure_future(activity.wait_for_worker_shutdown())
        self._started.clear()
        async with heartbeats_aside():
            while time.monotonic() < until and not over.done():
                try:
                    started += await self._look(request.agent)
                    if pause != self._pause:
                        log.info("results_service_reached", agent=request.agent)
                    pause = self._pause
                except AdapterError as error:
                    if pause == self._pause:  # said once per outage
                        log.warning("results_service_failed", agent=request.agent, error=str(error))
                    pause = min(max(pause * 2, 1.0), LONGEST_PAUSE_SECONDS)
                await asyncio.wait({over}, timeout=pause)
        over.cancel()
        return PollResult(started=started)

    async def _look(self, agent: str) -> int:
        """Ask once, and see to it that every task offered has its workflow."""
        mark = await asyncio.to_thread(self._store.report_mark)
        in_flight = await asyncio.to_thread(self._store.in_flight, agent)
        size = MORE_THAN_IN_FLIGHT + in_flight + len(self._unusable.get(agent, ()))
        tasks = await asyncio.to_thread(self._service.pending, agent, size)
        started = 0
        unusable: set[str] = set()
        for task in tasks:
            try:
                started += await self._see_to(agent, task, mark)
            except (AdapterError, RPCError):
                raise  # it is the database or Temporal that fails, and would for the others too
            except Exception as error:
                unusable.add(task.task_id)
                if task.task_id not in self._unusable.get(agent, ()):  # said once
                    shown = task.task_id if _TASK_ID.fullmatch(task.task_id) else ""
                    log.warning("task_unusable", agent=agent, task_id=shown, kind=type(error).__name__)
        self._unusable[agent] = unusable
        return started

    async def _see_to(self, agent: str, task: ResultTask, mark: int) -> bool:
        """Store a task and start its workflow, unless that has been done; whether it has not been before."""
        if not _TASK_ID.fullmatch(task.task_id):
            raise ValueError("not a task id")
        offer = await asyncio.to_thread(self._store.offer, agent, task, mark)
        if offer is None:
            return False
        last = self._started.get((task.task_id, offer))
        if last is not None and time.monotonic() - last < REMIND_SECONDS:
            return False
        await self._start(agent, task.task_id, offer)
        self._started[task.task_id, offer] = time.monotonic()
        return last is None

    async def _start(self, agent: str, task_id: str, offer: int) -> None:
        """Start the task's workflow; one that runs learns of the offer, and ignores the one it works on."""
        await self._client.start_workflow(
            "ExportWorkflow",
            ExportInput(task_id=task_id, agent=agent),
            id=names.export(agent, task_id),
            task_queue=queues.SHARED,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            start_signal="offered",
            start_signal_args=[Offered(offer=offer)],
        )

    @activity.defn(name="report_result")
    async def report(self, request: ReportInput) -> ReportResult:
        """Tell the Results Service how a task ended; safe to repeat.

        Raises ``ResultsServiceUnreachable`` until there is an answer that settles the task. A refusal is one when the
        service does not offer the task any more: it does not know it or does not expect a report of it, and asking
        again would not change that. While it offers it, the refusal is somebody else's, such as a gateway's. When an
        attempt dies between the answer and its record, the service is told twice. Waits for its turn first.
        """
        async with heartbeats_aside():
            return await self._reporting.run(lambda _stop: self._report(request))

    def _report(self, request: ReportInput) -> ReportResult:
        if not self._store.is_open(request.task_id, request.offer):
            return ReportResult(message="reported before")
        try:
            if request.success:
                self._service.report_success(request.task_id)
            else:
                self._service.report_failure(request.task_id, retry_later=request.retry_later)
        except ResultsServiceRefused as refusal:
            if self._service.offers(request.agent, request.task_id):
                raise ResultsServiceUnreachable(
                    self._service.endpoint, f"{refusal}, while the service goes on offering the task"
                ) from refusal
            result = ReportResult(accepted=False, message=str(refusal))
        else:
            result = ReportResult()
        self._store.reported(
            request.task_id,
            request.offer,
            success=request.success,
            retry_later=request.retry_later,
            accepted=result.accepted,
            message=request.message or result.message,
        )
        log.info(
            "export_reported",
            task_id=request.task_id,
            agent=request.agent,
            outcome="success" if request.success else "failure",
            retry_later=request.retry_later,
            reason=result.message,
        )
        return result
