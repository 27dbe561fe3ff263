"""Waiting for threads that cannot be stopped: what they work with stays theirs until they have ended.

``asyncio.to_thread`` returns at once when it is cancelled; its thread works on, with what is closed or given away next.
"""

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


async def in_thread(function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Run a function in a thread of the event loop's own; when cancelled, end with it."""
    context = contextvars.copy_context()
    # a future, not a task: nothing but its thread can end it
    running = asyncio.get_running_loop().run_in_executor(None, lambda: context.run(function, *args, **kwargs))
    await ended([running])
    return running.result()


async def ended(running: Sequence[asyncio.Future[Any]]) -> None:
    """Wait until all have ended, however often this is cancelled meanwhile; only then the cancellation is raised.

    What failed raises nothing here; it is the cause of the cancellation.
    """
    cancelled: asyncio.CancelledError | None = None
    while not all(each.done() for each in running):
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        failures = [each.exception() for each in running if not each.cancelled()]
        raise cancelled from next(filter(None, failures), None)
