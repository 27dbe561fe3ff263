"""``clara demo``: the whole way, once, on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from clara_dicom_adapter.cli.options import Json


def add_to(group: typer.Typer) -> None:
    """Add this command."""
    group.command()(demo)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running, to look around.")] = False,
    as_json: Json = False,
) -> None:
    """Send real studies the whole way, kill parts in the middle, and check that everything arrived."""
    from clara_dicom_adapter.cli.demo.main import run

    raise typer.Exit(run(keep=keep, as_json=as_json))
