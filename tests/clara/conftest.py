"""Embedded platforms for this room's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.platform import COPY, RunningPlatform

PlatformMaker = Callable[..., RunningPlatform]


@pytest.fixture
def start_platform(tmp_path: Path) -> Iterator[PlatformMaker]:
    """Starts platforms on this test's folder; whatever still runs at the end is stopped."""
    running: list[RunningPlatform] = []

    def start(**options: object) -> RunningPlatform:
        platform = RunningPlatform(tmp_path, **options)
        running.append(platform)
        return platform

    yield start
    for platform in running:
        if platform._thread.is_alive():
            platform.stop()


@pytest.fixture
def platform(start_platform: PlatformMaker) -> RunningPlatform:
    """A platform with the pipeline ``copy``."""
    started = start_platform()
    (started.pipelines / "copy.yaml").write_text(COPY)
    return started


@pytest.fixture
def impatient(start_platform: PlatformMaker) -> RunningPlatform:
    """A platform that offers failed tasks again at once."""
    return start_platform(result_retry_delay_seconds=0.0)
