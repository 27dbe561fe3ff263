"""``clara dicom create``, ``list``, ``get``, ``update`` and ``delete`` of Clara AE titles, sources and destinations.

They work on the configuration in the database, whether the adapter runs or not; a running one follows at once. With
``--url`` they work on an adapter elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import typer

from clara_dicom_adapter.cli.commands.changing import update, update_ae_title, update_destination, update_source
from clara_dicom_adapter.cli.commands.showing import (
    get,
    get_ae_title,
    get_destination,
    get_source,
    list_ae_titles,
    list_destinations,
    list_sources,
    lists,
    one_of,
)
from clara_dicom_adapter.cli.examples import examples
from clara_dicom_adapter.cli.missing_values import VALUES, EntityCommand, EntityGroup
from clara_dicom_adapter.cli.options import Config, DataDir
from clara_dicom_adapter.cli.output import say
from clara_dicom_adapter.cli.processor_settings import PROCESSOR_SETTINGS, parsed
from clara_dicom_adapter.cli.stores import only_here, stores

__all__ = ["add_to", "lists"]

AeTitle = Annotated[str, typer.Option("--aetitle", "-a", help="AE title.")]
Host = Annotated[str, typer.Option("--ip", "-i", help="Host name or IP address.")]
Name = Annotated[str | None, typer.Option("--name", "-n", help="Its name.")]
MaybeAeTitle = Annotated[str | None, typer.Option("--aetitle", "-a", help="Its AE title.")]

create = typer.Typer(cls=EntityGroup, invoke_without_command=True)
delete = typer.Typer(no_args_is_help=True)
_ONLY_HERE: Final = frozenset({"dicomweb"})
"""Kinds that cannot be changed on an adapter elsewhere."""


def add_to(group: typer.Typer) -> None:
    """Add these commands."""
    group.add_typer(create, name="create", help="Add an AE title, a source or a destination.")
    group.add_typer(lists, name="list", help="Show what is configured, and what has happened.")
    group.add_typer(get, name="get", help="Show one AE title, source or destination.")
    group.add_typer(update, name="update", help="Change an AE title, a source or a destination.")
    group.add_typer(delete, name="delete", help="Remove an AE title, a source or a destination.")


@create.callback()
def without_a_kind(
    context: typer.Context,
    ae_title: Annotated[str | None, typer.Option("--aetitle", "-a", hidden=True)] = None,
    host: Annotated[str | None, typer.Option("--ip", "-i", hidden=True)] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", hidden=True)] = None,
    port: Annotated[str | None, typer.Option("--port", "-p", hidden=True)] = None,
) -> None:
    """Add an AE title, a source or a destination."""
    if context.invoked_subcommand in _ONLY_HERE:
        only_here(context)
    if context.invoked_subcommand is not None:
        return
    given = dict(zip(VALUES, (name, ae_title, host, port), strict=True))
    words = " ".join(f"{option} {value}" for option, value in given.items() if value)
    if not words:
        say(context.get_help())
        raise typer.Exit(2)
    kind = "dest" if name or port else "src" if host else "aetitle"
    ending = " pipeline-NAME=ID" if kind == "aetitle" else ""
    raise typer.BadParameter(
        f"say what to create: aetitle, src or dest. Did you mean `clara dicom create {kind} {words}{ending}`?"
    )


# ---- create ----


def create_ae_title(
    context: typer.Context,
    data_dir: DataDir,
    *,
    ae_title: AeTitle,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...",
            help=f"Settings of the job processor, at least one pipeline: {PROCESSOR_SETTINGS}",
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Name; the AE title when not given.")] = None,
    processor: Annotated[str | None, typer.Option(help="Job processor; by default every pipeline gets all.")] = None,
    ignored_sop_classes: Annotated[
        list[str] | None, typer.Option("--ignore-sop-class", help="UID of a SOP class not to keep; may be repeated.")
    ] = None,
    allowed_sources: Annotated[
        list[str] | None, typer.Option("--allowed-source", help="Calling AE title that may use it; may be repeated.")
    ] = None,
    interrupted: Annotated[
        str | None,
        typer.Option(help="What becomes of a broken-off association: submit, quarantine or discard."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Of the same SOP instance sent twice keep the last, not the first.")
    ] = False,
    config: Config = None,
) -> None:
    """Add an AE title of ours: whoever sends to it gets its pipelines."""
    from clara_dicom_adapter.configuration import checks

    entity = checks.clara_ae_title(
        {
            "name": name,
            "aeTitle": ae_title,
            "overwriteSameInstance": overwrite,
            "ignoredSopClasses": ignored_sop_classes or [],
            "allowedSources": allowed_sources or [],
            "processor": processor,
            "processorSettings": parsed(settings or []),
            "interrupted": interrupted,
        }
    )
    with stores(context, data_dir, config, create=True) as found:
        found.clara_ae_titles.add(entity)
    say(f"AE title {entity.ae_title} added")


def create_source(
    context: typer.Context, data_dir: DataDir, *, ae_title: AeTitle, host: Host, config: Config = None
) -> None:
    """Add a source: an application entity that may send to us, from this host."""
    from clara_dicom_adapter.configuration import checks

    entity = checks.source({"aeTitle": ae_title, "hostIp": host})
    with stores(context, data_dir, config, create=True) as found:
        found.sources.add(entity)
    say(f"source {entity.ae_title} at {entity.host_ip} added")


def create_destination(
    context: typer.Context,
    data_dir: DataDir,
    *,
    ae_title: AeTitle,
    host: Host,
    name: Annotated[str, typer.Option("--name", "-n", help="Name that pipelines send results to.")],
    port: Annotated[int, typer.Option("--port", "-p", help="TCP port.")],
    associations: Annotated[int, typer.Option("--associations", help="How many it may be sent at once.")] = 2,
    tls: Annotated[bool, typer.Option("--tls", help="Speak TLS with it; implied by a file or name below.")] = False,
    ca_file: Annotated[str | None, typer.Option("--tls-ca", help="Authorities to trust, PEM.")] = None,
    certificate_file: Annotated[str | None, typer.Option("--tls-certificate", help="Our certificate, PEM.")] = None,
    key_file: Annotated[str | None, typer.Option("--tls-key", help="Its key, PEM.")] = None,
    server_name: Annotated[str | None, typer.Option("--tls-name", help="Name in its certificate.")] = None,
    config: Config = None,
) -> None:
    """Add a destination: where results are sent to, by its name."""
    from clara_dicom_adapter.configuration import checks

    secured = {
        "caFile": ca_file,
        "certificateFile": certificate_file,
        "keyFile": key_file,
        "serverName": server_name,
    }
    entity = checks.destination(
        {
            "name": name,
            "aeTitle": ae_title,
            "hostIp": host,
            "port": port,
            "maximumAssociations": associations,
            "tls": secured if tls or any(secured.values()) else None,
        }
    )
    with stores(context, data_dir, config, create=True) as found:
        found.destinations.add(entity)
    say(f"destination {entity.name} added: {entity.ae_title} at {entity.host_ip}:{entity.port}")


# ---- delete ----


@delete.callback()
def what_is_deleted(context: typer.Context) -> None:
    """Remove an AE title, a source or a destination."""
    if context.invoked_subcommand in _ONLY_HERE:
        only_here(context)


def delete_ae_title(
    context: typer.Context, data_dir: DataDir, name: Name = None, ae_title: MaybeAeTitle = None, config: Config = None
) -> None:
    """Remove an AE title of ours; what it has received goes its way."""
    key = one_of(name, ae_title)
    with stores(context, data_dir, config) as found:
        removed = found.clara_ae_titles.remove(key)
    say(f"AE title {removed.ae_title} removed")


def delete_source(
    context: typer.Context,
    data_dir: DataDir,
    *,
    ae_title: MaybeAeTitle = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="The same as -a.")] = None,
    host: Annotated[str | None, typer.Option("--ip", "-i", help="Its host, when it has several.")] = None,
    config: Config = None,
) -> None:
    """Remove a source."""
    key = one_of(ae_title, name)
    with stores(context, data_dir, config) as found:
        removed = found.sources.remove(key, host)
    say(f"source {removed.ae_title} at {removed.host_ip} removed")


def delete_destination(
    context: typer.Context, data_dir: DataDir, name: Name = None, ae_title: MaybeAeTitle = None, config: Config = None
) -> None:
    """Remove a destination."""
    key = one_of(name, ae_title)
    with stores(context, data_dir, config) as found:
        removed = found.destinations.remove(key)
    say(f"destination {removed.name} removed")


_NAMES = (("aetitle", "aet"), ("src", "source"), ("dest", "destination"))
_COMMANDS: tuple[tuple[typer.Typer, str, tuple[Callable[..., None], ...]], ...] = (
    (create, "create", (create_ae_title, create_source, create_destination)),
    (lists, "list", (list_ae_titles, list_sources, list_destinations)),
    (get, "get", (get_ae_title, get_source, get_destination)),
    (update, "update", (update_ae_title, update_source, update_destination)),
    (delete, "delete", (delete_ae_title, delete_source, delete_destination)),
)
for _group, _verb, _commands in _COMMANDS:
    for (_name, _alias), _command in zip(_NAMES, _commands, strict=True):
        _group.command(_name, cls=EntityCommand, epilog=examples(_verb, _name))(_command)
        _group.command(_alias, cls=EntityCommand, epilog=examples(_verb, _name), hidden=True)(_command)
