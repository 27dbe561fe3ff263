"""Settings of what is logged, and where to."""

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from clara_dicom_adapter.configuration.section import Section

LogLevel = Literal["Trace", "Debug", "Information", "Warning", "Error", "Critical", "None"]
"""The words of seed 002, from everything to nothing."""


class ConsoleLogSettings(Section):
    """Log lines on standard error."""

    disable_colors: bool = False
    """Whether readable lines have no colours; they never have any where standard error is no terminal."""


class RollingInterval(StrEnum):
    """When a new log file is begun, in the words of the 0.7 file."""

    INFINITE = "Infinite"
    YEAR = "Year"
    MONTH = "Month"
    DAY = "Day"
    HOUR = "Hour"
    MINUTE = "Minute"


class FileLogSettings(Section):
    """The same lines in a rolling file."""

    path: Path | None = None
    """Where; the time that a file begins with is put before the suffix: `logs/clara-dicom20240501.log`. None: there is
    no file. A relative one is in the data folder."""
    rolling_interval: RollingInterval = RollingInterval.DAY
    """How often a new file is begun, by UTC."""
    file_size_limit_bytes: int = Field(default=100_000_000, ge=10_000)
    """At this size a file is full."""
    roll_on_file_size_limit: bool = True
    """Whether another file, `_001` and so on, follows a full one; otherwise nothing more is written until the next
    interval."""
    retained_file_count_limit: int = Field(default=31, ge=1)
    """So many of the newest files are kept."""


class LoggingSettings(BaseModel):
    """What is logged, and where to; the section ``Logging`` of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    levels: dict[str, LogLevel] = Field(default={}, alias="LogLevel")
    """Least level that is logged, by category; the longest category that fits a line counts, `Default` is for all."""
    console: ConsoleLogSettings = Field(default=ConsoleLogSettings(), alias="Console")
    file: FileLogSettings = Field(default=FileLogSettings(), alias="File")
