"""What a command said, and how it ended."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


class Clara(Protocol):
    """Runs ``clara`` with arguments."""

    def __call__(self, *arguments: str) -> Done: ...
