"""What one destination has confirmed of one task: in the journal at once, in the records soon after."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from clara_dicom_adapter.activities.export_folder import ExportFolder, Outcome
from clara_dicom_adapter.dicom.delivery import ObjectResult, SendTotals
from clara_dicom_adapter.workflows.models import SendInput

RECORD_EVERY: Final = 2.0
"""Seconds between two writes of results to the records; the journal has them at once."""


class Results(Protocol):
    """Where results are recorded, for all nodes and for good."""

    def delivered(self, task_id: str, destination: str) -> frozenset[int]: ...
    def save_results(self, task_id: str, destination: str, results: Sequence[Outcome]) -> None: ...


class Ledger:
    """Results of one pass; several threads may write them."""

    def __init__(self, request: SendInput, folder: ExportFolder, store: Results) -> None:
        self._task_id = request.task_id
        self._destination = request.destination
        self._send = f"{request.offer}.{request.round}"
        self._journal = folder.journal(request.destination)
        self._store = store
        self._lock = threading.Lock()
        self._unrecorded: list[Outcome] = []
        self._recorded_at = time.monotonic()
        self.delivered = set(store.delivered(request.task_id, request.destination))
        self.failed: dict[int, Outcome] = {}
        """Failures of this pass, by place."""
        for outcome in self._journal.read():
            self._take(outcome)
            self._unrecorded.append(outcome)  # a killed worker may not have got so far

    def is_to_be_sent(self, index: int) -> bool:
        return index not in self.delivered and index not in self.failed

    @property
    def message(self) -> str:
        totals = SendTotals()
        for outcome in tuple(self.failed.values()):
            totals.reasons[outcome.reason or outcome.verdict.value] += 1
        return totals.message

    @contextmanager
    def writer(self) -> Iterator[Callable[[int, ObjectResult], None]]:
        """Write results, each into the journal before the call returns; the rest into the records at the end."""
        try:
            with self._journal.writer() as append:

                def write(index: int, result: ObjectResult) -> None:
                    outcome = Outcome.of(self._send, index, result)
                    append(
                        outcome
                    )  # outside the lock: one write is whole by itself, and the others need not wait for it
                    with self._lock:
                        self._take(outcome)
                        self._unrecorded.append(outcome)
                        if time.monotonic() - self._recorded_at >= RECORD_EVERY:
                            self.record()

                yield write
        finally:
            with self._lock:
                self.record()

    def record(self) -> None:
        """Write to the records what they do not have yet."""
        if self._unrecorded:
            self._store.save_results(self._task_id, self._destination, self._unrecorded)
            self._unrecorded = []
        self._recorded_at = time.monotonic()

    def _take(self, outcome: Outcome) -> None:
        if outcome.delivered:
            self.delivered.add(outcome.index)
            self.failed.pop(outcome.index, None)
        elif outcome.send == self._send and outcome.index not in self.delivered:
            self.failed[outcome.index] = outcome
