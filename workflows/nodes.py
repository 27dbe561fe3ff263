"""Waiting in a workflow, and calling an activity that must see a certain node's spool."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, TimeoutType
from temporalio.exceptions import TimeoutError as ActivityTimeoutError

from clara_dicom_adapter.workflows import policies

with workflow.unsafe.imports_passed_through():
    from clara_dicom_adapter.temporal import queues
    from clara_dicom_adapter.workflows.models import Payload


class HereOrThere(Protocol):
    """Result of an activity that may find itself on the wrong node."""

    @property
    def here(self) -> bool: ...


Result = TypeVar("Result", bound=HereOrThere)
Done = TypeVar("Done", bound=Payload)


async def happened(condition: Callable[[], bool], seconds: float | None) -> bool:
    """Wait until something holds, at most so long; False when the time was up first."""
    try:
        await workflow.wait_condition(condition, timeout=None if seconds is None else timedelta(seconds=seconds))
    except TimeoutError:
        return False
    return True


def what_failed(error: ActivityError | ApplicationError) -> tuple[str, str]:
    """Class name and text of what an activity raised; a local activity's failure comes without its wrapping."""
    cause = error.cause if isinstance(error, ActivityError) else error
    if isinstance(cause, ApplicationError):
        return cause.type or "", cause.message
    return "", str(cause or error)


def node_is_away(error: ActivityError) -> bool:
    """Whether no worker of the node took the activity from its queue."""
    return isinstance(error.cause, ActivityTimeoutError) and error.cause.type is TimeoutType.SCHEDULE_TO_START


async def on_node(
    activity: Callable[[Any, Any], Result],
    argument: Payload,
    node_id: str,
    waiting: Callable[[bool], None],
) -> Result:
    """Run a short activity where the node's spool is, at once when that is this worker.

    Args:
        argument: Its ``here_only`` field tells the activity to decline when it is not on that node.
        waiting: Told True while the node's worker does not answer, and False when it does again.
    """
    here = argument.model_copy(update={"here_only": True})
    method: Any = activity  # the SDK's overloads cannot be told of a method of any class
    result: Result = await workflow.execute_local_activity_method(method, here, **policies.LOCAL)
    if result.here:
        return result
    return await run_there(activity, argument, node_id, policies.ON_NODE, waiting)


async def run_there(
    activity: Callable[[Any, Any], Result],
    argument: Payload,
    node_id: str,
    config: workflow.ActivityConfig,
    waiting: Callable[[bool], None],
) -> Result:
    """Run an activity on a node's own task queue, waiting visibly for as long as the node is away."""
    method: Any = activity
    patience: timedelta | None = config.get("schedule_to_start_timeout")
    while True:
        try:
            there = workflow.ActivityConfig(
                **{**config, "task_queue": queues.node(node_id), "schedule_to_start_timeout": patience}
            )
            result: Result = await workflow.execute_activity_method(method, argument, **there)
        except ActivityError as error:
            if not node_is_away(error):
                raise
            waiting(True)
            patience = policies.NODE_PATIENCE
        else:
            waiting(False)
            return result


async def run_if_there(
    activity: Callable[[Any, Any], Awaitable[Done]],
    argument: Payload,
    config: workflow.ActivityConfig,
    patience: timedelta | None,
    waiting: Callable[[], None],
) -> Done | None:
    """Run an activity that only one node can do; None when nobody serves its queue in time.

    Args:
        config: With the node's queue.
        patience: How long the node is waited for once it is known to be away; None: not at all.
        waiting: Told when that begins.
    """
    method: Any = activity  # the SDK's overloads cannot be told of a method of any class
    limits = (config.get("schedule_to_start_timeout"), *([patience] if patience else []))
    for number, limit in enumerate(limits, start=1):
        there = workflow.ActivityConfig(**{**config, "schedule_to_start_timeout": limit})
        try:
            result: Done = await workflow.execute_activity_method(method, argument, **there)
        except ActivityError as error:
            if not node_is_away(error):
                raise
            if number < len(limits):
                waiting()
        else:
            return result
    return None
