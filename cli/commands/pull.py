"""``clara pull dicom``: the Helm chart and its configuration, to ``~/.clara/charts/dicom-adapter``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clara_dicom_adapter.cli.defaults import chart_folder, passed_over
from clara_dicom_adapter.cli.output import say, to_stderr

pull = typer.Typer(no_args_is_help=True)


def add_to(group: typer.Typer) -> None:
    """Add these commands."""
    group.add_typer(pull, name="pull", help="Get what is needed to install something.")


@pull.callback()
def what_is_pulled() -> None:
    """Get what is needed to install something."""


@pull.command("dicom", epilog="Examples:\n\nclara pull dicom\n\nclara pull dicom --to /tmp/chart")
def pull_dicom(
    to: Annotated[
        Path | None, typer.Option(help="Another folder.", file_okay=False, show_default="~/.clara/charts/dicom-adapter")
    ] = None,
) -> None:
    """Write the Helm chart and a configuration to start from; a file that you have edited stays as it is."""
    from clara_dicom_adapter.cli import chart

    folder = (to or chart_folder()).expanduser().absolute()
    pulled = chart.pull(chart.packaged(), folder)
    say(f"{folder}: {len(pulled.written)} files written, {len(pulled.unchanged)} as they were")
    for file in pulled.kept:
        to_stderr(f"{file} was edited and stays; `clara pull dicom --to FOLDER` shows the new one")
    older = passed_over(folder / "files" / "appsettings.json")
    if older is not None:
        to_stderr(
            f"{older} is not read beside appsettings.json: `clara dicom config convert {older}` prints it in that form"
        )
    say(f"settings: {folder / 'files' / 'appsettings.json'}, used by `clara dicom start`; chart: {folder}")
