"""Names stored instances behind their replies, in one thread for all associations of a listener.

To cut a file to its length and to name it waits for the file system's journal, which other processes keep busy; a
sender need not wait for that as well. Where the thread falls behind, those who store wait for it after all: an
unnamed instance holds a descriptor.
"""

import queue
import threading
from collections.abc import Callable
from typing import Final

import structlog

log = structlog.get_logger("clara_dicom_adapter.receiver")

_MOST_UNNAMED: Final = 64


class Naming:
    """The thread, and what it has still to do. Every method may be called from any other thread."""

    def __init__(self, settle: Callable[[], None]) -> None:
        """Args:
        settle: Waits for the names that tasks have left for a little later.
        """
        self._settle = settle
        self._tasks: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="naming", daemon=True).start()

    def put(self, task: Callable[[], object]) -> None:
        """Have something done soon, in the order put."""
        if self._tasks.qsize() >= _MOST_UNNAMED:
            self._drain()
        self._tasks.put(task)

    def wait(self) -> None:
        """Wait until everything is done that was put before."""
        self._drain()
        self._settle()

    def _drain(self) -> None:
        done = threading.Event()
        self._tasks.put(done.set)
        done.wait()

    def _run(self) -> None:
        while True:
            task = self._tasks.get()
            try:
                task()
            except Exception:  # whoever comes next is named all the same
                log.exception("naming_failed")
