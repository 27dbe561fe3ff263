"""The alarm for parked data: what waits for the platform or for a person, on a disk that is nearly full."""

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.spool import SpoolUsage
from clara_dicom_adapter.spool.space import Space

log = structlog.get_logger("clara_dicom_adapter.receiver")

NEAR_PERCENT: Final = 5.0
"""Points of the disk that are left up to the watermark, or fewer: time to decide about what is parked."""
_FRESH_SECONDS: Final = 10.0


class ParkedAlarm:
    """Looks when it is asked, at most about every ten seconds; logs once when it begins, and once when it is over."""

    def __init__(
        self, measure: Callable[[], Space], usage: Callable[[], SpoolUsage], *, fresh_seconds: float = _FRESH_SECONDS
    ) -> None:
        self._measure = measure
        self._usage = usage
        self._fresh_seconds = fresh_seconds
        self._lock = threading.Lock()
        self._looked_at = float("-inf")
        self._warning = ""

    def __call__(self) -> str:
        """What there is to warn of; empty when there is nothing."""
        with self._lock:
            if time.monotonic() - self._looked_at >= self._fresh_seconds:
                try:
                    self._look()
                except (AdapterError, OSError) as error:  # others tell what a disk does that does not answer
                    log.debug("parked_not_judged", error=str(error)[:300])
                self._looked_at = time.monotonic()
            return self._warning

    def _look(self) -> None:
        space = self._measure()
        left = max(space.free_bytes - space.reserved_bytes, 0) * 100 / space.total_bytes
        usage = self._usage() if left <= NEAR_PERCENT else SpoolUsage()
        before, self._warning = self._warning, ""
        if usage.parked:
            self._warning = (
                f"{usage.parked} instances are parked, {usage.parked_bytes} bytes, and {left:.1f} % of the disk are "
                "left up to its watermark"
            )
        if self._warning and not before:
            log.warning("parked_near_watermark", instances=usage.parked, bytes=usage.parked_bytes)
        elif before and not self._warning:
            log.info("parked_near_watermark_over")
