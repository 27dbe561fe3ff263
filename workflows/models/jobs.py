"""The jobs of a submission: what is planned, the steps on the platform, and following what was started."""

from enum import StrEnum
from typing import Literal

from clara_dicom_adapter.workflows.models.ae_titles import AeTitle
from clara_dicom_adapter.workflows.models.ownership import Owner
from clara_dicom_adapter.workflows.models.payload import Payload


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


class JobRef(Payload):
    """A job on the platform."""

    submission_id: str
    key: str
    job_id: str
    payload_id: str


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


class StartJobResult(Payload):
    started: bool = True


class SubmitJobInput(Payload):
    """All the steps of one small job whose instances lie on one node."""

    create: CreateJobInput
    owner: Owner
    node_id: str
    here_only: bool = False


class SubmitJobResult(Payload):
    here: bool = True
    job: JobRef | None = None


class FollowInput(Payload):
    """Follow every started job; which ones, is in the records."""


class FollowResult(Payload):
    ended: int = 0
    """Jobs whose end was recorded in this spell."""
    running: bool = False
    """Whether any job is left."""
