"""Properties of hypothesis as fuzz targets: random bytes choose examples until there were enough, or the time is over.

This is hypothesis's ``fuzz_one_input``: its own search remembers all that it has tried, so that in hours it would fill
the memory, and it repeats parts of examples, so that four of five streams would be there a second time. What is found
goes into hypothesis's database and is played again by its search, which makes it small and prints it; what is there
already is tried first. An engine that is led by coverage takes the same target.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol, cast
from unittest import SkipTest

from hypothesis import HealthCheck, Phase, settings
from hypothesis.core import HypothesisHandle
from hypothesis.database import DirectoryBasedExampleDatabase
from machine import memory_mb

from support.fuzzed_messages import Figures

SECONDS: Final = float(os.environ.get("FUZZ_SECONDS") or 60)
COUNT: Final = int(os.environ.get("FUZZ_COUNT") or 0)
"""Streams for the parser; 0: as many as there is time for."""
EXAMPLE_BYTES: Final = 4096
"""Several times what an example uses."""
_BETWEEN_LOOKS: Final = 30
"""Examples after which the memory is looked at."""
_GROWTH_MB: Final = 32
"""By which a process may be larger than when it was looked at first."""
_BETWEEN_NEWS: Final = 60.0

FINDINGS: Final = settings(
    database=DirectoryBasedExampleDatabase(".hypothesis/examples"),  # in CI, too
    deadline=None,
    print_blob=True,
    report_multiple_bugs=False,
    phases=(Phase.reuse, Phase.shrink),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
"""Of a property that is a target: what was found, made small."""


class _Property(Protocol):
    hypothesis: HypothesisHandle

    def __call__(self) -> None: ...


def target(test: Callable[..., None]) -> Callable[[bytes], None]:
    """Plays the example that some bytes choose; raises what hypothesis has made of one that was not stood."""
    fuzzed = cast("_Property", test)
    with suppress(SkipTest):  # nothing has been found yet
        fuzzed()
    play_one = fuzzed.hypothesis.fuzz_one_input

    def play(example: bytes) -> None:
        try:
            play_one(example)
        except Exception as error:
            found = error
        else:
            return
        with suppress(SkipTest):  # what is found cannot be kept
            fuzzed()
        found.add_note("it did not happen again")
        raise found

    return play


def fuzz(
    test: Callable[..., None],
    figures: Figures,
    tell: Callable[[str], None],
    *,
    time_share: float,
    count_share: float,
    pid: Callable[[], int] = os.getpid,
) -> None:
    """Play examples; raises AssertionError when a process grows, or whatever an example raises.

    Args:
        figures: What the property counts its streams in.
        tell: Is told every minute how far it is.
        time_share: Of :data:`SECONDS`.
        count_share: Of :data:`COUNT`, which goes before the time.
        pid: The process whose memory is looked at.
    """
    play = target(test)
    begun = told = time.monotonic()
    before = 0.0
    while True:
        for _ in range(_BETWEEN_LOOKS):
            play(os.urandom(EXAMPLE_BYTES))
        resident, now = memory_mb([pid()]), time.monotonic()
        before = before or resident
        assert resident - before < _GROWTH_MB, f"memory has grown from {before:.0f} to {resident:.0f} MB"
        if figures.streams >= COUNT * count_share if COUNT else now - begun >= SECONDS * time_share:
            break
        if now - told >= _BETWEEN_NEWS:
            told = now
            tell(f"{figures.streams} streams in {now - begun:.0f} s, {resident:.0f} MB")
    tell(
        f"{figures.streams} streams in {now - begun:.0f} s, {figures.stored} instances, "
        f"{before:.0f} MB in the beginning, {resident:.0f} MB at the end"
    )
