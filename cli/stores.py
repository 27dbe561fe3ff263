"""What the commands that also work on an adapter elsewhere work on: what is on this machine, or behind REST."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from clara_dicom_adapter.cli.place import Place

if TYPE_CHECKING:
    from clara_dicom_adapter.configuration.entity_store import EntityStores

_ELSEWHERE = frozenset({"create", "list", "get", "update", "delete", "config"})
"""Groups with commands that can work on an adapter elsewhere."""

Url = Annotated[
    str | None,
    typer.Option(
        envvar="CLARA_DICOM_URL",
        help="Adapter on another machine, https://HOST:5000, for create, list, get, update, delete and config levels.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="CLARA_DICOM_KEY", help="API key for it; else the one in the data folder's api.key."),
]
CaFile = Annotated[
    Path | None,
    typer.Option("--ca-file", envvar="CLARA_DICOM_CA_FILE", help="Authorities to trust there, PEM.", dir_okay=False),
]


class Levels(Protocol):
    """Log levels that can be changed."""

    def changed(self) -> dict[str, str]:
        """What has been changed since the adapter was started; levels by category."""
        ...

    def change(self, levels: Mapping[str, str | None]) -> list[str]:
        """Change some, None takes a change back; the parts that were told."""
        ...


@dataclass(frozen=True)
class Elsewhere:
    """What ``clara dicom`` was told of an adapter elsewhere.

    Attributes:
        said: By an option of this very command; a variable is for those commands that it concerns.
    """

    url: str | None = None
    key: str | None = None
    ca_file: Path | None = None
    said: bool = False


def elsewhere(context: typer.Context, url: Url = None, key: Key = None, ca_file: CaFile = None) -> None:
    """Run the adapter, configure it, and see what it does."""
    source = context.get_parameter_source("url")
    context.obj = Elsewhere(url, key, ca_file, said=source is not None and source.name == "COMMANDLINE")
    if context.invoked_subcommand not in _ELSEWHERE:
        only_here(context)


def only_here(context: typer.Context) -> None:
    """Refuse --url for what can only be done on the adapter's own machine."""
    if isinstance(context.obj, Elsewhere) and context.obj.said:
        raise typer.BadParameter(
            "--url is for create, list, get, update and delete of aetitle, src and dest, and for config levels"
        )


@contextmanager
def stores(
    context: typer.Context, data_dir: Path, config: Path | None, *, create: bool = False
) -> Iterator[EntityStores]:
    """The stores to work on.

    Args:
        create: Make a data folder that is not there.
    """
    place = Place(data_dir, config)
    told = context.obj if isinstance(context.obj, Elsewhere) else Elsewhere()
    if told.url:
        from clara_dicom_adapter.cli.remote import Remote

        yield Remote(told.url, told.key, told.ca_file).stores(place.data.root)
        return
    with place.database(create=create) as engine:
        yield place.configuration(engine).entities


def levels_to_work_on(context: typer.Context, data_dir: Path, config: Path | None) -> Levels:
    """The log levels to work on."""
    place = Place(data_dir, config)
    told = context.obj if isinstance(context.obj, Elsewhere) else Elsewhere()
    if told.url:
        from clara_dicom_adapter.cli.remote import Remote

        return Remote(told.url, told.key, told.ca_file).levels(place.data.root)
    from clara_dicom_adapter.configuration import reader
    from clara_dicom_adapter.configuration.run_time_levels import RunTimeLevels

    return RunTimeLevels(place.data, lambda: reader.load(place.config, place.data, os.environ).logging.levels)
