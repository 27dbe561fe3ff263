"""What workflows, signals, updates and activities take and return.

Imports the standard library and pydantic only, so that the workflow sandbox, the receiver, the API and the tests may
all import it freely. Everything here is written to a workflow's history: counts and references, never instance
lists, UIDs of patients' objects or any patient attribute. Unknown fields are ignored, so that an old worker survives a
new field after a roll-back; new fields get defaults.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints

# PS3.5 table 6.2-1: at most 16 characters, no backslash, no control characters.
AeTitle = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[^\\\x00-\x1f\x7f]+$"),
]


class Payload(BaseModel):
    """Base of everything that is written to a workflow's history."""

    model_config = ConfigDict(frozen=True)


# ---- what an AE title asks for, pinned when an association begins ----


class InterruptedPolicy(StrEnum):
    """What becomes of an interrupted association's instances when the sender does not come back (DESIGN 5)."""

    SUBMIT = "submit"
    QUARANTINE = "quarantine"
    DISCARD = "discard"


class PinnedAeTitle(Payload):
    """A Clara AE title's configuration as it was when the association began; later edits do not reach it."""

    ae_title: AeTitle
    name: str
    revision: int = 0
    """Grows with each change of the entity, so that a trace can say under which configuration something came in."""
    processor: str
    processor_settings: dict[str, str] = {}
    timeout_seconds: float = 5.0
    """0: one group per association; otherwise a window that rests this long closes."""
    group_by: str = "0020,000D"
    """Tag whose value divides windows, ``GGGG,EEEE``, or ``none``: all of the AE title in one."""
    maximum_window_seconds: float | None = None
    """A window that never rests is closed after this long."""
    overwrite_same_instance: bool = False
    interrupted: InterruptedPolicy | None = None
    """None: submit in windows, quarantine at timeout 0."""
    interrupted_hold_seconds: float = 60.0
    quarantine_retention_seconds: float = 604800.0
    """What is quarantined is given up after this long; nothing else expires."""


# ---- receiver -> ReceiveWorkflow ----


class AssociationOutcome(StrEnum):
    """How an association ended."""

    RELEASED = "released"
    ABORTED = "aborted"
    """The peer sent A-ABORT, or the adapter did because the peer broke the protocol or fell silent."""
    CONNECTION_LOST = "connection-lost"
    ADAPTER_STOPPED = "adapter-stopped"
    """The adapter went down while the association was open: our fault, never the sender's."""

    @property
    def interrupted(self) -> bool:
        """Whether the sender may not have sent all it wanted."""
        return self is not AssociationOutcome.RELEASED


class BatchRef(Payload):
    """A batch of instances in one node's spool, whose manifest is found there under its id."""

    batch_id: str
    node_id: str
    association_id: str
    number: int
    """Counts an association's batches from 1."""
    instances: int
    bytes: int


class AssociationEnd(Payload):
    """An association is over, as far as one ReceiveWorkflow is concerned."""

    association_id: str
    node_id: str
    sender_key: str
    """Keyed hash of calling and called AE title, to recognise a sender that comes back."""
    outcome: AssociationOutcome
    instances: int
    """All instances of this association that were addressed to this workflow."""
    failed_instances: int = 0
    """How many of the association's instances were answered A700."""


class HandOver(Payload):
    """Signal ``hand_over``: what a receiver tells a ReceiveWorkflow.

    ``batches`` empty and ``ended`` None means that an instance is arriving: it only keeps the window open.
    """

    batches: tuple[BatchRef, ...] = ()
    ended: AssociationEnd | None = None


class HeldNode(Payload):
    """How much of a group lies in one node's spool."""

    node_id: str
    instances: int
    bytes: int


class ReceiveProgress(Payload):
    """What a ReceiveWorkflow carries over when it continues as new."""

    group: int = 1
    nodes: tuple[HeldNode, ...] = ()
    outstanding: dict[str, int] = {}
    """By node, what its spool still held for the group when it was last asked."""
    pending: tuple[HandOver, ...] = ()
    ended: AssociationOutcome | None = None
    failed_instances: int = 0
    interrupted_senders: tuple[str, ...] = ()
    adapter_at_fault: bool = False
    awaited: int = 0
    """Interrupted associations of the same sender that the group would take over if they were held."""
    opened_at: float = 0.0
    """Seconds since the epoch at which the first batch of the open group was claimed; 0 when none was."""
    last_activity_at: float = 0.0


