"""A job of the embedded Clara Platform: its operators one after another, then its results registered.

What operators print stays in the platform's database and log files; only exit codes and names come here.
"""

import asyncio
from typing import Literal

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from clara_dicom_adapter.activities.operators import PlatformJobActivities
    from clara_dicom_adapter.temporal.attributes import State
    from clara_dicom_adapter.workflows import policies
    from clara_dicom_adapter.workflows.models import (
        FinishJobInput,
        FinishJobResult,
        PlatformJobInput,
        PlatformJobPlan,
        PlatformJobResult,
        RunOperatorInput,
    )

from clara_dicom_adapter.workflows.visible import show

SHOWN = {"healthy": State.COMPLETED, "faulted": State.FAULTED, "canceled": State.CANCELED}


@workflow.defn
class PlatformJobWorkflow:
    """Run a started job to its end."""

    @workflow.run
    async def run(self, job: PlatformJobInput) -> PlatformJobResult:
        """Plan, run the operators, finish; a cancelled job is finished too."""
        status: Literal["healthy", "faulted", "canceled"] = "healthy"
        message = ""
        pipelines: list[str] = []
        try:
            plan = await workflow.execute_local_activity_method(PlatformJobActivities.plan_job, job, **policies.LOCAL)
            if plan.over:
                return PlatformJobResult(status="over")
            pipelines = [plan.pipeline]
            show(State.RUNNING, pipelines=pipelines, job_ids=[job.job_id])
            if plan.cancel:
                status = "canceled"
            elif message := await self._run_operators(job, plan):
                status = "faulted"
        except (ActivityError, asyncio.CancelledError) as error:
            if not is_cancelled_exception(error):
                raise
            status = "canceled"
        finished = await self._finish(FinishJobInput(job_id=job.job_id, status=status, message=message))
        show(SHOWN[status], pipelines=pipelines, job_ids=[job.job_id])
        return PlatformJobResult(status=status, message=message, registered_tasks=finished.registered_tasks)

    async def _run_operators(self, job: PlatformJobInput, plan: PlatformJobPlan) -> str:
        """Run them in order up to the first that fails; returns why it did."""
        for operator in plan.operators:
            try:
                result = await workflow.execute_activity_method(
                    PlatformJobActivities.run_operator,
                    RunOperatorInput(job_id=job.job_id, operator=operator.name),
                    **policies.operator(operator.time_limit_seconds),
                )
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                return f"operator {operator.name} could not be run to its end, whatever was tried"
            if result.exit_code != 0:
                return result.message
        return ""

    async def _finish(self, request: FinishJobInput) -> FinishJobResult:
        """Record the end, also when the job is cancelled while that happens: it is too late then."""
        finishing = asyncio.ensure_future(
            workflow.execute_local_activity_method(PlatformJobActivities.finish_job, request, **policies.LOCAL)
        )
        try:
            return await asyncio.shield(finishing)
        except asyncio.CancelledError:
            return await finishing
