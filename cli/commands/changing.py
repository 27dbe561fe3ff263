"""``clara dicom update``: change what is said, and leave the rest; open groups stay as they were received."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from clara_dicom_adapter.cli.commands.showing import one_of
from clara_dicom_adapter.cli.options import Config, DataDir
from clara_dicom_adapter.cli.output import say
from clara_dicom_adapter.cli.processor_settings import PROCESSOR_SETTINGS, merged, parsed
from clara_dicom_adapter.cli.stores import stores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clara_dicom_adapter.configuration.entities import Entity

Name = Annotated[str | None, typer.Option("--name", "-n", help="Name of the one to change.")]
AeTitle = Annotated[str | None, typer.Option("--aetitle", "-a", help="AE title of the one to change.")]

update = typer.Typer(no_args_is_help=True)


def update_ae_title(
    context: typer.Context,
    data_dir: DataDir,
    *,
    name: Name = None,
    ae_title: AeTitle = None,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...",
            help=f"Settings of the job processor to change; KEY= takes one away. {PROCESSOR_SETTINGS}",
        ),
    ] = None,
    new_ae_title: Annotated[str | None, typer.Option("--new-aetitle", help="Its AE title from now on.")] = None,
    processor: Annotated[str | None, typer.Option(help="Job processor.")] = None,
    ignored_sop_classes: Annotated[
        list[str] | None,
        typer.Option("--ignore-sop-class", help="UIDs not to keep, instead of all before; '' for none."),
    ] = None,
    allowed_sources: Annotated[
        list[str] | None,
        typer.Option("--allowed-source", help="Calling AE titles, instead of all before; '' for every source."),
    ] = None,
    interrupted: Annotated[str | None, typer.Option(help="submit, quarantine or discard; '' for the default.")] = None,
    overwrite: Annotated[
        bool | None, typer.Option("--overwrite/--no-overwrite", help="Of the same SOP instance keep the last.")
    ] = None,
    config: Config = None,
) -> None:
    """Change an AE title of ours; what it has received keeps the settings it was received with."""
    from clara_dicom_adapter.configuration import checks

    key, words = one_of(name, ae_title), parsed(settings or [])
    changes: dict[str, Any] = {
        "aeTitle": new_ae_title,
        "processor": processor,
        "ignoredSopClasses": None if ignored_sop_classes is None else [uid for uid in ignored_sop_classes if uid],
        "allowedSources": None if allowed_sources is None else [each for each in allowed_sources if each],
        "overwriteSameInstance": overwrite,
    }
    with stores(context, data_dir, config) as kept:
        present = kept.clara_ae_titles.get(key)
        values = _changed(present, changes)
        values["processorSettings"] = merged(present.processor_settings, words)
        if interrupted is not None:
            values["interrupted"] = interrupted or None
        changed = kept.clara_ae_titles.replace(key, checks.clara_ae_title(values))
    say(f"AE title {changed.ae_title} changed")


def update_source(
    context: typer.Context,
    data_dir: DataDir,
    *,
    ae_title: Annotated[str, typer.Option("--aetitle", "-a", help="AE title of the one to change.")],
    host: Annotated[str | None, typer.Option("--ip", "-i", help="Its host now, when it has several.")] = None,
    new_host: Annotated[str | None, typer.Option("--new-ip", help="Its host from now on.")] = None,
    new_ae_title: Annotated[str | None, typer.Option("--new-aetitle", help="Its AE title from now on.")] = None,
    config: Config = None,
) -> None:
    """Change a source."""
    from clara_dicom_adapter.configuration import checks

    with stores(context, data_dir, config) as kept:
        present = kept.sources.get(ae_title, host)
        values = _changed(present, {"aeTitle": new_ae_title, "hostIp": new_host})
        changed = kept.sources.replace(ae_title, checks.source(values), host)
    say(f"source {changed.ae_title} changed: at {changed.host_ip}")


def update_destination(
    context: typer.Context,
    data_dir: DataDir,
    *,
    name: Annotated[str, typer.Option("--name", "-n", help="Name of the one to change.")],
    ae_title: Annotated[str | None, typer.Option("--aetitle", "-a", help="Its AE title from now on.")] = None,
    host: Annotated[str | None, typer.Option("--ip", "-i", help="Its host from now on.")] = None,
    port: Annotated[int | None, typer.Option("--port", "-p", help="Its TCP port from now on.")] = None,
    associations: Annotated[int | None, typer.Option("--associations", help="How many it may be sent at once.")] = None,
    tls: Annotated[bool | None, typer.Option("--tls/--no-tls", help="Whether to speak TLS with it.")] = None,
    ca_file: Annotated[str | None, typer.Option("--tls-ca", help="Authorities to trust, PEM.")] = None,
    certificate_file: Annotated[str | None, typer.Option("--tls-certificate", help="Our certificate, PEM.")] = None,
    key_file: Annotated[str | None, typer.Option("--tls-key", help="Its key, PEM.")] = None,
    server_name: Annotated[str | None, typer.Option("--tls-name", help="Name in its certificate.")] = None,
    config: Config = None,
) -> None:
    """Change a destination."""
    from clara_dicom_adapter.configuration import checks

    with stores(context, data_dir, config) as kept:
        said = {"aeTitle": ae_title, "hostIp": host, "port": port, "maximumAssociations": associations}
        values = _changed(kept.destinations.get(name), said)
        secured = {
            "caFile": ca_file,
            "certificateFile": certificate_file,
            "keyFile": key_file,
            "serverName": server_name,
        }
        if tls is False:
            values["tls"] = None
        elif tls or any(secured.values()):
            values["tls"] = (values["tls"] or {}) | {key: value for key, value in secured.items() if value is not None}
        changed = kept.destinations.replace(name, checks.destination(values))
    say(f"destination {changed.name} changed: {changed.ae_title} at {changed.host_ip}:{changed.port}")


def _changed(present: Entity, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The entity's fields, with those that were said."""
    values = present.model_dump(mode="json", by_alias=True)
    return values | {field: value for field, value in changes.items() if value is not None}