class ReceiveInput(Payload):
    """Start of a ReceiveWorkflow."""

    ae: PinnedAeTitle
    calling_ae_title: str
    """Of the association that opened it, for the operator to see."""
    association_id: str | None
    """Set at timeout 0: the one association whose group this is."""
    sender_key: str = ""
    """Keyed hash of calling and called AE title, set at timeout 0."""
    progress: ReceiveProgress = ReceiveProgress()


class ReceiveResult(Payload):
    """What a ReceiveWorkflow did with the instances it claimed."""

    submissions: tuple[str, ...] = ()
    instances: int = 0
    outcome: str = ""


# ---- ReceiveWorkflow <-> spool activities ----


class Owner(Payload):
    """Who a batch belongs to: a workflow execution chain, and which of its groups."""

    workflow_id: str
    run_id: str = ""
    group: int = 0


class ClaimInput(Payload):
    owner: Owner
    node_id: str
    batch_ids: tuple[str, ...]
    here_only: bool = False
    """As a local activity: answer ``here=False`` instead of claiming when this worker does not serve that node."""


class ClaimResult(Payload):
    here: bool = True
    instances: int = 0
    """How many instances the granted batches hold; batches that someone else owns count nothing."""
    bytes: int = 0
    refused: int = 0
    outstanding: int = 0
    """Instances addressed to this workflow on that node that nobody has claimed yet: their signal is on its way."""
    owned_instances: int = 0
    """All that the owner now owns in that spool: unlike ``instances`` the same however often a batch is delivered."""
    owned_bytes: int = 0
    node_ids: tuple[str, ...] = ()
    """The nodes that the spool answers for, its own first: a lost one that was adopted is counted with it."""


class OutstandingInput(Payload):
    workflow_id: str
    node_id: str
    here_only: bool = False


class OutstandingResult(Payload):
    here: bool = True
    instances: int = 0


class HoldInput(Payload):
    """Register an interrupted group, so that the sender's next association finds it."""

    owner: Owner
    sender_key: str
    node_id: str
    nodes: tuple[HeldNode, ...]
    here_only: bool = False


class HoldResult(Payload):
    here: bool = True


class MergeHeldInput(Payload):
    """Take over what the same sender left behind for one of the same studies."""

    owner: Owner
    sender_key: str
    association_id: str
    """The one that the owner's group began with."""
    node_id: str
    here_only: bool = False


class HeldGroup(Payload):
    owner: Owner
    nodes: tuple[HeldNode, ...]


class MergeHeldResult(Payload):
    here: bool = True
    groups: tuple[HeldGroup, ...] = ()
    """Groups that are this owner's from now on; their claims still have to be taken over on each node."""
    awaited: int = 0
    """Earlier associations of that sender and study in this spool that broke off and are not held yet."""


class SenderIsBackInput(Payload):
    """Ask whether the sender of an interrupted group has a later association of one of the same studies."""

    owner: Owner
    sender_key: str
    association_id: str
    node_id: str
    here_only: bool = False


class SenderIsBackResult(Payload):
    here: bool = True
    associations: int = 0
    """Those in this spool that have not been settled: each of them will look for what is held."""


class TakeOverInput(Payload):
    """Give all that ``owner`` owns on a node to ``new_owner``."""

    owner: Owner
    new_owner: Owner
    node_id: str
    here_only: bool = False


class TakeOverResult(Payload):
    here: bool = True
    instances: int = 0
    """All that the new owner owns in that spool now, with what it had before."""
    bytes: int = 0
    node_ids: tuple[str, ...] = ()
    """As in :class:`ClaimResult`."""


class EndHoldInput(Payload):
    owner: Owner


