"""Associations on their way into the SQL records, without an association ever waiting for a database.

How it works: what happened is put into a queue and written by one thread, which tries again while the database cannot
be reached. The queue is bounded; when it overflows the oldest entries are given up and counted: the spool, not this
table, is what instances are recovered from.
"""

import queue
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

import structlog

from clara_dicom_adapter.receiver.acceptance import AssociationRequest, RejectReason
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.workflows.models import AssociationOutcome

log = structlog.get_logger("clara_dicom_adapter.receiver")

_CAPACITY = 20_000
_PAUSE_SECONDS = 1.0


class AssociationRecords(Protocol):
    """Where associations are recorded; calls may block, fail and be repeated."""

    def accepted(self, association: LiveAssociation) -> None:
        """An association was accepted."""
        ...

    def rejected(self, association_id: str, request: AssociationRequest, reason: RejectReason, at: datetime) -> None:
        """An association was rejected."""
        ...

    def ended(self, association: LiveAssociation, outcome: AssociationOutcome, at: datetime) -> None:
        """An accepted association is over, with its totals."""
        ...


class Recorder:
    """Writes to :class:`AssociationRecords` from a thread of its own."""

    def __init__(self, records: AssociationRecords) -> None:
        self.records = records
        self._queue: queue.Queue[Callable[[], None] | None] = queue.Queue(_CAPACITY)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Write what can be written within a time."""
        self._put(None)
        self._thread.join(timeout)
        self._stopping.set()

    def accepted(self, association: LiveAssociation) -> None:
        """Record an accepted association."""
        self._put(lambda: self.records.accepted(association))

    def rejected(self, association_id: str, request: AssociationRequest, reason: RejectReason, at: datetime) -> None:
        """Record a rejected association."""
        self._put(lambda: self.records.rejected(association_id, request, reason, at))

    def ended(self, association: LiveAssociation, outcome: AssociationOutcome, at: datetime) -> None:
        """Record the end of an association."""
        self._put(lambda: self.records.ended(association, outcome, at))

    def _put(self, entry: Callable[[], None] | None) -> None:
        while True:
            try:
                self._queue.put_nowait(entry)
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
        while (entry := self._queue.get()) is not None:
            while not self._stopping.is_set():
                try:
                    entry()
                except Exception as error:  # whatever a database driver raises
                    if not failing:
                        log.warning("records_unreachable", error=type(error).__name__)
                    failing = True
                    self._stopping.wait(_PAUSE_SECONDS)
                else:
                    failing = False
                    break
