"""``clara dicom list`` and ``get`` of Clara AE titles, sources and destinations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import print_json, print_table
from clara_dicom_adapter.cli.stores import only_here, stores

if TYPE_CHECKING:
    from clara_dicom_adapter.configuration.entities import Entity

ENTITIES = frozenset({"aetitle", "aet", "src", "source", "dest", "destination"})
Name = Annotated[str | None, typer.Option("--name", "-n", help="Its name.")]
AeTitle = Annotated[str | None, typer.Option("--aetitle", "-a", help="Its AE title.")]

lists = typer.Typer(no_args_is_help=True)
get = typer.Typer(no_args_is_help=True)


@lists.callback()
def what_is_listed(context: typer.Context) -> None:
    """Show what is configured, and what has happened."""
    if context.invoked_subcommand not in ENTITIES:
        only_here(context)


def list_ae_titles(context: typer.Context, data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show our AE titles."""
    with stores(context, data_dir, config) as kept:
        found = kept.clara_ae_titles.all()
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "AE title", "processor settings", "interrupted", "allowed sources"),
        [
            (
                ae.name,
                ae.ae_title,
                " ".join(f"{key}={value}" for key, value in ae.processor_settings.items()),
                ae.interrupted.value if ae.interrupted else "",
                " ".join(ae.allowed_sources) or "all",
            )
            for ae in found
        ],
        empty="no AE titles: `clara dicom create aetitle -a AET pipeline-x=ID` adds one",
    )


def list_sources(context: typer.Context, data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show who may send to us."""
    with stores(context, data_dir, config) as kept:
        found = kept.sources.all()
    if as_json:
        print_json(found)
        return
    print_table(
        ("AE title", "host"),
        [(source.ae_title, source.host_ip) for source in found],
        empty="no sources: `clara dicom create src -a AET -i HOST` adds one",
    )


def list_destinations(context: typer.Context, data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show where results can be sent to."""
    with stores(context, data_dir, config) as kept:
        found = kept.destinations.all()
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "AE title", "host", "port", "associations", "TLS"),
        [
            (each.name, each.ae_title, each.host_ip, each.port, each.maximum_associations, "yes" if each.tls else "no")
            for each in found
        ],
        empty="no destinations: `clara dicom create dest -n NAME -a AET -i HOST -p PORT` adds one",
    )


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