class EndHoldResult(Payload):
    merged_into: Owner | None = None
    """Who took the group over; None when the hold ended without anyone coming back."""


class TransferInput(Payload):
    """Hand all that ``owner`` owns on a node to a SubmissionWorkflow."""

    owner: Owner
    node_id: str
    submission: "SubmissionInput"
    start_on: str = ""
    """Task queue on which the submission is started after that; empty while another node's part is to follow."""
    here_only: bool = False


class TransferResult(Payload):
    here: bool = True
    instances: int = 0


class ReleaseInput(Payload):
    """Let the reclaimer delete what ``owner`` owns on a node."""

    owner: Owner
    node_id: str
    here_only: bool = False


class ReleaseResult(Payload):
    here: bool = True
    instances: int = 0


class RestoreInput(Payload):
    """Enter into the records what a submission owns in a node's spool, which they do not know (any more)."""

    submission: "SubmissionInput"
    node_id: str
    here_only: bool = False


class RestoreResult(Payload):
    here: bool = True
    instances: int = 0
    """All that the submission owns in that spool and has not released."""
    node_ids: tuple[str, ...] = ()
    """As in :class:`ClaimResult`."""


class ReceptionState(StrEnum):
    """Where a group is, in the records."""

    RECEIVING = "receiving"
    HELD = "held"
    QUARANTINED = "quarantined"
    SUBMITTED = "submitted"
    DISCARDED = "discarded"
    MERGED = "merged"


class NoteReceptionInput(Payload):
    """Write a group's state to the records."""

    owner: Owner
    state: ReceptionState
    incomplete: bool = False
    reason: str = ""


class NoteResult(Payload):
    pass


# ---- SubmissionWorkflow ----


class SubmissionInput(Payload):
    """A closed group on its way to the Clara Platform."""

    submission_id: str
    ae: PinnedAeTitle
    calling_ae_title: str
    nodes: tuple[HeldNode, ...]
    instances: int
    incomplete: bool = False
    """The association was interrupted, or some instance was answered A700."""
    received_by: str
    """Workflow id of the ReceiveWorkflow."""

    @property
    def owner(self) -> Owner:
        """As whom the submission owns its instances in the spools."""
        return Owner(workflow_id=self.submission_id)


class JobPlan(Payload):
    """One job that a processor asks for."""

    key: str
    """Unique within the submission, and stable: ``<pipeline name>`` or ``<pipeline name>-<n>``."""
    pipeline: str
    """Pipeline id or name, as configured."""
    priority: Literal["lower", "normal", "higher", "immediate"] = "normal"
    selection: str = "all"
    """Name of the set of instances in the records that makes up the job; jobs may share one."""
    instances: int
    bytes: int
    nodes: tuple[str, ...]
    """Nodes that hold instances of this job."""


class PlanInput(Payload):
    submission: SubmissionInput
    restored: bool = False
    """The records had to be restored: jobs that they do not know of may exist on the platform."""


class PlanResult(Payload):
    jobs: tuple[JobPlan, ...]
    declined: int = 0
    """Instances that no processor wants, duplicates among them; they may be reclaimed at once."""
    tags: bool = False
    """Values of tags become metadata of the jobs (``services>platform>uploadMetadata``)."""
    maximum_retries: int = 3
    """Rounds after the first before what is refused waits for a person (``services>platform>maxRetries``)."""
    round_delay_seconds: float = 5.0
    """Pause between rounds of the submission (``jobRetryDelay``)."""
    unreachable_delay_seconds: float = 180.0
    """Pause between attempts to reach the platform (``services>platform>retryDelaySeconds``)."""


class JobRef(Payload):
    """A job on the platform."""

    submission_id: str
    key: str
    job_id: str
    payload_id: str


class CreateJobInput(Payload):
    submission_id: str
    job: JobPlan
    ae_title: AeTitle
    ae_name: str
    created_at: float
    """Seconds since the epoch, from the workflow's clock: names are the same on every attempt."""
    incomplete: bool = False


class CreateJobResult(Payload):
    job: JobRef
    job_name: str
    already_started: bool = False
    """An earlier attempt got as far as Start; nothing more is to be done for this job."""
    found: bool = False
    """An earlier attempt created it, and may have begun to fill it."""


