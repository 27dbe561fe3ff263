"""A closed group on its way to the Clara Platform."""

from clara_dicom_adapter.workflows.models.ae_titles import PinnedAeTitle
from clara_dicom_adapter.workflows.models.jobs import JobPlan, JobStatus
from clara_dicom_adapter.workflows.models.ownership import HeldNode, Owner
from clara_dicom_adapter.workflows.models.payload import Payload


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


class SubmissionStatus(Payload):
    """Answer of the query ``status`` of a SubmissionWorkflow."""

    state: str
    instances: int
    jobs: tuple[JobStatus, ...] = ()


class SubmissionResult(Payload):
    """What became of every job of a group."""

    jobs: tuple[JobStatus, ...]
    instances: int


class TransferInput(Payload):
    """Hand all that ``owner`` owns on a node to a SubmissionWorkflow."""

    owner: Owner
    node_id: str
    submission: SubmissionInput
    start_on: str = ""
    """Task queue on which the submission is started after that; empty while another node's part is to follow."""
    here_only: bool = False


class TransferResult(Payload):
    here: bool = True
    instances: int = 0


class RestoreInput(Payload):
    """Enter into the records what a submission owns in a node's spool, which they do not know (any more)."""

    submission: SubmissionInput
    node_id: str
    here_only: bool = False


class RestoreResult(Payload):
    here: bool = True
    instances: int = 0
    """All that the submission owns in that spool and has not released."""
    node_ids: tuple[str, ...] = ()
    """As in :class:`ClaimResult`."""


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


class WaitForPlatformInput(Payload):
    submission_id: str


class NoteSubmissionInput(Payload):
    """Write a submission's state to the records."""

    submission_id: str
    jobs: tuple[JobStatus, ...] = ()
    state: str = ""


class FinishSubmissionInput(Payload):
    """Release what a submission owns on a node, and write down what became of it."""

    owner: Owner
    node_id: str
    note: NoteSubmissionInput
    here_only: bool = False


class FinishSubmissionResult(Payload):
    here: bool = True
