"""From a closed group to started jobs of the Clara Platform.

Each job goes its own way through create, upload and start, so that one that fails does not repeat another.
A platform that cannot be reached is waited for; what it refuses is tried again in rounds and then waits for a person.
The instances are released only after every job has started or was given up.
"""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from clara_dicom_adapter.activities.reception import ReceptionActivities
    from clara_dicom_adapter.activities.submission import SubmissionActivities
    from clara_dicom_adapter.temporal.attributes import State
    from clara_dicom_adapter.workflows import policies
    from clara_dicom_adapter.workflows.models import (
        Answer,
        CreateJobInput,
        DiscardInput,
        FinishSubmissionInput,
        JobOnNodeInput,
        JobOutcome,
        JobPlan,
        JobRef,
        JobStatus,
        NoteSubmissionInput,
        PlanInput,
        PlanResult,
        ReleaseInput,
        RestoreInput,
        RetryInput,
        StartJobInput,
        SubmissionInput,
        SubmissionResult,
        SubmissionStatus,
        SubmitJobInput,
        WaitForPlatformInput,
    )

from clara_dicom_adapter.workflows.nodes import happened, on_node, run_there, what_failed
from clara_dicom_adapter.workflows.visible import show

FINISHED = (JobOutcome.STARTED, JobOutcome.DISCARDED)
PLAN = "plan"
"""Stands for the processor's answer where jobs are listed, when there is none."""


def _is_small(job: JobPlan) -> bool:
    return len(job.nodes) == 1 and job.instances <= policies.SMALL_INSTANCES and job.bytes <= policies.SMALL_BYTES


