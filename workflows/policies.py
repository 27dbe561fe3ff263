"""Timeouts, retry policies and task queues of every activity, in one place.

Failures that a workflow answers itself (the platform unreachable or refusing) are not retried by these policies; all
else, such as a database that is locked for a moment, is retried for ever, because giving up would strand instances.
Temporal matches non-retryable types by exact class name.
"""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

ANSWERED_BY_WORKFLOW = ["PlatformUnreachable", "PlatformRefused", "JobForgotten"]

_PATIENT = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    maximum_interval=timedelta(seconds=30),
    non_retryable_error_types=ANSWERED_BY_WORKFLOW,
)

# ---- short calls, run as local activities: no queue in between ----

LOCAL = workflow.LocalActivityConfig(
    start_to_close_timeout=timedelta(minutes=2),
    retry_policy=_PATIENT,
    local_retry_threshold=timedelta(seconds=30),
)
"""A transaction in a spool or in the records, or one call of the platform."""

SUBMIT_SMALL = workflow.LocalActivityConfig(
    start_to_close_timeout=timedelta(minutes=15),
    retry_policy=_PATIENT,
    local_retry_threshold=timedelta(seconds=30),
)
"""Every call of the platform in it has a limit of its own; all of them together stay below this one, so that no second
attempt begins beside the first."""

SMALL_BYTES = 4_000_000
SMALL_INSTANCES = 8
"""A job of no more than this is created, filled and started in one step; a larger upload needs heartbeats."""

PLAN = workflow.LocalActivityConfig(
    start_to_close_timeout=timedelta(minutes=5),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=4),
    local_retry_threshold=timedelta(seconds=30),
)
"""A processor's code may be anybody's: when it keeps failing, a person decides."""

GROUP_PAUSE = timedelta(seconds=5)
"""Before a group is looked at again whose parts have not all been transferred."""

GROUP_LOOKS = 2
"""After so many of them a person is told: whoever had the missing part may be gone."""

PARKED_GROUP_PAUSE = timedelta(minutes=10)
"""Before it is looked at again although nobody has decided."""

PIPELINE_LOOKS = 1000
"""So often, for a week, a group whose AE title has no pipeline is looked at; afterwards only a person's retry does."""

# ---- work that must see one node's spool ----

ON_NODE = workflow.ActivityConfig(
    schedule_to_start_timeout=timedelta(minutes=1),
    start_to_close_timeout=timedelta(minutes=5),
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=_PATIENT,
)
"""The same short work, when the worker that runs the workflow does not serve that node. Whether that one lives is told
by its heartbeats (``activities/pulse.py``), as for every short activity here."""

NODE_PATIENCE = timedelta(minutes=10)
"""Schedule-to-start limit once a node is known to be away; each round costs a few history events."""

UPLOAD = workflow.ActivityConfig(
    schedule_to_start_timeout=timedelta(minutes=1),
    start_to_close_timeout=timedelta(hours=12),
    heartbeat_timeout=timedelta(seconds=10),
    retry_policy=_PATIENT,
)
"""Long, and resumed from its heartbeat when the worker dies."""

# ---- waiting for the platform ----


def platform_probe(delay_seconds: float) -> workflow.ActivityConfig:
    """Ask the platform for a sign of life until it gives one; retries leave no trace in history."""
    return workflow.ActivityConfig(
        start_to_close_timeout=timedelta(minutes=1),
        retry_policy=RetryPolicy(initial_interval=timedelta(seconds=delay_seconds), backoff_coefficient=1.0),
    )


# ---- export ----

UNEXPECTED_FAILURES = 10
"""An export activity that keeps failing for an unforeseen reason counts as failed after this many attempts, so that
no task stays unreported for ever."""

PLACE = workflow.ActivityConfig(
    start_to_close_timeout=timedelta(minutes=1),
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=4
    ),
)
"""Which node downloads a task; each attempt may be another node's."""

FETCH = workflow.ActivityConfig(
    schedule_to_start_timeout=timedelta(minutes=1),
    start_to_close_timeout=timedelta(hours=12),
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=4
    ),
)
"""Downloads of one task; resumed. When the attempts are used up, the workflow shows what it waits for and goes on."""

FETCH_PAUSE = timedelta(seconds=30)

UNFORESEEN_FETCHES = 3
"""A download that so often in a row fails for an unforeseen reason, with all its attempts, counts as failed."""

SEND = workflow.ActivityConfig(
    schedule_to_start_timeout=timedelta(minutes=1),
    start_to_close_timeout=timedelta(hours=24),
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(seconds=1),
        maximum_interval=timedelta(minutes=1),
        maximum_attempts=UNEXPECTED_FAILURES,
    ),
)
"""All objects of one task to one destination; resumed from the journal. What the peer does is a result, no failure."""

REPORT = workflow.ActivityConfig(
    start_to_close_timeout=timedelta(hours=1),
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_attempts=4),
)
"""When the attempts are used up, the workflow shows that it waits, and for what."""

REPORT_WAITING = workflow.ActivityConfig(
    start_to_close_timeout=timedelta(hours=1),
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=5), maximum_interval=timedelta(minutes=1)),
)
"""The same, until the Results Service takes it; retries leave no trace in history."""

CLEAN = workflow.ActivityConfig(
    schedule_to_start_timeout=timedelta(minutes=1),
    start_to_close_timeout=timedelta(minutes=5),
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(maximum_attempts=3),
)
"""What a node that is away keeps is swept when its worker starts again."""

POLL = workflow.ActivityConfig(
    start_to_close_timeout=timedelta(hours=24),
    heartbeat_timeout=timedelta(seconds=15),
    retry_policy=RetryPolicy(initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=15)),
)
"""Runs until its time is up and is then started anew; a second worker takes over when the first falls silent."""


FOLLOW = POLL
"""Likewise."""

# ---- jobs of the embedded platform ----


def operator(time_limit_seconds: float) -> workflow.ActivityConfig:
    """One operator: the activity watches the time limit itself, and this one only catches what it misses.

    Attempts after the first happen when the platform's process died; the bound is for an operator that kills it.
    """
    return workflow.ActivityConfig(
        start_to_close_timeout=timedelta(seconds=time_limit_seconds) + timedelta(minutes=10),
        heartbeat_timeout=timedelta(seconds=10),
        retry_policy=RetryPolicy(
            initial_interval=timedelta(seconds=1), maximum_interval=timedelta(seconds=30), maximum_attempts=10
        ),
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
    )
