"""Activity that follows started jobs to their end, all of a site in one place.

How it works: the records know which jobs have not ended. Each look asks the platform once for the jobs that it still
has to work on (``Jobs.List``); a job of ours that is not among them is asked for by itself, once, because only
``Jobs.Status`` tells messages. The activity ends when no job is left, and whoever starts a job need not know of it:
every worker looks into the records now and then, and starts the one workflow that runs this activity.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Final, NoReturn, Protocol

import structlog
from temporalio import activity
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy

from clara_dicom_adapter.activities.heartbeat import heartbeats_aside
from clara_dicom_adapter.activities.submission import JOB_UNKNOWN
from clara_dicom_adapter.clara.model import JobState, JobStatus, OperatorStatus, PlatformJob, identifier
from clara_dicom_adapter.errors import AdapterError, PlatformRefused
from clara_dicom_adapter.records.jobs import JobEnd, RunningJob
from clara_dicom_adapter.temporal import queues
from clara_dicom_adapter.workflows import names
from clara_dicom_adapter.workflows.models import FollowInput, FollowResult

log = structlog.get_logger("clara_dicom_adapter.activities.following")

SPELL_SECONDS: Final = 3600.0
"""The activity ends after this long and the workflow starts the next, so that a new version gets its turn."""
MOST_DOUBLINGS: Final = 4
"""Of the pause between two looks while the platform cannot be reached."""
LONGEST_REASON: Final = 300
"""Characters of a message that are recorded."""

_CURRENT: Final = (JobState.PENDING, JobState.RUNNING)
_ENDS: Final = {
    JobStatus.HEALTHY: JobEnd.COMPLETED,
    JobStatus.FAULTED: JobEnd.FAULTED,
    JobStatus.CANCELED: JobEnd.CANCELED,
    JobStatus.EVICTED: JobEnd.EVICTED,
    JobStatus.TERMINATED: JobEnd.TERMINATED,
}


class Platform(Protocol):
    """What is asked of the platform."""

    def find_jobs(self, states: Collection[JobState] = ()) -> list[PlatformJob]: ...
    def job_status(self, job_id: str) -> PlatformJob: ...


class JobRecords(Protocol):
    """Where it is recorded which jobs have ended."""

    def running(self, limit: int | None = None) -> Sequence[RunningJob]: ...
    def ended(self, job: RunningJob, end: JobEnd, message: str, stopped: datetime | None) -> bool: ...


class FollowingActivities:
    """Follow started jobs."""

    def __init__(
        self, platform: Platform, records: JobRecords, interval_seconds: float, count: Callable[[JobEnd], object]
    ) -> None:
        """Args:
        interval_seconds: Pause between two looks.
        count: Told of each job whose end was recorded here.
        """
        self._platform = platform
        self._records = records
        self._pause = interval_seconds
        self._count = count
        self._refused: set[str] = set()
        """Jobs that the platform refused to tell about; said once of each."""

    @activity.defn(name="follow_jobs")
    async def follow(self, request: FollowInput) -> FollowResult:
        """Look until no job is left, the spell is over, or the worker stops; safe to repeat, and to run twice."""
        del request
        ended, failures = 0, 0
        until = time.monotonic() + SPELL_SECONDS
        over = asyncio.ensure_future(activity.wait_for_worker_shutdown())
        try:
            async with heartbeats_aside():
                while time.monotonic() < until and not over.done():
                    try:
                        running, newly_ended = await self._look(over)
                        ended += newly_ended
                        if not running:
                            return FollowResult(ended=ended, running=False)
                        failures = 0
                    except AdapterError as error:
                        if not failures:  # said once per outage
                            log.warning("jobs_not_followed", error=str(error))
                        failures = min(failures + 1, MOST_DOUBLINGS)
                    await asyncio.wait({over}, timeout=self._pause * 2**failures)
        finally:
            over.cancel()
        return FollowResult(ended=ended, running=True)

    async def _look(self, over: "asyncio.Future[None]") -> tuple[bool, int]:
        """Ask once; whether any job is left, and how many have ended."""
        jobs = await asyncio.to_thread(self._records.running)
        if not jobs:
            return False, 0
        current = {_plain(job.job_id) for job in await asyncio.to_thread(self._platform.find_jobs, _CURRENT)}
        ended = 0
        for job in jobs:
            if _plain(job.job_id) not in current and not over.done():
                ended += await asyncio.to_thread(self._end, job)
        return ended < len(jobs), ended

    def _end(self, job: RunningJob) -> bool:
        """Record how a job ended that the platform has stopped working on; False when it has not ended after all."""
        stopped = None
        try:
            found = self._platform.job_status(job.job_id)
        except PlatformRefused as refused:
            if refused.code != JOB_UNKNOWN:  # the other jobs are not to wait for this one
                if job.job_id not in self._refused:
                    log.warning("job_status_refused", job_id=job.job_id, number=refused.code)
                self._refused.add(job.job_id)
                return False
            end, message = JobEnd.UNKNOWN, "the platform does not know this job any more"
        else:
            if found.state is not JobState.STOPPED:
                return False
            end, message, stopped = _ENDS.get(found.status, JobEnd.UNKNOWN), _message(found), found.stopped
        if self._records.ended(job, end, message, stopped):
            self._count(end)
            level = log.info if end is JobEnd.COMPLETED else log.warning
            level("job_ended", submission_id=job.submission_id, job_id=job.job_id, status=end.value)
        return True

    async def keep_following(self, client: Client) -> NoReturn:
        """See to it that the workflow runs whenever the records hold a job that has not ended; for every worker."""
        told = False
        while True:
            try:
                if await asyncio.to_thread(self._records.running, 1):
                    handle = await client.start_workflow(
                        "JobFollowerWorkflow",
                        FollowInput(),
                        id=names.JOB_FOLLOWER,
                        task_queue=queues.SHARED,
                        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    )
                    await handle.result()
                told = False
            except Exception as error:  # whatever it is, the next look may succeed, and nobody else looks
                if not told:
                    log.warning("job_follower_not_started", error=type(error).__name__)
                told = True
            await asyncio.sleep(self._pause)


def _message(job: PlatformJob) -> str:
    """Why a job did not complete: the first line of each of the platform's messages, else the operators that failed.

    What follows in a message may be what an operator printed, and that may say who the patient is.
    """
    if _ENDS.get(job.status) is JobEnd.COMPLETED:
        return ""
    told = [line.strip().removesuffix(":")[:LONGEST_REASON] for message in job.messages for line in _first(message)]
    failed = [operator.name for operator in job.operators if operator.status is OperatorStatus.FAULTED]
    return "; ".join(told) or (f"failed: {', '.join(failed)}" if failed else "")


def _first(message: str) -> list[str]:
    return message.strip().splitlines()[:1]


def _plain(job_id: str) -> str:
    return identifier(job_id) or job_id
