"""Starting a submission, on a real Temporal server."""

import asyncio
import uuid

from support.spooling import facts
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from clara_dicom_adapter.activities.starting import SubmissionStarter
from clara_dicom_adapter.temporal import attributes
from clara_dicom_adapter.temporal.attributes import State
from clara_dicom_adapter.workflows.models import SubmissionInput


async def test_a_submission_that_runs_is_not_started_again_and_shows_itself_at_once(temporal_server: str) -> None:
    """An activity that starts it may be repeated, and the reconciler may have been faster."""
    client = await Client.connect(temporal_server, data_converter=pydantic_data_converter)
    submission = SubmissionInput(
        submission_id=f"submission-{uuid.uuid4().hex}",
        ae=facts().ae,
        calling_ae_title="CT1",
        nodes=(),
        instances=3,
        incomplete=True,
        received_by="receive-1",
    )
    start = SubmissionStarter(client)
    nobody = f"test-{uuid.uuid4().hex}"
    handle = client.get_workflow_handle(submission.submission_id)
    try:
        await asyncio.to_thread(start, submission, nobody)
        first = await handle.describe()
        await asyncio.to_thread(start, submission, nobody)
        assert (await handle.describe()).run_id == first.run_id
    finally:
        await handle.terminate()
    shown = first.typed_search_attributes
    assert [shown.get(key) for key in (attributes.STATE, attributes.AE_TITLE, attributes.CALLING_AE_TITLE)] == [
        State.SUBMITTING,
        "CLARA",
        "CT1",
    ]
    assert (shown.get(attributes.INSTANCES), shown.get(attributes.INCOMPLETE)) == (3, True)
