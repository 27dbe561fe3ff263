"""From started jobs to running workflows.

A job that was answered as started is started in the database first; handing it to Temporal follows, and is repeated
for as long as it takes. The same look finds jobs whose workflow Temporal has lost, and payloads whose time is over.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import structlog
from temporalio.client import Client, WorkflowHandle
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.service import RPCError, RPCStatusCode

from clara_dicom_adapter.clara.embedded.jobs import Job, JobStore
from clara_dicom_adapter.clara.model import JobPriority, JobState
from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal import attributes, queues
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows.models import PlatformJobInput

log = structlog.get_logger("clara_dicom_adapter.clara")

WORKFLOW: Final = "PlatformJobWorkflow"
_TEMPORAL_PRIORITIES: Final = {  # Temporal: 1 is the most urgent of 5
    JobPriority.IMMEDIATE: 1,
    JobPriority.HIGHER: 2,
    JobPriority.NORMAL: 3,
    JobPriority.LOWER: 4,
}


class JobStarter(Protocol):
    """Whoever runs started jobs."""

    async def start(self, job: Job) -> None:
        """See to it that the job is being run; safe to repeat. Raises ``TemporalUnavailable``."""

    async def cancel(self, job: Job) -> None:
        """Ask for the end of a running job; safe to repeat. Raises ``TemporalUnavailable``."""


def workflow_id(job_id: str) -> str:
    """Of a job's workflow."""
    return f"job-{job_id}"


class TemporalJobStarter:
    """Runs jobs as workflows.

    Args:
        task_queue: Of the platform's worker; a job's operators run where the payloads are.
    """

    def __init__(self, client: Client, task_queue: str = queues.PLATFORM) -> None:
        self._client = client
        self._task_queue = task_queue

    async def start(self, job: Job) -> None:
        """Start the job's workflow unless it is running; one that was lost or terminated is started anew."""
        try:
            await self._client.start_workflow(
                WORKFLOW,
                PlatformJobInput(job_id=job.job_id),
                id=workflow_id(job.job_id),
                task_queue=self._task_queue,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=attributes.from_the_start(
                    State.RUNNING, pipelines=[job.definition.name], job_ids=[job.job_id]
                ),
                priority=Priority(priority_key=_TEMPORAL_PRIORITIES.get(job.priority, 3)),
            )
        except (RPCError, RuntimeError) as error:  # a lazy client reports a refused connection as RuntimeError
            raise TemporalUnavailable(f"a job cannot be handed to Temporal: {error}") from error

    async def cancel(self, job: Job) -> None:
        """Cancel the job's workflow; that there is none is no error, the next start finds the request."""
        handle: WorkflowHandle[object, object] = self._client.get_workflow_handle(workflow_id(job.job_id))
        try:
            await handle.cancel()
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise TemporalUnavailable(f"a job cannot be cancelled in Temporal: {error}") from error
        except RuntimeError as error:
            raise TemporalUnavailable(f"a job cannot be cancelled in Temporal: {error}") from error


class JobSweep:
    """Hands started jobs to the starter: at once when nudged, else every few seconds.

    Args:
        clear_up: Called in a thread with every full look.
        seconds: Between two looks for jobs that are not handed over.
        full_seconds: Between two looks at every running job.
    """

    def __init__(
        self,
        jobs: JobStore,
        starter: JobStarter,
        clear_up: Callable[[], None],
        seconds: float = 2.0,
        full_seconds: float = 60.0,
    ) -> None:
        self._jobs = jobs
        self._starter = starter
        self._clear_up = clear_up
        self._seconds = seconds
        self._full_seconds = full_seconds
        self._nudged = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._unavailable = False

    def nudge(self) -> None:
        """Look now; may be called from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the look at the next start finds it
            self._loop.call_soon_threadsafe(self._nudged.set)

    async def run(self) -> None:
        """Look until cancelled."""
        next_full = 0.0
        while True:
            self._nudged.clear()
            full = self._loop.time() >= next_full
            if full:
                next_full = self._loop.time() + self._full_seconds
            await self._look(full)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._nudged.wait(), self._seconds)

    async def _look(self, full: bool) -> None:
        try:
            look = partial(self._jobs.find, states=[JobState.RUNNING.value]) if full else self._jobs.to_hand_over
            await self._hand_over(await asyncio.to_thread(look), full)
            if full:
                await asyncio.to_thread(self._clear_up)
        except Exception:  # whatever it is, the next look must come
            log.exception("platform_sweep_failed")

    async def _hand_over(self, jobs: Sequence[Job], full: bool) -> None:
        """Up to the first job for which Temporal is away: each one would wait for it in vain."""
        try:
            for job in jobs:
                if full or not job.handed_over:
                    await self._start(job)
                if job.cancel_reason is not None:
                    await self._starter.cancel(job)
        except TemporalUnavailable as error:
            if not self._unavailable:  # told once, not with every look
                log.warning("platform_jobs_wait_for_temporal", error=str(error))
            self._unavailable = True
        else:
            if self._unavailable and jobs:
                log.info("platform_jobs_reach_temporal")
                self._unavailable = False

    async def _start(self, job: Job) -> None:
        await self._starter.start(job)
        if not job.handed_over:
            await asyncio.to_thread(self._jobs.handed_over, job.job_id)
