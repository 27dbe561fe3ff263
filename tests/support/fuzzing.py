"""One search after the other, until there were enough streams or the time is over.

Hypothesis remembers all that it has tried in a search, so a search of hours would fill the memory; a new one begins
with other examples. What was found is made small, is printed, and is tried first the next time (``.hypothesis``).
"""

import os
import time
from collections.abc import Callable
from typing import Final

from hypothesis import HealthCheck, Phase, settings
from machine import memory_mb

from support.fuzzed_messages import Figures

SECONDS: Final = float(os.environ.get("FUZZ_SECONDS") or 60)
COUNT: Final = int(os.environ.get("FUZZ_COUNT") or 0)
"""Streams for the parser; 0: as many as there is time for."""
_GROWTH_MB: Final = 32
"""By which a process may be larger than after the first search."""
_BETWEEN_NEWS: Final = 60.0

SEARCH: Final = settings(
    deadline=None,
    derandomize=False,  # in CI, too
    print_blob=True,
    report_multiple_bugs=False,
    phases=(Phase.reuse, Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


def fuzz(
    search: Callable[[], None],
    figures: Figures,
    tell: Callable[[str], None],
    *,
    time_share: float,
    count_share: float,
    pid: Callable[[], int] = os.getpid,
) -> None:
    """Search, once at least; raises AssertionError when a process grows, or whatever the search raises.

    Args:
        figures: What the search counts its streams in.
        tell: Is told every minute how far it is.
        time_share: Of :data:`SECONDS`.
        count_share: Of :data:`COUNT`, which goes before the time.
        pid: The process whose memory is looked at.
    """
    begun = told = time.monotonic()
    before = 0.0
    while True:
        search()
        resident = memory_mb([pid()])
        before = before or resident
        assert resident - before < _GROWTH_MB, f"memory has grown from {before:.0f} to {resident:.0f} MB"
        now = time.monotonic()
        if figures.streams >= COUNT * count_share if COUNT else now - begun >= SECONDS * time_share:
            break
        if now - told >= _BETWEEN_NEWS:
            told = now
            tell(f"{figures.streams} streams in {now - begun:.0f} s, {resident:.0f} MB")
    tell(
        f"{figures.streams} streams in {now - begun:.0f} s, {figures.stored} instances, "
        f"{before:.0f} MB after the first search, {resident:.0f} MB at the end"
    )
