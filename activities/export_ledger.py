"""What one destination has of one task, and what it may have: in the journal at once, in the records soon after."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

from clara_dicom_adapter.activities.export_folder import ExportFolder
from clara_dicom_adapter.activities.export_journal import ALL_LANES, Lines, Outcome
from clara_dicom_adapter.dicom.delivery import ObjectResult, SendTotals, UnderWay, Verdict, first_lost
from clara_dicom_adapter.workflows.models import SendInput

RECORD_EVERY: Final = 2.0
"""Seconds between two writes of results to the records; the journal has them at once."""


class Results(Protocol):
    """Where results are recorded, for all nodes and for good."""

    def delivered(self, task_id: str, destination: str) -> frozenset[int]: ...
    def unknown(self, task_id: str, destination: str) -> Mapping[int, str]: ...
    def save_results(self, task_id: str, destination: str, results: Sequence[Outcome]) -> None: ...


@dataclass(frozen=True)
class Notes:
    """What those who send write to a ledger.

    Attributes:
        result: An object, by its place, has this result.
        under_way: A lane of this name has this under way from now on.
    """

    result: Callable[[int, ObjectResult], None]
    under_way: Callable[[str, UnderWay], None]


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
        history = self._journal.read()
        for outcome in history.outcomes:
            self._take(outcome)
            self._unrecorded.append(outcome)  # a killed worker may not have got so far
        self.lost = self._lost_before(history.unknown, history.lost)
        """Objects that were sent before now without being told what became of them, by place, and how that was lost."""
        self._add_lost({index: reason for index, reason in history.lost.items() if index in self.lost})

    def is_to_be_sent(self, index: int) -> bool:
        return index not in self.delivered and index not in self.failed

    @property
    def message(self) -> str:
        totals = SendTotals()
        for outcome in tuple(self.failed.values()):
            totals.reasons[outcome.reason or outcome.verdict.value] += 1
        return totals.message

    @contextmanager
    def writer(self) -> Iterator[Notes]:
        """Write results, each into the journal before the call returns; the rest into the records at the end."""
        try:
            with self._journal.writer() as lines:
                lines.under_way(ALL_LANES, UnderWay(lost=self.lost))
                yield Notes(partial(self._write, lines), partial(self._under_way, lines))
        finally:
            with self._lock:
                self.record()

    def record(self) -> None:
        """Write to the records what they do not have yet."""
        if self._unrecorded:
            self._store.save_results(self._task_id, self._destination, self._unrecorded)
            self._unrecorded = []
        self._recorded_at = time.monotonic()

    def _lost_before(self, unknown: Mapping[int, str], lost: Mapping[int, str]) -> Mapping[int, str]:
        """The records know what another node has lost; of what this one has a result for, its journal knows better."""
        journalled = {outcome.index for outcome in self._unrecorded}
        recorded = {
            index: first_lost(reason)
            for index, reason in self._store.unknown(self._task_id, self._destination).items()
            if index not in journalled
        }
        found = {**recorded, **unknown, **lost}
        return {index: reason for index, reason in found.items() if index not in self.delivered}

    def _write(self, lines: Lines, index: int, result: ObjectResult) -> None:
        outcome = Outcome.of(self._send, index, result)
        lines.result(outcome)  # outside the lock: one write is whole by itself, and the others need not wait for it
        with self._lock:
            self._take(outcome)
            self._unrecorded.append(outcome)
            if time.monotonic() - self._recorded_at >= RECORD_EVERY:
                self.record()

    def _under_way(self, lines: Lines, lane: str, way: UnderWay) -> None:
        lines.under_way(lane, way)
        if way.lost and not way.order:  # nothing is sent now, and that may last
            with self._lock:
                self._add_lost(way.lost)
                self.record()

    def _add_lost(self, lost: Mapping[int, str]) -> None:
        """The records say of these that nothing is known until they have a result."""
        self._unrecorded += [
            Outcome(self._send, index, Verdict.UNKNOWN, reason=reason) for index, reason in lost.items()
        ]

    def _take(self, outcome: Outcome) -> None:
        if outcome.delivered:
            self.delivered.add(outcome.index)
            self.failed.pop(outcome.index, None)
        elif outcome.send == self._send and outcome.index not in self.delivered:
            self.failed[outcome.index] = outcome
