"""Activities that turn a closed group into jobs of the Clara Platform.

What the platform does not answer at all is ``PlatformUnreachable``, what it answers with an error code is
``PlatformRefused``, a job it no longer knows is ``JobForgotten``, and one that would be made of less than was planned
is ``InstancesMissing``: the workflow reacts to each of them. All are safe to repeat: before a job is created again it
is looked for, first in the records and then on the platform.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

import structlog
from temporalio import activity

from clara_dicom_adapter.activities.planning import plan
from clara_dicom_adapter.activities.uploading import Transfer, upload_all
from clara_dicom_adapter.clara import metadata
from clara_dicom_adapter.clara.model import JobPriority, JobState
from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.configuration.processors import GroupedInstance, InstanceGroup, JobProcessor, find
from clara_dicom_adapter.configuration.settings import PlatformSettings
from clara_dicom_adapter.dicom.head import read_head
from clara_dicom_adapter.errors import InstancesMissing, JobForgotten, PipelineMissing, PlatformRefused, TransientError
from clara_dicom_adapter.spool import OwnerSummary, SpooledInstance
from clara_dicom_adapter.workflows.models import (
    CreateJobInput,
    CreateJobResult,
    FinishSubmissionInput,
    FinishSubmissionResult,
    JobOnNodeInput,
    JobOnNodeResult,
    JobPlan,
    JobRef,
    NoteResult,
    NoteSubmissionInput,
    Owner,
    PlanInput,
    PlanResult,
    StartJobInput,
    StartJobResult,
    SubmissionInput,
    SubmitJobInput,
    SubmitJobResult,
    WaitForPlatformInput,
)

log = structlog.get_logger("clara_dicom_adapter.activities.submission")

SUBMISSION_KEY = "ClaraDicomAdapterSubmission"
"""Metadata key by which a job is found again; its value is ``<submission id>/<job key>``."""
INCOMPLETE_KEY = "Incomplete"
JOB_UNKNOWN = -0x2001  # clara-wire, section 2, error codes
PROCESSOR_NAME = "AE Title Job Processor"
"""As the original's default processor calls itself in ``Source`` (original-behaviour 1.5)."""
EVERY_STATE = (JobState.PENDING, JobState.RUNNING, JobState.STOPPED)


class GroupNotComplete(TransientError):
    """Not every node has transferred its part of the group yet."""


class JobRecord(Protocol):
    """What the records know of a job."""

    @property
    def job_id(self) -> str: ...
    @property
    def payload_id(self) -> str: ...
    @property
    def job_name(self) -> str: ...
    @property
    def started(self) -> bool: ...


class SubmissionRecords(Protocol):
    """What these activities need of the records."""

    def group(self, owner: Owner) -> Sequence[GroupedInstance]: ...
    def planned(
        self,
        submission: SubmissionInput,
        jobs: Sequence[JobPlan],
        selections: Mapping[str, Sequence[GroupedInstance]],
    ) -> None: ...
    def selection(self, submission_id: str, selection: str, node_id: str) -> frozenset[tuple[str, int]]: ...
    def job(self, submission_id: str, key: str) -> JobRecord | None: ...
    def creating(self, submission_id: str, key: str) -> bool:
        """Note that Create is about to be called; False when that was noted before: the job may exist."""
        ...

    def created(self, job: JobRef, job_name: str) -> None: ...
    def started(self, job: JobRef) -> None: ...
    def forgotten(self, job: JobRef) -> None: ...
    def noted(self, note: NoteSubmissionInput) -> None: ...


class SubmissionSpool(Protocol):
    """What these activities need of a node's spool."""

    @property
    def node_ids(self) -> Collection[str]: ...
    def instances_of(self, owner: Owner) -> list[SpooledInstance]: ...
    def owners(self) -> list[OwnerSummary]: ...
    def release(self, owner: Owner) -> int: ...


def _lacks_pipeline(processor: JobProcessor, ae_title: str) -> bool:
    return any(line.startswith(checks.NO_PIPELINE) for line in processor.own_problems(ae_title))


