"""Which store the commands for AE titles, sources and destinations work on: this machine's, or one behind REST."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clara_dicom_adapter.cli.place import Place

if TYPE_CHECKING:
    from clara_dicom_adapter.configuration.entity_store import EntityStores

_ELSEWHERE = frozenset({"create", "list", "get", "update", "delete"})
"""Groups with commands that can work on an adapter elsewhere."""

Url = Annotated[
    str | None,
    typer.Option(
        envvar="CLARA_DICOM_URL",
        help="Adapter on another machine, https://HOST:5000, for create, list, get, update and delete.",
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
        raise typer.BadParameter("--url is for create, list, get, update and delete of aetitle, src and dest")


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
