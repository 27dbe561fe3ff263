"""Starting the submission of a closed group, from the activity that has made the group the submission's."""

import asyncio
from datetime import timedelta
from typing import Final

import structlog
from temporalio.client import Client
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from clara_dicom_adapter.temporal import attributes
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows.models import SubmissionInput

log = structlog.get_logger("clara_dicom_adapter.activities.starting")

_CALL: Final = timedelta(seconds=10)


class SubmissionStarter:
    """Starts SubmissionWorkflows; made where the client's event loop runs, called from threads of activities."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()

    def __call__(self, submission: SubmissionInput, task_queue: str) -> None:
        """Start it, unless it runs already; safe to repeat."""
        asyncio.run_coroutine_threadsafe(self._start(submission, task_queue), self._loop).result()

    async def _start(self, submission: SubmissionInput, task_queue: str) -> None:
        try:
            await self._client.start_workflow(
                "SubmissionWorkflow",
                submission,
                id=submission.submission_id,
                task_queue=task_queue,
                # as the reconciler starts it: one that ended without submitting everything is needed once more, and one
                # that did finds that in the records
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                search_attributes=attributes.from_the_start(
                    State.SUBMITTING,
                    ae_title=submission.ae.ae_title,
                    calling_ae_title=submission.calling_ae_title,
                    instances=submission.instances,
                    incomplete=submission.incomplete,
                ),
                rpc_timeout=_CALL,
            )
        except WorkflowAlreadyStartedError:
            # by the reconciler, or by an attempt whose result got lost
            log.debug("submission_runs_already", submission_id=submission.submission_id)
