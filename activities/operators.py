"""The work of the embedded platform's jobs: thin over ``clara.embedded.runner``, in the platform's own process."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final, Protocol

from temporalio import activity
from temporalio.exceptions import ApplicationError, CancelledError

from clara_dicom_adapter.activities.heartbeat import heartbeats
from clara_dicom_adapter.clara.embedded.runner import OperatorOutcome, Plan
from clara_dicom_adapter.clara.model import JobStatus
from clara_dicom_adapter.workflows.models import (
    FinishJobInput,
    FinishJobResult,
    OperatorPlan,
    PlatformJobInput,
    PlatformJobPlan,
    RunOperatorInput,
    RunOperatorResult,
)

HEARTBEAT_THROTTLE: Final = timedelta(seconds=1)
"""``max_heartbeat_throttle_interval`` of the worker: a cancelled job's operator learns of it with a heartbeat."""


class JobWork(Protocol):
    """What does the work; ``clara.embedded.runner.JobRunner``."""

    def plan(self, job_id: str) -> Plan: ...
    def run_operator(self, job_id: str, name: str, stopped: Callable[[], bool]) -> OperatorOutcome: ...
    def finish(self, job_id: str, status: JobStatus, message: str) -> int: ...


class PlatformJobActivities:
    """Activities of ``PlatformJobWorkflow``; they need a thread each."""

    def __init__(self, work: JobWork) -> None:
        self._work = work

    def all(self) -> Sequence[Callable[..., Any]]:
        """What a worker on the platform's queue registers."""
        return [self.plan_job, self.run_operator, self.finish_job]

    @activity.defn
    def plan_job(self, job: PlatformJobInput) -> PlatformJobPlan:
        """Tell what to run; changes nothing."""
        plan = self._work.plan(job.job_id)
        return PlatformJobPlan(
            operators=tuple(OperatorPlan(name=name, time_limit_seconds=limit) for name, limit in plan.operators),
            pipeline=plan.pipeline,
            over=plan.over,
            cancel=plan.cancel,
        )

    @activity.defn(no_thread_cancel_exception=True)
    def run_operator(self, request: RunOperatorInput) -> RunOperatorResult:
        """Run one operator; safe to repeat: one that has completed is not run again, another starts from nothing."""

        def stopped() -> bool:
            activity.heartbeat(request)
            return activity.is_cancelled() or activity.is_worker_shutdown()

        with heartbeats(lambda: request):
            outcome = self._work.run_operator(request.job_id, request.operator, stopped)
        if outcome.stopped:
            details = activity.cancellation_details()
            if details and details.cancel_requested:
                raise CancelledError(outcome.message)
            raise ApplicationError(outcome.message, type="PlatformStopping")  # tried again by the next process
        return RunOperatorResult(exit_code=0 if outcome.completed else 1, message=outcome.message)

    @activity.defn
    def finish_job(self, request: FinishJobInput) -> FinishJobResult:
        """Record the end and register results; safe to repeat: the first end stays."""
        status = JobStatus[request.status.upper()]
        return FinishJobResult(registered_tasks=self._work.finish(request.job_id, status, request.message))
