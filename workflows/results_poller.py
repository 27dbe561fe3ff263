"""One workflow per agent that asks the Results Service for tasks, for as long as the adapter exists."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from clara_dicom_adapter.activities.results import ResultsActivities
    from clara_dicom_adapter.workflows import policies
    from clara_dicom_adapter.workflows.models import PollerInput


@workflow.defn
class ResultsPollerWorkflow:
    """Keep one poll running; when its worker falls silent another one takes it over."""

    @workflow.run
    async def run(self, poller: PollerInput) -> None:
        while not workflow.info().is_continue_as_new_suggested():
            await workflow.execute_activity_method(ResultsActivities.poll, poller, **policies.POLL)
        workflow.continue_as_new(poller)
