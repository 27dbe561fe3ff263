"""Heartbeats from aside of what an activity does, so that no call of a client has to know of them."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Final

from temporalio import activity

from clara_dicom_adapter.workflows.models import Payload

_FACTOR = 4
"""Beats per heartbeat timeout; the SDK throttles what is too many."""
_ASIDE_SECONDS: Final = 3.0


@contextmanager
def heartbeats(details: Callable[[], Payload]) -> Iterator[None]:
    """Heartbeat from a thread while the block runs, with what ``details`` says at that time, and once at its start."""
    activity.heartbeat(details())
    timeout = activity.info().heartbeat_timeout or timedelta(seconds=60)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(timeout.total_seconds() / _FACTOR):
            activity.heartbeat(details())

    # activity.heartbeat finds its activity in a context variable, which a new thread does not inherit
    thread = threading.Thread(target=contextvars.copy_context().run, args=(beat,), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@asynccontextmanager
async def heartbeats_aside(details: Callable[[], Payload] | None = None) -> AsyncIterator[None]:
    """Heartbeat from a task while the block of an asynchronous activity runs, with what ``details`` says if given."""

    async def beat() -> None:
        while True:
            activity.heartbeat(*([details()] if details else []))
            await asyncio.sleep(_ASIDE_SECONDS)

    task = asyncio.ensure_future(beat())
    try:
        yield
    finally:
        task.cancel()
