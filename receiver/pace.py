"""How fast the open associations are, and how they look from outside: what ``/status`` tells of each of them."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from clara_dicom_adapter.receiver.live import LiveAssociation

_WINDOW_SECONDS: Final = 5.0


@dataclass(frozen=True)
class OpenAssociation:
    """An open association, as a person watches it.

    Attributes:
        listener: Number of the listener that serves it.
        seconds: Since it was accepted.
        arriving: Whether an instance is arriving; otherwise it is idle.
        instances_per_second: Over the last five seconds; likewise the bytes.
        flush_ms: Milliseconds that an instance took to flush, on average; None when none was flushed.
        queued: Instances that Temporal has not been told of.
    """

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    peer: str
    listener: int
    started_at: datetime
    seconds: float
    arriving: bool
    instances: int
    bytes: int
    ignored: int
    failed: int
    refused: int
    instances_per_second: float
    bytes_per_second: float
    flush_seconds: float
    flush_ms: float | None
    queued: int


@dataclass(frozen=True)
class _Reading:
    at: float
    instances: int
    bytes: int


class Pace:
    """Remembers what associations had stored some seconds ago. Every method may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._readings: dict[str, deque[_Reading]] = {}

    def read(self, live: LiveAssociation) -> None:
        """An association has been heard of."""
        with self._lock:
            readings = self._readings.setdefault(live.association_id, deque())
            readings.append(_Reading(self._clock(), live.instances, live.bytes))
            self._forget_old(readings)

    def forget(self, association_id: str) -> None:
        """An association is over."""
        with self._lock:
            self._readings.pop(association_id, None)

    def look(self, live: LiveAssociation, *, queued: int) -> OpenAssociation:
        """An association at this moment."""
        instances_per_second, bytes_per_second = self._speed(live)
        return OpenAssociation(
            association_id=live.association_id,
            calling_ae_title=live.calling_ae_title,
            called_ae_title=live.called_ae_title,
            peer=live.peer,
            listener=live.listener,
            started_at=live.started_at,
            seconds=max((datetime.now(UTC) - live.started_at).total_seconds(), 0.0),
            arriving=live.arriving_since is not None,
            instances=live.instances,
            bytes=live.bytes,
            ignored=live.ignored,
            failed=live.failed,
            refused=live.refused,
            instances_per_second=instances_per_second,
            bytes_per_second=bytes_per_second,
            flush_seconds=live.flush_seconds,
            flush_ms=1000 * live.flush_seconds / live.flushes if live.flushes else None,
            queued=queued,
        )

    def _speed(self, live: LiveAssociation) -> tuple[float, float]:
        """Instances and bytes per second."""
        with self._lock:
            readings = self._readings.get(live.association_id)
            if not readings:
                return 0.0, 0.0
            self._forget_old(readings)
            first = readings[0]
        seconds = max(self._clock() - first.at, 1.0)  # less is too short to tell
        return (live.instances - first.instances) / seconds, (live.bytes - first.bytes) / seconds

    def _forget_old(self, readings: deque[_Reading]) -> None:
        """Keep one reading that is older than the window: it says how it was when the window began."""
        begin = self._clock() - _WINDOW_SECONDS
        while len(readings) > 1 and readings[1].at <= begin:
            readings.popleft()
        if readings[0].at < begin:
            readings[0] = _Reading(begin, readings[0].instances, readings[0].bytes)