class JobOnNodeInput(Payload):
    """Work for one job with the instances of one node: its metadata, or its upload."""

    job: JobRef
    owner: Owner
    selection: str
    node_id: str
    total_instances: int
    resume: bool = False
    """An earlier upload did not end well: ask the platform which files it has."""
    here_only: bool = False


class JobOnNodeResult(Payload):
    here: bool = True
    instances: int = 0
    bytes: int = 0


class StartJobInput(Payload):
    job: JobRef


class SubmitJobInput(Payload):
    """All the steps of one small job whose instances lie on one node."""

    create: CreateJobInput
    owner: Owner
    node_id: str
    here_only: bool = False


class SubmitJobResult(Payload):
    here: bool = True
    job: JobRef | None = None


class WaitForPlatformInput(Payload):
    submission_id: str


class NoteSubmissionInput(Payload):
    """Write a submission's state to the records."""

    submission_id: str
    jobs: tuple["JobStatus", ...] = ()
    state: str = ""


class StartJobResult(Payload):
    started: bool = True


class FinishSubmissionInput(Payload):
    """Release what a submission owns on a node, and write down what became of it."""

    owner: Owner
    node_id: str
    note: NoteSubmissionInput
    here_only: bool = False


class FinishSubmissionResult(Payload):
    here: bool = True


class JobOutcome(StrEnum):
    PLANNED = "planned"
    CREATED = "created"
    UPLOADED = "uploaded"
    STARTED = "started"
    WAITING_FOR_PLATFORM = "waiting-for-platform"
    WAITING_FOR_NODE = "waiting-for-node"
    REFUSED = "refused"
    DISCARDED = "discarded"


class JobStatus(Payload):
    key: str
    pipeline: str
    state: JobOutcome
    job_id: str = ""
    payload_id: str = ""
    instances: int = 0
    message: str = ""


class SubmissionResult(Payload):
    """What became of every job of a group."""

    jobs: tuple[JobStatus, ...]
    instances: int


# ---- what a person asks of a parked workflow ----


class ReceiveStatus(Payload):
    """Answer of the query ``status`` of a ReceiveWorkflow."""

    state: str
    instances: int
    bytes: int
    group: int
    submissions: tuple[str, ...] = ()


class SubmissionStatus(Payload):
    """Answer of the query ``status`` of a SubmissionWorkflow."""

    state: str
    instances: int
    jobs: tuple[JobStatus, ...] = ()


class RetryInput(Payload):
    """Update ``retry``: go on with what was parked; a quarantined group is submitted."""

    item: str | None = None
    """A job key or a destination name; None is all that is parked in this workflow."""


class SendElsewhereInput(Payload):
    """Update ``send_elsewhere`` of an export: all its objects go to another destination."""

    destination: str
    """Name of a configured destination."""
    instead_of: str | None = None
    """The destination that is not tried again; None is all that have not got everything."""


class DiscardInput(Payload):
    """Update ``discard``: give up what was parked; the reason is kept in the history."""

    item: str | None = None
    reason: str = ""


class Answer(Payload):
    """What an update did, in words."""

    changed: int
    message: str


# ---- following started jobs ----


class FollowInput(Payload):
    """Follow every started job; which ones, is in the records."""


class FollowResult(Payload):
    ended: int = 0
    """Jobs whose end was recorded in this spell."""
    running: bool = False
    """Whether any job is left."""


# ---- export ----


class PollerInput(Payload):
    agent: str


class PollResult(Payload):
    started: int = 0
    """ExportWorkflows started in this spell of polling."""


class ExportInput(Payload):
    """One Results Service task; its uris and parameters are in the records under its id."""

    task_id: str
    agent: str


class Offered(Payload):
    """Signal ``offered``: the Results Service offers the task, after the report of any earlier offer was confirmed."""

    offer: int
    """Counts the offers of this task from 1."""


