"""Files of small instances, made by the receiver's process for its listeners: what a listener asks, and who answers.

To make files takes as long as to receive what they hold, and two threads of one Python process would take that from
each other.
"""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from clara_dicom_adapter.receiver.reports import FilesMade, FilesWanted, Order, Report
from clara_dicom_adapter.spool.filing import CopyAt, MakeFiles

log = structlog.get_logger("clara_dicom_adapter.receiver")

_GONE: Final = "the receiver has gone"


class AskedFiles:
    """A listener's side: one thread asks, another one hears the answers."""

    def __init__(self, tell: Callable[[Report], bool]) -> None:
        self._tell = tell
        self._changed = threading.Condition()
        self._answer: Mapping[int, str] | None = None
        self._gone = False

    def make(self, wanted: Sequence[CopyAt]) -> Mapping[int, str]:
        """Have files made, and wait; gives the reasons of those that have none, by their place."""
        with self._changed:
            self._answer = None
        self._tell(FilesWanted(list(wanted)))
        with self._changed:
            self._changed.wait_for(lambda: self._answer is not None or self._gone)
            # not made here instead: the receiver may still be at it, and two must not write one file
            return dict.fromkeys(range(len(wanted)), _GONE) if self._answer is None else self._answer

    def made(self, order: FilesMade) -> None:
        """The receiver's answer has come."""
        with self._changed:
            self._answer = order.refused
            self._changed.notify_all()

    def gone(self) -> None:
        """The receiver answers no more."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()


class FilesMaker:
    """The receiver's side, for all listeners: one thread, for the disk does not get faster by more."""

    def __init__(self, make: MakeFiles) -> None:
        """Raises RuntimeError when there are no more threads."""
        self._make = make
        self._wanted: queue.SimpleQueue[tuple[FilesWanted, Callable[[Order], None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="filing", daemon=True)
        self._thread.start()

    def hear(self, report: FilesWanted, answer: Callable[[Order], None]) -> None:
        """Make files soon.

        Args:
            answer: Told of it, once.
        """
        self._wanted.put((report, answer))

    def close(self) -> None:
        """Make what is wanted, then no more."""
        self._wanted.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            report, answer = wanted
            try:
                refused = self._make(report.copies)
            except Exception as error:  # its listener waits for an answer, whatever it is
                log.exception("filing_failed")
                refused = dict.fromkeys(range(len(report.copies)), type(error).__name__)
            answer(FilesMade(refused=dict(refused)))
