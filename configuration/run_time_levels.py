"""Log levels that change while the adapter runs: by SIGHUP after an edit of the file, or by :class:`RunTimeLevels`.

What it is told lies in ``log-levels.json`` in the data folder, wins over the settings, and is forgotten when the
adapter is started again. Each process reads its levels again when it gets SIGHUP.
"""

import json
import os
import queue
import re
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
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
CATEGORY_PATTERN: Final = "^[A-Za-z_][A-Za-z0-9_.-]{0,199}$"
"""What a category looks like, one of .NET or a Python logger."""


def changed_levels(data: DataFolder) -> dict[str, str]:
    """What has been changed since the adapter was started; levels by category."""
    with suppress(FileNotFoundError, ValueError):
        content = json.loads(data.log_levels.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return {str(category): level for category, level in content.items() if level in log_levels.LEVELS}
    return {}


@dataclass(frozen=True)
class RunTimeLevels:
    """The levels of every part that runs on a data folder; who changes them works with this.

    Attributes:
        read: The levels that the settings and all changes come to; raises ConfigurationInvalid.
    """

    data: DataFolder
    read: Callable[[], Mapping[str, str]]

    def in_force(self) -> dict[str, str]:
        """The levels that count: the settings', and what has been changed since; raises ConfigurationInvalid."""
        return dict(self.read())

    def changed(self) -> dict[str, str]:
        """What has been changed since the adapter was started."""
        return changed_levels(self.data)

    def change(self, levels: Mapping[str, object]) -> list[str]:
        """Change levels; what is not named stays as it is.

        Args:
            levels: Category to the name of a level; None takes a change back.

        Returns:
            The parts that were told.

        Raises:
            ConfigurationInvalid: A category or level is none, or the settings have become wrong; nothing was changed.
        """
        checked = _checked({category: level for category, level in levels.items() if level is not None})
        named = {category.lower() for category in levels}
        kept = {category: level for category, level in self.changed().items() if category.lower() not in named}
        return self._write(kept | checked)

    def replace(self, levels: Mapping[str, object]) -> list[str]:
        """Put these in the place of all changes before; an empty mapping takes all back. The rest as :meth:`change`."""
        return self._write(_checked(levels))

    def _write(self, levels: Mapping[str, str]) -> list[str]:
        self.read()  # with settings that have become wrong no part would take them
        self.data.root.mkdir(parents=True, exist_ok=True)
        partial = self.data.log_levels.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
        partial.write_text(json.dumps(levels, indent=2) + "\n", encoding="utf-8")
        partial.replace(self.data.log_levels)
        return tell_parts(self.data)


def _checked(levels: Mapping[str, object]) -> dict[str, str]:
    """The levels in their own spelling; raises ConfigurationInvalid with everything that is wrong."""
    # null, and a word that only looks like a level when it is written out, are none
    named = {category: level_name(level) if isinstance(level, str) else "" for category, level in levels.items()}
    odd = {category for category in levels if not re.fullmatch(CATEGORY_PATTERN, category)}
    unknown = odd | set(log_levels.unknown_categories(levels))
    known = ", ".join(sorted({log_levels.DEFAULT, *log_levels.CATEGORIES.values()}))
    wrong = [f"'{category[:100]}' is no category: one of {known}, or a Python logger's name" for category in unknown]
    wrong += [
        f"{category[:100]}: {json.dumps(levels[category])[:100]} is not allowed: one of {', '.join(log_levels.LEVELS)}"
        for category, level in named.items()
        if level not in log_levels.LEVELS
    ]
    if wrong:
        raise ConfigurationInvalid(wrong)
    return {category: str(level) for category, level in named.items()}


def forget(data: DataFolder) -> None:
    """The adapter is started: its settings count again."""
    data.log_levels.unlink(missing_ok=True)


def tell_parts(data: DataFolder) -> list[str]:
    """Have every part of this data folder read its levels again; the names of those that were told."""
    told = []
    for part in part_status.read_all(data.run):
        if part.alive and part.facts.get(READS_AGAIN):
            with suppress(ProcessLookupError):
                os.kill(part.pid, signal.SIGHUP)
                told.append(part.part)
    return told


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
