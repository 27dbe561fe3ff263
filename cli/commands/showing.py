"""``clara dicom list`` and ``get`` of Clara AE titles, sources and destinations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Generic, TypeVar

import typer

from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import print_json, print_table
from clara_dicom_adapter.cli.stores import only_here, stores

if TYPE_CHECKING:
    from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Entity, Source
    from clara_dicom_adapter.configuration.entity_store import EntityStore

ENTITIES = frozenset({"aetitle", "aet", "src", "source", "dest", "destination"})
Name = Annotated[str | None, typer.Option("--name", "-n", help="Its name.")]
AeTitle = Annotated[str | None, typer.Option("--aetitle", "-a", help="Its AE title.")]

EntityT = TypeVar("EntityT", bound="Entity")

lists = typer.Typer(no_args_is_help=True)
get = typer.Typer(no_args_is_help=True)


@lists.callback()
def what_is_listed(context: typer.Context) -> None:
    """Show what is configured, and what has happened."""
    if context.invoked_subcommand not in ENTITIES:
        only_here(context)


@dataclass(frozen=True)
class _Table(Generic[EntityT]):
    """How the entities of one kind are shown.

    Attributes:
        adds: The command that adds one, for who has none.
    """

    kind: str
    columns: tuple[str, ...]
    row: Callable[[EntityT], tuple[object, ...]]
    adds: str


_AE_TITLES: Final[_Table[ClaraAeTitle]] = _Table(
    "AE titles",
    ("name", "AE title", "processor settings", "interrupted", "allowed sources"),
    lambda ae: (
        ae.name,
        ae.ae_title,
        " ".join(f"{key}={value}" for key, value in ae.processor_settings.items()),
        ae.interrupted.value if ae.interrupted else "",
        " ".join(ae.allowed_sources) or "all",
    ),
    "create aetitle -a AET pipeline-x=ID",
)
_SOURCES: Final[_Table[Source]] = _Table(
    "sources",
    ("AE title", "host"),
    lambda source: (source.ae_title, source.host_ip),
    "create src -a AET -i HOST",
)
_DESTINATIONS: Final[_Table[Destination]] = _Table(
    "destinations",
    ("name", "AE title", "host", "port", "associations", "TLS"),
    lambda each: (
        each.name,
        each.ae_title,
        each.host_ip,
        each.port,
        each.maximum_associations,
        "yes" if each.tls else "no",
    ),
    "create dest -n NAME -a AET -i HOST -p PORT",
)


def list_ae_titles(context: typer.Context, data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show our AE titles."""
    with stores(context, data_dir, config) as kept:
        _show_all(_AE_TITLES, kept.clara_ae_titles, as_json=as_json)


def list_sources(context: typer.Context, data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show who may send to us."""
    with stores(context, data_dir, config) as kept:
        _show_all(_SOURCES, kept.sources, as_json=as_json)


def list_destinations(context: typer.Context, data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show where results can be sent to."""
    with stores(context, data_dir, config) as kept:
        _show_all(_DESTINATIONS, kept.destinations, as_json=as_json)


def _show_all(table: _Table[EntityT], store: EntityStore[EntityT], *, as_json: bool) -> None:
    found = store.all()
    if as_json:
        print_json(found)
        return
    empty = f"no {table.kind}: `clara dicom {table.adds}` adds one"
    print_table(table.columns, map(table.row, found), empty=empty)


def get_ae_title(
    context: typer.Context,
    data_dir: DataDir,
    *,
    name: Name = None,
    ae_title: AeTitle = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show an AE title of ours."""
    key = one_of(name, ae_title)
    with stores(context, data_dir, config) as kept:
        _show(kept.clara_ae_titles.get(key), as_json=as_json)


def get_source(
    context: typer.Context,
    data_dir: DataDir,
    *,
    name: Annotated[str | None, typer.Option("--name", "-n", help="The same as -a.")] = None,
    ae_title: AeTitle = None,
    host: Annotated[str | None, typer.Option("--ip", "-i", help="Its host, when it has several.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show a source."""
    key = one_of(ae_title, name)
    with stores(context, data_dir, config) as kept:
        _show(kept.sources.get(key, host), as_json=as_json)


def get_destination(
    context: typer.Context,
    data_dir: DataDir,
    *,
    name: Name = None,
    ae_title: AeTitle = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show a destination."""
    key = one_of(name, ae_title)
    with stores(context, data_dir, config) as kept:
        _show(kept.destinations.get(key), as_json=as_json)


def one_of(*given: str | None) -> str:
    """The one value that was given."""
    found = [value for value in given if value]
    if len(found) != 1:
        raise typer.BadParameter("say which with -n NAME or -a AET")
    return found[0]


def _show(entity: Entity, *, as_json: bool) -> None:
    if as_json:
        print_json(entity)
        return
    values = entity.model_dump(mode="json", by_alias=True)
    rows = [(field, _text(value)) for field, value in values.items()]
    print_table(("field", "value"), rows, empty="")


def _text(value: object) -> object:
    if isinstance(value, dict):
        return " ".join(f"{key}={each}" for key, each in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else value