@workflow.defn
class SubmissionWorkflow:
    """See to it that every job of a group is started exactly once."""

    @workflow.init
    def __init__(self, submission: SubmissionInput) -> None:
        self._submission = submission
        self._plan = PlanResult(jobs=())
        self._jobs: dict[str, JobStatus] = {}
        self._state = State.SUBMITTING
        self._parked: set[str] = set()
        """Jobs that wait for a person."""
        self._decided: set[str] = set()
        """Parked jobs about which a person has decided since the last look."""

    @workflow.run
    async def run(self, submission: SubmissionInput) -> SubmissionResult:
        """Plan, submit in rounds, release."""
        self._show(State.SUBMITTING)
        await self._make_plan()
        await self._submit_all()
        await self._finish(submission)
        await workflow.wait_condition(workflow.all_handlers_finished)
        return SubmissionResult(jobs=tuple(self._jobs.values()), instances=submission.instances)

    async def _finish(self, submission: SubmissionInput) -> None:
        """Release the instances on every node; with the last of them goes the note of the end."""
        started = any(job.state is JobOutcome.STARTED for job in self._jobs.values())
        state = State.SUBMITTED if started or not self._jobs else State.DISCARDED
        *others, last = submission.nodes
        for node in others:
            await on_node(
                ReceptionActivities.release,
                ReleaseInput(owner=submission.owner, node_id=node.node_id),
                node.node_id,
                self._waiting_for_node,
            )
        await on_node(
            SubmissionActivities.finish,
            FinishSubmissionInput(owner=submission.owner, node_id=last.node_id, note=self._noted(state)),
            last.node_id,
            self._waiting_for_node,
        )
        self._show(state)

    async def _make_plan(self) -> None:
        """Ask the processor; one that cannot answer waits for a person, who may give the group up."""
        looks = found = waits = 0
        while True:
            try:
                self._plan = await workflow.execute_local_activity_method(
                    SubmissionActivities.plan,
                    PlanInput(submission=self._submission, restored=looks > 0),
                    **policies.PLAN,
                )
            except (ActivityError, ApplicationError) as error:
                kind, message = what_failed(error)
                if kind == "GroupNotComplete":
                    found, looks = await self._restore_records(), looks + 1
                    if found < self._submission.instances:
                        await workflow.sleep(policies.GROUP_PAUSE)
                    if looks < policies.GROUP_LOOKS:
                        continue
                    message += "; retry submits what is there"
                self._jobs = {PLAN: JobStatus(key=PLAN, pipeline="", state=JobOutcome.REFUSED, message=message)}
                self._parked = {PLAN}
                waits += 1
                by_itself = kind == "GroupNotComplete" or (
                    kind == "PipelineMissing" and waits <= policies.PIPELINE_LOOKS
                )
                decided = await self._wait_for_person(
                    policies.PARKED_GROUP_PAUSE.total_seconds() if by_itself else None
                )
                self._parked.clear()
                if self._jobs[PLAN].state is JobOutcome.DISCARDED:
                    return
                if decided and kind == "GroupNotComplete" and found:
                    self._submission = self._submission.model_copy(update={"instances": found, "incomplete": True})
            else:
                self._jobs = {
                    job.key: JobStatus(
                        key=job.key, pipeline=job.pipeline, state=JobOutcome.PLANNED, instances=job.instances
                    )
                    for job in self._plan.jobs
                }
                return

    async def _restore_records(self) -> int:
        """Have every node enter its part of the group into the records again; how many instances there are."""
        found: dict[str, int] = {}
        for node in self._submission.nodes:
            restored = await on_node(
                ReceptionActivities.restore,
                RestoreInput(submission=self._submission, node_id=node.node_id),
                node.node_id,
                self._waiting_for_node,
            )
            found[next(iter(restored.node_ids), node.node_id)] = restored.instances
        return sum(found.values())

    async def _wait_for_person(self, seconds: float | None = None) -> bool:
        """Show what is parked until somebody has decided about some of it; False when nobody has within the time."""
        self._show(State.NEEDS_ATTENTION)
        await self._note()
        decided = await happened(lambda: bool(self._decided), seconds)
        self._parked -= self._decided
        self._decided.clear()
        self._show(State.SUBMITTING)
        return decided

    async def _submit_all(self) -> None:
        """Go round until every job has started or was given up."""
        rounds = 0
        while True:
            await asyncio.gather(*(self._submit(job) for job in self._plan.jobs if self._is_open(job.key)))
            refused = {key for key, job in self._jobs.items() if job.state is JobOutcome.REFUSED} - self._parked
            if refused and rounds < self._plan.maximum_retries:
                rounds += 1
                await workflow.sleep(timedelta(seconds=self._plan.round_delay_seconds))
                continue
            self._parked |= refused
            if not self._parked:
                return
            await self._wait_for_person()
            rounds = 0

    def _is_open(self, key: str) -> bool:
        return self._jobs[key].state not in FINISHED and key not in self._parked

    # ---- one job ----

    async def _submit(self, job: JobPlan) -> None:
        """Take one job as far as it goes; never raises for what the platform does."""
        if _is_small(job) and self._jobs[job.key].state is JobOutcome.PLANNED and await self._submitted_at_once(job):
            return
        forgotten = 0
        while True:
            try:
                await self._steps(job)
            except (ActivityError, ApplicationError) as error:
                kind, message = what_failed(error)
                if kind == "PlatformUnreachable":
                    await self._wait_for_platform(job, message)
                elif kind == "JobForgotten" and forgotten == 0:
                    forgotten += 1
                    self._set(job.key, JobOutcome.PLANNED, job_id="", payload_id="", message=message)
                elif kind in {"PlatformRefused", "JobForgotten", "InstancesMissing"}:
                    self._set(job.key, JobOutcome.REFUSED, message=message)
                    return
                else:
                    raise
            else:
                return

    async def _submitted_at_once(self, job: JobPlan) -> bool:
        """Take a small job all the way in one step; False: step by step, where each trouble has its answer."""
        (node_id,) = job.nodes
        try:
            submitted = await workflow.execute_local_activity_method(
                SubmissionActivities.submit_job,
                SubmitJobInput(create=self._create(job), owner=self._submission.owner, node_id=node_id, here_only=True),
                **policies.SUBMIT_SMALL,
            )
        except (ActivityError, ApplicationError) as error:
            kind, message = what_failed(error)
            workflow.logger.debug("%s is submitted step by step: %s: %s", job.key, kind, message)
            return False
        if submitted.job is None:
            return False
        self._set(
            job.key, JobOutcome.STARTED, job_id=submitted.job.job_id, payload_id=submitted.job.payload_id, message=""
        )
        return True

    def _create(self, job: JobPlan) -> CreateJobInput:
        return CreateJobInput(
            submission_id=self._submission.submission_id,
            job=job,
            ae_title=self._submission.ae.ae_title,
            ae_name=self._submission.ae.name,
            created_at=workflow.info().workflow_start_time.timestamp(),
            incomplete=self._submission.incomplete,
        )

    async def _steps(self, job: JobPlan) -> None:
        created = await workflow.execute_local_activity_method(
            SubmissionActivities.create_job, self._create(job), **policies.LOCAL
        )
        resume = created.found or self._jobs[job.key].state is not JobOutcome.PLANNED
        self._set(job.key, JobOutcome.CREATED, job_id=created.job.job_id, payload_id=created.job.payload_id, message="")
        if not created.already_started:
            await self._fill(job, created.job, resume=resume)
            self._set(job.key, JobOutcome.UPLOADED)
            await workflow.execute_local_activity_method(
                SubmissionActivities.start_job, StartJobInput(job=created.job), **policies.LOCAL
            )
        self._set(job.key, JobOutcome.STARTED)

    async def _fill(self, job: JobPlan, ref: JobRef, *, resume: bool) -> None:
        """Give the job its tags and its payload, node after node for the one, side by side for the other."""

        def work(node_id: str) -> JobOnNodeInput:
            return JobOnNodeInput(
                job=ref,
                owner=self._submission.owner,
                selection=job.selection,
                node_id=node_id,
                total_instances=job.instances,
                resume=resume,
            )

        for node_id in job.nodes if self._plan.tags else ():
            await on_node(SubmissionActivities.add_metadata, work(node_id), node_id, self._waiting_for_node)
        await asyncio.gather(
            *(
                run_there(SubmissionActivities.upload, work(node_id), node_id, policies.UPLOAD, self._waiting_for_node)
                for node_id in job.nodes
            )
        )

    async def _wait_for_platform(self, job: JobPlan, message: str) -> None:
        self._set(job.key, JobOutcome.WAITING_FOR_PLATFORM, message=message)
        self._show(State.WAITING_FOR_PLATFORM)
        await self._note()
        await workflow.execute_activity_method(
            SubmissionActivities.wait_for_platform,
            WaitForPlatformInput(submission_id=self._submission.submission_id),
            **policies.platform_probe(self._plan.unreachable_delay_seconds),
        )
        self._show(State.SUBMITTING)

    # ---- messages ----

    @workflow.query
    def status(self) -> SubmissionStatus:
        return SubmissionStatus(
            state=self._state.value, instances=self._submission.instances, jobs=tuple(self._jobs.values())
        )

    @workflow.update
    def retry(self, request: RetryInput) -> Answer:
        """Try again what the platform refused."""
        items = self._waiting(request.item)
        self._decided.update(items)
        return Answer(changed=len(items), message=f"tried again: {', '.join(items)}")

    @retry.validator
    def _may_retry(self, request: RetryInput) -> None:
        self._must_wait(request.item)

    @workflow.update
    def discard(self, request: DiscardInput) -> Answer:
        """Give up jobs that the platform refused; the others are not touched."""
        items = self._waiting(request.item)
        for key in items:
            self._set(key, JobOutcome.DISCARDED, message=request.reason)
        self._decided.update(items)
        return Answer(changed=len(items), message=f"given up: {', '.join(items)}")

    @discard.validator
    def _may_discard(self, request: DiscardInput) -> None:
        self._must_wait(request.item)

    def _waiting(self, item: str | None) -> list[str]:
        """Parked jobs that nobody has decided about: the one asked for, or all."""
        return sorted(key for key in self._parked - self._decided if item in (None, key))

    def _must_wait(self, item: str | None) -> None:
        if not self._waiting(item):
            waiting = ", ".join(self._waiting(None)) or "nothing"
            raise ApplicationError(f"{item or 'this submission'} does not wait for a person; what waits: {waiting}")

    # ---- what an operator sees ----

    def _set(
        self,
        key: str,
        state: JobOutcome,
        *,
        job_id: str | None = None,
        payload_id: str | None = None,
        message: str | None = None,
    ) -> None:
        changed = {"state": state, "job_id": job_id, "payload_id": payload_id, "message": message}
        self._jobs[key] = self._jobs[key].model_copy(
            update={name: value for name, value in changed.items() if value is not None}
        )

    def _show(self, state: State) -> None:
        self._state = state
        show(
            state,
            ae_title=self._submission.ae.ae_title,
            calling_ae_title=self._submission.calling_ae_title,
            instances=self._submission.instances,
            incomplete=self._submission.incomplete,
            pipelines=sorted({job.pipeline for job in self._jobs.values()}),
            job_ids=sorted(job.job_id for job in self._jobs.values() if job.job_id),
        )

    def _waiting_for_node(self, away: bool) -> None:
        self._show(State.WAITING_FOR_NODE if away else State.SUBMITTING)

    async def _note(self) -> None:
        await workflow.execute_local_activity_method(
            SubmissionActivities.note, self._noted(self._state), **policies.LOCAL
        )

    def _noted(self, state: State) -> NoteSubmissionInput:
        return NoteSubmissionInput(
            submission_id=self._submission.submission_id, jobs=tuple(self._jobs.values()), state=state.value
        )
