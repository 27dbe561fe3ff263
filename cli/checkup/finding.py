"""What a check has found."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody should look after it."""
    PROBLEM = "problem"
    """Something cannot work."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        remedy: What to do; empty when there is nothing to be done.
    """

    about: str
    level: Level
    message: str
    remedy: str = ""
