"""Search attributes: what an operator filters workflows by, in the Temporal UI and in ``clara dicom``.

Workflows set them, so this module imports only what the workflow sandbox allows. They hold configuration names, states,
counts and job ids, never a patient's attribute. :mod:`temporal.registration` makes them known to a server.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, TypedDict, Unpack

from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

# The SQL visibility stores of Temporal have, per namespace, 10 columns for Keyword, 3 for KeywordList and 3
# each for Int and Bool (schema of temporalio/temporal, custom_search_attributes): the list must stay within them.
AE_TITLE: Final = SearchAttributeKey.for_keyword("ClaraAeTitle")
"""The called AE title that received."""
STATE: Final = SearchAttributeKey.for_keyword("ClaraState")
"""One of :class:`State`."""
CALLING_AE_TITLE: Final = SearchAttributeKey.for_keyword("ClaraCallingAeTitle")
NODE: Final = SearchAttributeKey.for_keyword("ClaraNode")
"""The node whose spool or disk holds the instances; of several, the first."""
PIPELINE: Final = SearchAttributeKey.for_keyword_list("ClaraPipeline")
JOB_ID: Final = SearchAttributeKey.for_keyword_list("ClaraJobId")
DESTINATION: Final = SearchAttributeKey.for_keyword_list("ClaraDestination")
"""Names of the configured destinations of an export."""
INSTANCES: Final = SearchAttributeKey.for_int("ClaraInstances")
INCOMPLETE: Final = SearchAttributeKey.for_bool("ClaraIncomplete")
"""Something that the sender wanted to send may be missing."""

ALL: Final[tuple[SearchAttributeKey[Any], ...]] = (
    AE_TITLE,
    STATE,
    CALLING_AE_TITLE,
    NODE,
    PIPELINE,
    JOB_ID,
    DESTINATION,
    INSTANCES,
    INCOMPLETE,
)


class State(StrEnum):
    """Values of ``ClaraState``; closed, because filters and documents name them."""

    # of a ReceiveWorkflow
    RECEIVING = "Receiving"
    HELD = "Held"
    """Interrupted; the sender may come back."""
    QUARANTINED = "Quarantined"
    """Interrupted, nobody came back; a person decides."""
    # of a SubmissionWorkflow
    SUBMITTING = "Submitting"
    WAITING_FOR_PLATFORM = "WaitingForPlatform"
    WAITING_FOR_NODE = "WaitingForNode"
    NEEDS_ATTENTION = "NeedsAttention"
    """Refused, or failed for good; waits for ``retry`` or ``discard``."""
    SUBMITTED = "Submitted"
    DISCARDED = "Discarded"
    MERGED = "Merged"
    """Held instances that became part of what the sender sent again."""
    # of an ExportWorkflow
    EXPORTING = "Exporting"
    WAITING_FOR_RESULTS_SERVICE = "WaitingForResultsService"
    """It takes no report; the task stays open."""
    EXPORTED = "Exported"
    EXPORT_FAILED = "ExportFailed"
    # of a job of the embedded platform
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAULTED = "Faulted"
    CANCELED = "Canceled"


class Shown(TypedDict, total=False):
    """What may be shown beside the state; what is left out or empty is not set."""

    ae_title: str
    calling_ae_title: str
    instances: int
    incomplete: bool
    pipelines: Sequence[str]
    job_ids: Sequence[str]
    destinations: Sequence[str]
    node_id: str


def shown(state: State, **what: Unpack[Shown]) -> list[SearchAttributePair[Any]]:
    """Search attributes and their values."""
    told: list[tuple[SearchAttributeKey[Any], Any]] = [
        (AE_TITLE, what.get("ae_title")),
        (CALLING_AE_TITLE, what.get("calling_ae_title")),
        (INCOMPLETE, what.get("incomplete")),
        (PIPELINE, list(what.get("pipelines", ()))),
        (JOB_ID, list(what.get("job_ids", ()))),
        (DESTINATION, list(what.get("destinations", ()))),
        (NODE, what.get("node_id")),
    ]
    pairs: list[SearchAttributePair[Any]] = [SearchAttributePair(STATE, state.value)]
    if "instances" in what:  # also none
        pairs.append(SearchAttributePair(INSTANCES, what["instances"]))
    return pairs + [SearchAttributePair(key, value) for key, value in told if value]


def from_the_start(state: State, **what: Unpack[Shown]) -> TypedSearchAttributes:
    """What a workflow shows as soon as it is there: set by who starts it, this costs no event of its own."""
    return TypedSearchAttributes(shown(state, **what))


WAITING_FOR_A_PERSON: Final = frozenset({State.QUARANTINED, State.NEEDS_ATTENTION})
"""States that end only when someone answers."""


def one_of(states: frozenset[State]) -> str:
    """List filter for workflows in any of these states, in a fixed order."""
    return f"{STATE.name} IN ({', '.join(repr(state.value) for state in sorted(states))})"


# ---- list filters, as the Temporal UI's query box and `client.list_workflows` take them ----

OPEN: Final = "ExecutionStatus = 'Running'"
NEEDS_ATTENTION_QUERY: Final = f"{OPEN} AND {one_of(WAITING_FOR_A_PERSON)}"
"""What waits for a person."""
WAITING_QUERY: Final = f"{OPEN} AND " + one_of(
    frozenset({State.WAITING_FOR_PLATFORM, State.WAITING_FOR_NODE, State.WAITING_FOR_RESULTS_SERVICE, State.HELD})
)
"""What waits for something else than a person: the platform, the Results Service, a node, a sender."""
INCOMPLETE_QUERY: Final = f"{INCOMPLETE.name} = true"
FAILED_QUERY: Final = (
    f"ExecutionStatus IN ('Failed', 'Terminated', 'TimedOut') OR "
    f"{one_of(frozenset({State.EXPORT_FAILED, State.FAULTED}))}"
)
"""What went wrong for good."""


def quoted(text: str) -> str:
    """A value as a string of a list filter."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def received_by(ae_title: str, since: str) -> str:
    """Filter for what an AE title received.

    Args:
        since: RFC 3339 time, such as today's midnight in UTC.
    """
    return f"WorkflowType = 'ReceiveWorkflow' AND {AE_TITLE.name} = {quoted(ae_title)} AND StartTime >= {quoted(since)}"


def of_job(job_id: str) -> str:
    """Filter for everything that has to do with one job of the platform."""
    return f"{JOB_ID.name} = {quoted(job_id)}"


def of_pipeline(pipeline: str) -> str:
    """Filter for the submissions to one pipeline."""
    return f"{PIPELINE.name} = {quoted(pipeline)}"