class SubmissionActivities:
    """Plan, create, fill and start jobs."""

    def __init__(
        self,
        spool: SubmissionSpool,
        records: SubmissionRecords,
        platform: PlatformClient,
        settings: PlatformSettings,
        ae_titles: Callable[[], Iterable[ClaraAeTitle]] | None = None,
    ) -> None:
        """Args:
        ae_titles: The Clara AE titles as they are now, for groups of one that had no pipeline.
        """
        self._spool = spool
        self._records = records
        self._platform = platform
        self._settings = settings
        self._ae_titles = ae_titles

    @activity.defn(name="plan_submission")
    def plan(self, request: PlanInput) -> PlanResult:
        """Ask the AE title's processor which jobs the group makes, and write its answer down; safe to repeat."""
        submission = request.submission
        instances = self._records.group(submission.owner)
        if len(instances) < submission.instances:
            raise GroupNotComplete(f"{len(instances)} of {submission.instances} instances are transferred")
        processor = self._processor(submission)
        group = InstanceGroup(submission.ae.ae_title, submission.calling_ae_title, submission.incomplete, instances)
        planned = plan(processor, group, overwrite_same_instance=submission.ae.overwrite_same_instance)
        self._records.planned(submission, planned.jobs, planned.selections)
        if request.restored:
            for job in planned.jobs:  # with the records went what had been created
                self._records.creating(submission.submission_id, job.key)
        return PlanResult(
            jobs=tuple(planned.jobs),
            declined=planned.declined,
            maximum_retries=self._settings.max_retries,
            tags=self._sends_tags,
            round_delay_seconds=processor.round_delay_seconds,
            unreachable_delay_seconds=self._settings.retry_delay_seconds,
        )

    def _processor(self, submission: SubmissionInput) -> JobProcessor:
        """As it was pinned; but an AE title that had no pipeline then takes what it has now."""
        pinned = submission.ae
        kind = find(pinned.processor)
        processor = kind(pinned.processor_settings)
        if not _lacks_pipeline(processor, pinned.ae_title):
            return processor
        now = self._ae_titles() if self._ae_titles else ()
        for ae in now:
            if ae.name == pinned.name:
                processor = kind({**pinned.processor_settings, **ae.processor_settings})
        if _lacks_pipeline(processor, pinned.ae_title):
            raise PipelineMissing(pinned.ae_title)
        return processor

    @activity.defn
    def create_job(self, request: CreateJobInput) -> CreateJobResult:
        """Create a job, or find the one that an earlier attempt made; safe to repeat."""
        known = self._records.job(request.submission_id, request.job.key)
        if known is not None and known.job_id:
            job = self._ref(request, known.job_id, known.payload_id)
            return CreateJobResult(job=job, job_name=known.job_name, already_started=known.started, found=True)
        marker = f"{request.submission_id}/{request.job.key}"
        if not self._records.creating(request.submission_id, request.job.key):
            found = self._platform.find_job(SUBMISSION_KEY, marker, EVERY_STATE)
            if found is not None:
                job = self._ref(request, found.job_id, found.payload_id)
                self._records.created(job, found.name)
                return CreateJobResult(job=job, job_name=found.name, already_started=found.was_started, found=True)
        name = self._job_name(request)
        job_id, payload_id = self._platform.create_job(
            self._platform.resolve_pipeline(request.job.pipeline),
            name,
            JobPriority[request.job.priority.upper()],
            self._entries(request, marker),
        )
        job = self._ref(request, job_id, payload_id)
        self._records.created(job, name)
        return CreateJobResult(job=job, job_name=name)

    @activity.defn(no_thread_cancel_exception=True)
    def add_metadata(self, request: JobOnNodeInput) -> JobOnNodeResult:
        """Add the configured tags of this node's instances; safe to repeat."""
        if self._declines(request):
            return JobOnNodeResult(here=False)
        with self._known_job(request.job):
            existing = self._platform.job_status(request.job.job_id).metadata
            change = metadata.merge(existing, self._tag_values(request))
            self._platform.add_metadata(request.job.job_id, change.add)
            self._platform.remove_metadata(request.job.job_id, change.remove)
        return JobOnNodeResult()

    @activity.defn(name="upload_instances")
    def upload(self, request: JobOnNodeInput) -> JobOnNodeResult:
        """Put this node's instances into the job's payload; safe to repeat, and goes on where it stopped."""
        transfers = [Transfer.of(instance) for instance in self._selected(request)]
        with self._known_job(request.job):
            total = upload_all(
                self._platform,
                request.job.payload_id,
                self._missing(request.job, transfers, resume=request.resume or activity.info().attempt > 1),
                parallel=self._settings.parallel_uploads,
                heartbeat=activity.heartbeat,
            )
        return JobOnNodeResult(instances=len(transfers), bytes=total)

    @activity.defn
    def start_job(self, request: StartJobInput) -> StartJobResult:
        """Start the job and note it; safe to repeat: a job that runs or has run was started."""
        with self._known_job(request.job):
            self._platform.start_job(request.job.job_id)
        self._records.started(request.job)
        log.info("job_started", submission_id=request.job.submission_id, job_id=request.job.job_id)
        return StartJobResult()

    @activity.defn
    def submit_job(self, request: SubmitJobInput) -> SubmitJobResult:
        """Create, fill and start a small job of this node's instances; safe to repeat, as each of the steps is."""
        if request.here_only and request.node_id not in self._spool.node_ids:
            return SubmitJobResult(here=False)
        created = self.create_job(request.create)
        if not created.already_started:
            work = JobOnNodeInput(
                job=created.job,
                owner=request.owner,
                selection=request.create.job.selection,
                node_id=request.node_id,
                total_instances=request.create.job.instances,
            )
            if self._sends_tags:
                self.add_metadata(work)
            transfers = [Transfer.of(instance) for instance in self._selected(work)]
            with self._known_job(created.job):
                for each in self._missing(created.job, transfers, resume=created.found):
                    self._platform.upload(created.job.payload_id, each.name, each.path)
            self.start_job(StartJobInput(job=created.job))
        return SubmitJobResult(job=created.job)

    @activity.defn
    def wait_for_platform(self, request: WaitForPlatformInput) -> NoteResult:
        """Succeeds when the platform answers; its retries are the waiting."""
        del request
        self._platform.version()
        return NoteResult()

    @activity.defn(name="note_submission")
    def note(self, request: NoteSubmissionInput) -> NoteResult:
        """Write the submission's state to the records; safe to repeat."""
        self._records.noted(request)
        return NoteResult()

    @activity.defn(name="finish_submission", no_thread_cancel_exception=True)
    def finish(self, request: FinishSubmissionInput) -> FinishSubmissionResult:
        """Let the reclaimer delete what the submission has on this node, then note its end; safe to repeat."""
        if request.here_only and request.node_id not in self._spool.node_ids:
            return FinishSubmissionResult(here=False)
        self._spool.release(request.owner)
        self._records.noted(request.note)
        return FinishSubmissionResult()

    # ---- parts ----

    @property
    def _sends_tags(self) -> bool:
        return self._settings.upload_metadata and bool(self._settings.metadata_dicom_source)

    def _declines(self, request: JobOnNodeInput) -> bool:
        return request.here_only and request.node_id not in self._spool.node_ids

    def _selected(self, request: JobOnNodeInput) -> list[SpooledInstance]:
        wanted = self._records.selection(request.job.submission_id, request.selection, request.node_id)
        mine = self._spool.instances_of(request.owner)
        if not wanted and self._takes_whole_group(request):  # the records are lost, and are not needed to tell
            wanted = frozenset(one.key for one in mine)
        there = [one for one in mine if one.key in wanted and one.path.exists()]
        if len(there) < len(wanted) or not wanted:
            known = self._records.job(request.job.submission_id, request.job.key)
            if known is None or not known.started:  # else they were released rightly, and this is a late repetition
                expected = len(wanted) or request.total_instances
                raise InstancesMissing(expected - len(there), expected)
        return there

    def _missing(self, job: JobRef, transfers: Sequence[Transfer], *, resume: bool) -> list[Transfer]:
        """What is not in the payload yet; asked only when an earlier attempt may have put something there."""
        there: dict[str, int] = {}
        if resume:
            there = {file.name: file.size for file in self._platform.payload_files(job.payload_id)}
        return [each for each in transfers if there.get(f"input/{each.name}") != each.bytes]

    def _takes_whole_group(self, request: JobOnNodeInput) -> bool:
        """Whether the job was to be made of all that its submission owns, as the spool knows it."""
        for summary in self._spool.owners():
            if summary.owner == request.owner and summary.restart is not None:
                return SubmissionInput.model_validate_json(summary.restart).instances == request.total_instances
        return False

    def _tag_values(self, request: JobOnNodeInput) -> dict[str, list[str]]:
        values: dict[str, list[str]] = {tag: [] for tag in self._settings.metadata_dicom_source}
        for instance in self._selected(request):
            head = read_head(instance.path, self._settings.metadata_dicom_source)
            for tag, found in values.items():
                found.extend(head.values.get(tag, ()))
        return values

    def _known_job(self, job: JobRef) -> "_KnownJob":
        return _KnownJob(self._platform, self._records, job)

    @staticmethod
    def _entries(request: CreateJobInput, marker: str) -> dict[str, str]:
        """What is told about every job; it goes with Create, and needs no call of its own."""
        entries = {
            metadata.SOURCE: metadata.source(request.ae_title, PROCESSOR_NAME),
            SUBMISSION_KEY: marker,
            metadata.INSTANCES: str(request.job.instances),
        }
        return {**entries, INCOMPLETE_KEY: "true"} if request.incomplete else entries

    @staticmethod
    def _job_name(request: CreateJobInput) -> str:
        created = datetime.fromtimestamp(request.created_at, UTC)
        base = f"{request.ae_title}-{request.job.key}-{created:%Y%m%d%H%M%S}"
        return metadata.job_name(base, request.submission_id.rpartition("-")[2])

    @staticmethod
    def _ref(request: CreateJobInput, job_id: str, payload_id: str) -> JobRef:
        return JobRef(submission_id=request.submission_id, key=request.job.key, job_id=job_id, payload_id=payload_id)


class _KnownJob:
    """Tells a refusal for a job that the platform has forgotten from any other refusal."""

    def __init__(self, platform: PlatformClient, records: SubmissionRecords, job: JobRef) -> None:
        self._platform = platform
        self._records = records
        self._job = job

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, PlatformRefused):
            return
        try:
            self._platform.job_status(self._job.job_id)
        except PlatformRefused as unknown:
            if unknown.code == JOB_UNKNOWN:
                self._records.forgotten(self._job)
                raise JobForgotten(self._job.job_id) from error
