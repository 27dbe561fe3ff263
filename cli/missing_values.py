"""Options given without their value, as the page of 0.7 prints them (seed 003), which has lost its addresses."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

VALUES: Final[Mapping[str, str]] = {"-n": "NAME", "-a": "AET", "-i": "HOST", "-p": "PORT"}
"""Options of what is configured, by what their value is."""
_END: Final = "--"


class EntityCommand(TyperCommand):
    """A command that says which value is missing, where the parser would take the next option for it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for option, following in pairwise([*args, _END]):
            if option in VALUES and (following in VALUES or following.startswith(_END)):
                raise typer.BadParameter(f"{option} needs a value: {option} {VALUES[option]}", ctx=ctx)
        return super().parse_args(ctx, args)


class EntityGroup(TyperGroup):
    """A group that goes on without a last value when no kind was given, so that its callback can ask for both."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, completed(args))


def completed(args: Sequence[str]) -> list[str]:
    """The arguments, with a word for the value that is missing at their end."""
    if len(args) % 2 and all(option in VALUES for option in args[::2]):
        return [*args, VALUES[args[-1]]]
    return list(args)
