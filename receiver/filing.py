"""Files of small instances, made by the receiver's process for its listeners: what a listener asks, and who answers.

To make files takes as long as to receive what they hold, and two threads of one Python process would take that from
each other.
"""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from clara_dicom_adapter.receiver.reports import FilesMade, FilesWanted, Order, Report
from clara_dicom_adapter.spool.filing import CopyAt, MakeFiles, MakerGone

log = structlog.get_logger("clara_dicom_adapter.receiver")

_CLOSE_SECONDS: Final = 5.0


class AskedFiles:
    """A listener's side: one thread asks, another one hears the answers."""

    def __init__(self, tell: Callable[[Report], bool]) -> None:
        self._tell = tell
        self._changed = threading.Condition()
        self._number = 0
        self._answer: FilesMade | None = None
        self._gone = False

    def make(self, wanted: Sequence[CopyAt]) -> Mapping[int, str]:
        """Have files made, and wait; gives the reasons of those that have none, by their place.

        Raises:
            MakerGone: The receiver answers no more.
        """
        with self._changed:
            self._number += 1
            number = self._number
        self._tell(FilesWanted(number, list(wanted)))

        def answer() -> FilesMade | None:
            # none to an earlier one that could not be told at once, and was told all the same
            return self._answer if self._answer is not None and self._answer.number == number else None

        with self._changed:
            self._changed.wait_for(lambda: answer() is not None or self._gone)
            made = answer()
        if made is None:
            raise MakerGone
        return made.refused

    def made(self, order: FilesMade) -> None:
        """The receiver's answer has come."""
        with self._changed:
            self._answer = order
            self._changed.notify_all()

    def gone(self) -> None:
        """The receiver answers no more."""
        with self._changed:
            self._gone = True
            self._changed.notify_all()


class Asking(Protocol):
    """The channel to a listener that has asked."""

    def tell(self, order: Order) -> None:
        """Have an answer sent; returns at once."""
        ...

    def give_up(self) -> None:
        """End it, for there is no answer: the listener ends, and another takes its place."""
        ...


class FilesMaker:
    """The receiver's side, for all listeners: one thread, for the disk does not get faster by more."""

    def __init__(self, make: MakeFiles) -> None:
        """Raises RuntimeError when there are no more threads."""
        self._make = make
        self._wanted: queue.SimpleQueue[tuple[FilesWanted, Asking] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="filing", daemon=True)
        self._thread.start()

    def hear(self, report: FilesWanted, asking: Asking) -> None:
        """Make files soon, and answer."""
        self._wanted.put((report, asking))

    def close(self) -> None:
        """Make what is wanted, then no more; a disk that does not answer is not waited for."""
        self._wanted.put(None)
        self._thread.join(_CLOSE_SECONDS)

    def _serve(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            report, asking = wanted
            try:
                asking.tell(FilesMade(number=report.number, refused=dict(self._make(report.copies))))
            except Exception:  # its listener must not wait for an answer that does not come
                log.exception("filing_failed")
                asking.give_up()