class FetchInput(Payload):
    task_id: str
    agent: str
    again: bool = False
    """A person asked for it: fetch although the task has been reported, and is closed at the Results Service."""
    destinations: tuple[str, ...] = ()
    """Where a person wants the objects; empty: where the task's parameters say."""


class FetchResult(Payload):
    """What was downloaded, and where it lies."""

    node_id: str
    offer: int = 1
    """0: the records do not know the task."""
    open: bool = True
    """False: the task was reported already, nothing is to be done."""
    retention_seconds: float = 259200.0
    """How long the objects are kept for a person after a final failure."""
    objects: int
    """All uris of the task."""
    downloaded: int
    """How many are DICOM part 10 files on this node's disk."""
    destinations: tuple[str, ...]
    pipeline_id: str = ""
    pipeline: str = ""
    """As the AE title names it, when the job is ours; else its id."""
    ae_title: str = ""
    """Our AE title that received what the job was made of; empty when the job is not ours."""
    job_id: str = ""
    problem: str = ""
    """Why the task fails without anything being sent; empty when it can go on."""


class SendInput(Payload):
    task_id: str
    agent: str
    destination: str
    offer: int = 1
    round: int = 1
    """Counts the passes over this destination; an attempt after a crash belongs to the same pass, and repeats only
    what has no result in it."""


class SendProgress(Payload):
    """Heartbeat of a fetch or a send."""

    done: int
    failed: int
    total: int


class SendResult(Payload):
    destination: str
    sent: int
    failed: int
    message: str = ""


class ReportInput(Payload):
    task_id: str
    agent: str
    success: bool
    retry_later: bool = False
    message: str = ""
    offer: int = 1


class ReportResult(Payload):
    accepted: bool = True
    """False: the Results Service refused it, for instance because it does not know the task (any more)."""
    message: str = ""


class NoteExportInput(Payload):
    """Write an export's state to the records."""

    task_id: str
    state: str
    message: str = ""


class ExportDecisionInput(Payload):
    """What there is to judge; ``fetched`` holds what the whole task holds, ``sent`` one entry per destination."""

    task_id: str
    fetched: FetchResult
    sent: tuple[SendResult, ...]


class ExportDecision(Payload):
    """What the Results Service is told; ``sent`` is what was judged, as far as the records know better."""

    success: bool
    retry_later: bool
    message: str = ""
    sent: tuple[SendResult, ...] = ()


class CleanInput(Payload):
    task_id: str


class CleanResult(Payload):
    removed: int = 0


class ExportStatus(Payload):
    """Answer of the query ``status`` of an ExportWorkflow."""

    state: str
    node_id: str = ""
    objects: int = 0
    downloaded: int = 0
    destinations: tuple[SendResult, ...] = ()
    reported: bool = False
    message: str = ""
    notes: tuple[str, ...] = ()
    """What happened on the way that an operator should know, such as a node that went away."""


class ExportResult(Payload):
    task_id: str
    success: bool
    sent: int
    failed: int
    message: str = ""


# ---- the embedded platform's jobs ----


class PlatformJobInput(Payload):
    job_id: str


class OperatorPlan(Payload):
    name: str
    time_limit_seconds: float


class PlatformJobPlan(Payload):
    operators: tuple[OperatorPlan, ...]
    pipeline: str = ""
    """Name of the pipeline."""
    over: bool = False
    """There is nothing to do: the job has ended, or the platform does not know it any more."""
    cancel: bool = False
    """Someone asked for its end before the workflow could run."""


class RunOperatorInput(Payload):
    job_id: str
    operator: str


class RunOperatorResult(Payload):
    exit_code: int
    message: str = ""


class FinishJobInput(Payload):
    job_id: str
    status: Literal["healthy", "faulted", "canceled"]
    message: str = ""


class FinishJobResult(Payload):
    registered_tasks: int = 0


class PlatformJobResult(Payload):
    status: Literal["healthy", "faulted", "canceled", "over"]
    message: str = ""
    registered_tasks: int = 0


TransferInput.model_rebuild()
RestoreInput.model_rebuild()
NoteSubmissionInput.model_rebuild()
FinishSubmissionInput.model_rebuild()
