"""Options that many commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

from clara_dicom_adapter.cli.defaults import CONFIG_VARIABLE, DATA_DIR_VARIABLE, default_data_dir

DataDir = Annotated[
    Path,
    typer.Option(
        "--data-dir",
        envvar=DATA_DIR_VARIABLE,
        default_factory=default_data_dir,
        show_default="~/.local/share/clara-dicom-adapter",
        help="Folder of everything that is kept.",
        file_okay=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        envvar=CONFIG_VARIABLE,
        help="Settings file (appsettings.json); without it, the one that the adapter was started with here.",
        dir_okay=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

NO_ARGUMENTS: dict[str, Any] = {"no_args_is_help": True}
