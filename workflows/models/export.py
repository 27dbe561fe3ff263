"""The poller of the Results Service, and one of its tasks on its way to destinations."""

from clara_dicom_adapter.workflows.models.payload import Payload


class PollerInput(Payload):
    agent: str


class PollResult(Payload):
    started: int = 0
    """ExportWorkflows started in this spell of polling."""


class ExportInput(Payload):
    """One Results Service task; its uris and parameters are in the records under its id."""

    task_id: str
    agent: str
    nodes: tuple[str, ...] = ()
    """Where an earlier run may have left something of the task."""
    offer: int = 0
    """The newest offer that an earlier run has been told of."""


class SendResult(Payload):
    destination: str
    sent: int
    failed: int
    message: str = ""


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


class Offered(Payload):
    """Signal ``offered``: the Results Service offers the task, after the report of any earlier offer was confirmed."""

    offer: int
    """Counts the offers of this task from 1."""


class PlaceInput(Payload):
    task_id: str


class PlaceResult(Payload):
    node_id: str
    """Where the objects are to be downloaded."""


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
    may_pass: bool = False
    """Whether the problem may be over at another attempt, so that the rule of retries holds for it."""


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


class CleanInput(Payload):
    task_id: str


class CleanResult(Payload):
    removed: int = 0
