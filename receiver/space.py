"""Is there room to store? The storage rule, asked of the disk at most about once a second."""

import threading
import time
from collections.abc import Callable

import structlog

from clara_dicom_adapter.errors import StorageFull

log = structlog.get_logger("clara_dicom_adapter.receiver")

_FRESH_SECONDS = 1.0


class SpaceGate:
    """Answers for every association and instance; logs once when space becomes short, and once when it is back."""

    def __init__(self, check: Callable[[], object], *, fresh_seconds: float = _FRESH_SECONDS) -> None:
        """Args:
        check: Raises StorageFull when free space is below the reserve, OSError when the disk does not answer.
        """
        self._check = check
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._enough = True

    def __call__(self) -> bool:
        """Whether an instance may be stored now."""
        now = time.monotonic()
        if now - self._looked_at < self._fresh_seconds:
            return self._enough
        with self._lock:
            if now - self._looked_at >= self._fresh_seconds:
                self._look()
                self._looked_at = now
            return self._enough

    def _look(self) -> None:
        try:
            self._check()
        except (StorageFull, OSError) as error:
            if self._enough:
                log.warning("storage_short", reason=str(error))
            self._enough = False
            return
        if not self._enough:
            log.info("storage_available")
        self._enough = True
