"""``clara dicom doctor``: whether the adapter can do its work here, and what to do where it cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from clara_dicom_adapter.cli.examples import examples
from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import print_json, say
from clara_dicom_adapter.cli.place import Place

if TYPE_CHECKING:
    from clara_dicom_adapter.cli.checkup import Finding


def add_to(group: typer.Typer) -> None:
    """Add this command."""
    group.command(rich_help_panel="Look", epilog=examples("doctor"))(doctor)


def doctor(data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Check settings, ports, disk, database, Temporal, platform and every destination; exit status 1 for a problem."""
    from clara_dicom_adapter.cli.checkup import Level, check_up

    found: list[Finding] = []
    for finding in check_up(Place(data_dir, config).as_started()):
        found.append(finding)
        if not as_json:
            say(f"{finding.level.value:<8} {finding.about}: {finding.message}")
            if finding.remedy:
                say(f"{'':<8} -> {finding.remedy}")
    if as_json:
        print_json(found)
    raise typer.Exit(1 if any(finding.level is Level.PROBLEM for finding in found) else 0)
