"""Threads for one kind of work of a worker: what waits for somebody who stands still must not hold all threads."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from clara_dicom_adapter.activities.to_the_end import ended

Result = TypeVar("Result")


class Share:
    """So many at once; the others wait for their turn and hold no thread.

    Args:
        name: Of the threads.
    """

    def __init__(self, count: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(count, thread_name_prefix=name)

    async def run(self, function: Callable[[threading.Event], Result]) -> Result:
        """Run a function in one of them; when cancelled, tell it by the event to stop, and end with it."""
        stop = threading.Event()
        begun = self._threads.submit(contextvars.copy_context().run, function, stop)
        running = asyncio.wrap_future(begun)
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            stop.set()
            if not begun.cancel():
                await ended([running])
            raise
        return running.result()
