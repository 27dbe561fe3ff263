"""Log levels that change while the adapter runs: by SIGHUP after an edit of the file, or by :func:`change`.

What :func:`change` is told lies in ``log-levels.json`` in the data folder, wins over the settings, and is forgotten
when the adapter is started again. Each process reads its levels again when it gets SIGHUP.
"""

import json
import os
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Final

import structlog

from clara_dicom_adapter import log_levels, part_status
from clara_dicom_adapter.configuration.logging_sections import level_name
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import ConfigurationInvalid

log = structlog.get_logger("clara_dicom_adapter.configuration")

READS_AGAIN: Final = "reads_levels_again"
"""In the file of a part that acts on SIGHUP; any other process would die of it."""


def changed_levels(data: DataFolder) -> dict[str, str]:
    """What has been changed since the adapter was started; levels by category."""
    with suppress(FileNotFoundError, ValueError):
        content = json.loads(data.log_levels.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return {str(category): level for category, level in content.items() if level in log_levels.LEVELS}
    return {}


def change(data: DataFolder, levels: Mapping[str, str | None]) -> dict[str, str]:
    """Change levels in every running part of this data folder.

    Args:
        levels: Category to level name; None takes a change back.

    Returns:
        All changes that are in force.

    Raises:
        ConfigurationInvalid: A level is none; nothing was changed.
    """
    named = {category: level if level is None else level_name(level) for category, level in levels.items()}
    wrong = [category for category, level in named.items() if level is not None and level not in log_levels.LEVELS]
    if wrong:
        known = ", ".join(log_levels.LEVELS)
        raise ConfigurationInvalid(
            [f"{category}: {levels[category]!r} is not allowed: one of {known}" for category in wrong]
        )
    merged = {**changed_levels(data), **named}
    in_force = {category: str(level) for category, level in merged.items() if level is not None}
    data.root.mkdir(parents=True, exist_ok=True)
    partial = data.log_levels.with_suffix(f".{os.getpid()}.part")
    partial.write_text(json.dumps(in_force, indent=2) + "\n", encoding="utf-8")
    partial.replace(data.log_levels)
    tell_parts(data)
    return in_force


def forget(data: DataFolder) -> None:
    """The adapter is started: its settings count again."""
    data.log_levels.unlink(missing_ok=True)


def tell_parts(data: DataFolder) -> None:
    """Have every part of this data folder read its levels again."""
    for part in part_status.read_all(data.run):
        if part.alive and part.facts.get(READS_AGAIN):
            with suppress(ProcessLookupError):
                os.kill(part.pid, signal.SIGHUP)


class LevelReload:
    """Reads the levels again when this process gets SIGHUP; made in the main thread."""

    def __init__(self, read: Callable[[], Mapping[str, str]], told: Callable[[Mapping[str, str]], None]) -> None:
        """Args:
        read: The levels as they are now; ConfigurationInvalid leaves them as they were.
        told: Called with new levels, for who has processes of its own.
        """
        self._read = read
        self._told = told
        # a signal's handler may interrupt anything, locks held; putting into this queue is safe all the same
        self._signals: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="log-levels", daemon=True).start()
        signal.signal(signal.SIGHUP, self._noted)

    def _noted(self, _signal: int, _frame: FrameType | None) -> None:
        self._signals.put(None)

    def _serve(self) -> None:
        while True:
            self._signals.get()
            reload(self._read, self._told)


def reload(
    read: Callable[[], Mapping[str, str]], told: Callable[[Mapping[str, str]], None] = lambda _levels: None
) -> None:
    """Put the levels in force that are configured now, in this process and those it tells."""
    try:
        levels = read()
    except ConfigurationInvalid as error:
        log.error("log_levels_stay", reason="; ".join(error.problems)[:1000])
        return
    log_levels.apply(levels)
    told(levels)
    log.warning("log_levels_read", value=", ".join(f"{name}={level}" for name, level in sorted(levels.items())))
