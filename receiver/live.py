"""What is going on at this moment: the open associations and what they have stored."""

import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime


@dataclass
class LiveAssociation:
    """An open association; written by its own threads, read by anybody, and told to the receiver by its listener."""

    association_id: str
    calling_ae_title: str
    called_ae_title: str
    peer: str
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    instances: int = 0
    bytes: int = 0
    flushes: int = 0
    """Instances that were flushed."""
    flush_seconds: float = 0.0
    """What their flushes took, all together."""
    ignored: int = 0
    failed: int = 0
    """Answered A700."""
    refused_with: dict[str, int] = field(default_factory=dict[str, int])
    """Answered A900, C000 or 0122, by status."""
    spooled: bool = False
    """Whether it has a folder in the spool."""
    listener: int = 0
    """Number of the listener that serves it."""
    arriving_since: float | None = None
    """``time.monotonic`` at which the instance that is arriving began; None between instances."""
    arriving_in: str = ""
    """File that the last instance came into; empty when it came into none."""
    last_fragment_at: float = 0.0
    """``time.monotonic`` of the last fragment of an instance."""

    def copy(self) -> "LiveAssociation":
        """How it is at this moment."""
        return replace(self, refused_with=dict(self.refused_with))

    @property
    def refused(self) -> int:
        """Answered A900, C000 or 0122."""
        return sum(self.refused_with.values())

    def arriving_for(self, *, silent_at_most: float) -> float:
        """Seconds that an instance has been arriving; 0 when none is, or when it has stalled."""
        since, now = self.arriving_since, time.monotonic()
        if since is None or now - self.last_fragment_at > silent_at_most:
            return 0.0
        return now - since


class LiveAssociations:
    """The register of open associations."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, LiveAssociation] = {}
        self._closed = threading.Condition(self._lock)

    def __len__(self) -> int:
        return len(self._open)

    def put(self, association: LiveAssociation) -> None:
        """Register an association that has begun."""
        with self._lock:
            self._open[association.association_id] = association

    def update(self, association: LiveAssociation) -> LiveAssociation | None:
        """Register what has become of an association; returns what was known of it before, None when it is over."""
        with self._lock:
            before = self._open.get(association.association_id)
            if before is not None:
                self._open[association.association_id] = association
            return before

    def remove(self, association_id: str) -> LiveAssociation | None:
        """The association is over; returns what was known of it."""
        with self._closed:
            known = self._open.pop(association_id, None)
            self._closed.notify_all()
            return known

    def wait_until_none(self, timeout: float) -> bool:
        """Wait for all open associations to end."""
        with self._closed:
            return self._closed.wait_for(lambda: not self._open, timeout)

    def snapshot(self) -> list[LiveAssociation]:
        """The open associations, oldest first."""
        with self._lock:
            return sorted(self._open.values(), key=lambda live: live.started_at)
