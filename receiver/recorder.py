"""Associations on their way into the SQL records, without an association ever waiting for a database.

How it works: what happened is put into a queue and written by one thread, all that comes within a moment together: a
short association would otherwise cost the database more than its instances cost the disk. The thread tries again while
the database cannot be reached. The queue is bounded; when it overflows the oldest entries are given up and counted: the
spool, not this table, is what instances are recovered from.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Final, Protocol

import structlog

from clara_dicom_adapter.receiver.acceptance import AssociationRequest, RejectReason
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.workflows.models import AssociationOutcome

log = structlog.get_logger("clara_dicom_adapter.receiver")

_CAPACITY: Final = 20_000
_MOMENT_SECONDS: Final = 0.1
_MOST_TOGETHER: Final = 500
_PAUSE_SECONDS: Final = 1.0


class AssociationChanges(Protocol):
    """What is to be recorded together."""

    def accepted(self, association: LiveAssociation) -> None:
        """An association was accepted."""
        ...

    def rejected(self, association_id: str, request: AssociationRequest, reason: RejectReason, at: datetime) -> None:
        """An association was rejected."""
        ...

    def ended(self, association: LiveAssociation, outcome: AssociationOutcome, at: datetime) -> None:
        """An accepted association is over, with its totals."""
        ...


class AssociationRecords(Protocol):
    """Where associations are recorded."""

    def together(self) -> AbstractContextManager[AssociationChanges]:
        """Takes changes, and records all of them or none when it ends; that may block, fail and be repeated."""
        ...


_Change = Callable[[AssociationChanges], None]


class Recorder:
    """Writes to :class:`AssociationRecords` from a thread of its own."""

    def __init__(self, records: AssociationRecords) -> None:
        self.records = records
        self._queue: queue.Queue[_Change | None] = queue.Queue(_CAPACITY)
        self._ending = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Write what can be written within a time."""
        self._ending.set()
        self._put(None)
        self._thread.join(timeout)
        self._stopping.set()

    def accepted(self, association: LiveAssociation) -> None:
        """Record an accepted association."""
        self._put(lambda changes: changes.accepted(association))

    def rejected(self, association_id: str, request: AssociationRequest, reason: RejectReason, at: datetime) -> None:
        """Record a rejected association."""
        self._put(lambda changes: changes.rejected(association_id, request, reason, at))

    def ended(self, association: LiveAssociation, outcome: AssociationOutcome, at: datetime) -> None:
        """Record the end of an association."""
        self._put(lambda changes: changes.ended(association, outcome, at))

    def _put(self, change: _Change | None) -> None:
        while True:
            try:
                self._queue.put_nowait(change)
            except queue.Full:
                self._drop_oldest()
            else:
                return

    def _drop_oldest(self) -> None:
        try:
            self._queue.get_nowait()
        except queue.Empty:
            return
        self.dropped += 1
        if self.dropped == 1:
            log.warning("records_behind", count=_CAPACITY)

    def _run(self) -> None:
        failing = False
        while changes := self._next():
            while not self._stopping.is_set():
                try:
                    self._record(changes)
                except Exception as error:  # whatever a database driver raises
                    if not failing:
                        log.warning("records_unreachable", error=type(error).__name__)
                    failing = True
                    self._stopping.wait(_PAUSE_SECONDS)
                else:
                    failing = False
                    break

    def _next(self) -> list[_Change]:
        """What is to be recorded together; nothing at the end."""
        change = self._queue.get()
        changes: list[_Change] = []
        if change is not None:
            self._ending.wait(_MOMENT_SECONDS)
        while change is not None:
            changes.append(change)
            if len(changes) == _MOST_TOGETHER:
                return changes
            try:
                change = self._queue.get_nowait()
            except queue.Empty:
                return changes
        if changes:
            self._put(None)  # the end: looked at again
        return changes

    def _record(self, changes: list[_Change]) -> None:
        with self.records.together() as together:
            for change in changes:
                change(together)
