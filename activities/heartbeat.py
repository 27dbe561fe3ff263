"""Heartbeats of activities that block: from a thread of their own, so that no call of a client has to know of them."""

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from temporalio import activity

from clara_dicom_adapter.workflows.models import Payload

_FACTOR = 4
"""Beats per heartbeat timeout; the SDK throttles what is too many."""


@contextmanager
def heartbeats(details: Callable[[], Payload]) -> Iterator[None]:
    """Heartbeat while the block runs, with what ``details`` says at that time, and once at its start."""
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
