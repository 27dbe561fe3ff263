"""A settings file as values that know where they stand. No file is read here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

DEEPEST: Final = 64
"""Levels of nesting; no settings file needs a tenth of them."""

Scalar = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands.

    Attributes:
        line: From 1; of a member of an object, that of its key.
        column: Likewise, in characters.
    """

    value: "Scalar | dict[str, Node] | list[Node]"
    line: int
    column: int

    @property
    def members(self) -> "dict[str, Node]":
        """The members of an object; none of anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> "list[Node]":
        """The elements of a list; none of anything else."""
        return self.value if isinstance(self.value, list) else []

    def plain(self) -> Any:
        """The value without the places."""
        if isinstance(self.value, dict):
            return {key: below.plain() for key, below in self.value.items()}
        if isinstance(self.value, list):
            return [below.plain() for below in self.value]
        return self.value

    def all_keys(self) -> Iterator[str]:
        """The keys of this object and of all below it."""
        for key, below in self.members.items():
            yield key
            yield from below.all_keys()
        for below in self.items:
            yield from below.all_keys()


@dataclass(frozen=True, slots=True)
class Slip:
    """Something wrong at a place of the text."""

    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}: {self.text}"


class TextInvalid(ValueError):
    """The text cannot be read.

    Attributes:
        slips: What is wrong, in the order of the text; the last one ended the reading.
    """

    def __init__(self, slips: list[Slip]) -> None:
        super().__init__("; ".join(map(str, slips)))
        self.slips = slips
