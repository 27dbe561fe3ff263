"""One workflow that follows all started jobs, for as long as there are any."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from clara_dicom_adapter.activities.following import FollowingActivities
    from clara_dicom_adapter.workflows import policies
    from clara_dicom_adapter.workflows.models import FollowInput


@workflow.defn
class JobFollowerWorkflow:
    """Keep one look at the platform running; when its worker falls silent another one takes it over."""

    @workflow.run
    async def run(self, request: FollowInput) -> None:
        while not workflow.info().is_continue_as_new_suggested():
            found = await workflow.execute_activity_method(FollowingActivities.follow, request, **policies.FOLLOW)
            if not found.running:
                return
        workflow.continue_as_new(request)
