"""``clara dicom create``, ``list`` and ``delete`` of Clara AE titles, sources and destinations.

They work on the configuration, in the database or in Kubernetes, whether the adapter runs or not; a running one
follows at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import print_json, print_table, say
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.errors import ConfigurationInvalid

if TYPE_CHECKING:
    from pathlib import Path

    from clara_dicom_adapter.configuration.chosen import Configuration

AeTitle = Annotated[str, typer.Option("--aetitle", "-a", help="AE title.")]
Host = Annotated[str, typer.Option("--ip", "-i", help="Host name or IP address.")]

create = typer.Typer(no_args_is_help=True)
delete = typer.Typer(no_args_is_help=True)
lists = typer.Typer(no_args_is_help=True)


def add_to(group: typer.Typer) -> None:
    """Add these commands."""
    group.add_typer(create, name="create", help="Add an AE title, a source or a destination.")
    group.add_typer(delete, name="delete", help="Remove an AE title, a source or a destination.")
    group.add_typer(lists, name="list", help="Show what is configured, and what has happened.")


@contextmanager
def _store(data_dir: Path, config: Path | None, *, create_folder: bool = False) -> Iterator[Configuration]:
    from clara_dicom_adapter.configuration.store import ConfigurationStore
    from clara_dicom_adapter.resources.opening import open_configuration

    place = Place(data_dir, config)
    with place.database(create=create_folder) as engine:
        sql = ConfigurationStore(engine, place.settings.dicom.scp, place.settings.storage)
        yield open_configuration(place.settings, lambda: sql, place.data, watch=False).configuration


# ---- create ----


def create_ae_title(
    data_dir: DataDir,
    *,
    ae_title: AeTitle,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE...",
            help="Settings of the job processor: pipeline-NAME=ID (at least one), timeout=SECONDS, groupBy=GGGG,EEEE "
            "or none, priority=lower|normal|higher|immediate, jobRetryDelay=MILLISECONDS.",
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
            "processorSettings": _settings(settings or []),
            "interrupted": interrupted,
        }
    )
    with _store(data_dir, config, create_folder=True) as store:
        store.add_clara_ae_title(entity)
    say(f"AE title {entity.ae_title} added")


def _settings(words: Sequence[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    wrong = [word for word, (key, equals, _) in zip(words, pairs, strict=True) if not (key.strip() and equals)]
    if wrong:
        raise ConfigurationInvalid([f"'{word}' is not of the form KEY=VALUE." for word in wrong])
    keys = [key.strip().lower() for key, _, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise ConfigurationInvalid([f"'{key}' is given more than once." for key in twice])
    return {key.strip(): value.strip() for key, _, value in pairs}


def create_source(data_dir: DataDir, ae_title: AeTitle, host: Host, config: Config = None) -> None:
    """Add a source: an application entity that may send to us, from this host."""
    from clara_dicom_adapter.configuration import checks

    entity = checks.source({"aeTitle": ae_title, "hostIp": host})
    with _store(data_dir, config, create_folder=True) as store:
        store.add_source(entity)
    say(f"source {entity.ae_title} at {entity.host_ip} added")


def create_destination(
    data_dir: DataDir,
    *,
    ae_title: AeTitle,
    host: Host,
    name: Annotated[str, typer.Option("--name", "-n", help="Name that pipelines send results to.")],
    port: Annotated[int, typer.Option("--port", "-p", help="TCP port.")],
    config: Config = None,
) -> None:
    """Add a destination: where results are sent to, by its name."""
    from clara_dicom_adapter.configuration import checks

    entity = checks.destination({"name": name, "aeTitle": ae_title, "hostIp": host, "port": port})
    with _store(data_dir, config, create_folder=True) as store:
        store.add_destination(entity)
    say(f"destination {entity.name} added: {entity.ae_title} at {entity.host_ip}:{entity.port}")


# ---- list ----


def list_ae_titles(data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show our AE titles."""
    with _store(data_dir, config) as store:
        found = store.clara_ae_titles()
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


def list_sources(data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show who may send to us."""
    with _store(data_dir, config) as store:
        found = store.sources()
    if as_json:
        print_json(found)
        return
    print_table(
        ("AE title", "host"),
        [(source.ae_title, source.host_ip) for source in found],
        empty="no sources: `clara dicom create src -a AET -i HOST` adds one",
    )


def list_destinations(data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show where results can be sent to."""
    with _store(data_dir, config) as store:
        found = store.destinations()
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "AE title", "host", "port"),
        [(each.name, each.ae_title, each.host_ip, each.port) for each in found],
        empty="no destinations: `clara dicom create dest -n NAME -a AET -i HOST -p PORT` adds one",
    )


# ---- delete ----

Name = Annotated[str | None, typer.Option("--name", "-n", help="Its name.")]
MaybeAeTitle = Annotated[str | None, typer.Option("--aetitle", "-a", help="Its AE title.")]


def _one_of(*given: str | None, wanted: str) -> str:
    found = [value for value in given if value]
    if len(found) != 1:
        raise typer.BadParameter(wanted)
    return found[0]


def delete_ae_title(data_dir: DataDir, name: Name = None, ae_title: MaybeAeTitle = None, config: Config = None) -> None:
    """Remove an AE title of ours; what it has received goes its way."""
    key = _one_of(name, ae_title, wanted="say which with -n NAME or -a AET")
    with _store(data_dir, config) as store:
        removed = store.remove_clara_ae_title(key)
    say(f"AE title {removed.ae_title} removed")


def delete_source(
    data_dir: DataDir,
    ae_title: MaybeAeTitle = None,
    name: Annotated[str | None, typer.Option("--name", "-n", help="The same as -a.")] = None,
    host: Annotated[str | None, typer.Option("--ip", "-i", help="Its host, when it has several.")] = None,
    config: Config = None,
) -> None:
    """Remove a source."""
    key = _one_of(ae_title, name, wanted="say which with -a AET")
    with _store(data_dir, config) as store:
        removed = store.remove_source(key, host)
    say(f"source {removed.ae_title} at {removed.host_ip} removed")


def delete_destination(
    data_dir: DataDir, name: Annotated[str, typer.Option("--name", "-n", help="Its name.")], config: Config = None
) -> None:
    """Remove a destination."""
    with _store(data_dir, config) as store:
        removed = store.remove_destination(name)
    say(f"destination {removed.name} removed")


_NAMES = (("aetitle", "aet"), ("src", "source"), ("dest", "destination"))
_COMMANDS: tuple[tuple[typer.Typer, tuple[Callable[..., None], ...]], ...] = (
    (create, (create_ae_title, create_source, create_destination)),
    (lists, (list_ae_titles, list_sources, list_destinations)),
    (delete, (delete_ae_title, delete_source, delete_destination)),
)
for _group, _commands in _COMMANDS:
    for (_name, _alias), _command in zip(_NAMES, _commands, strict=True):
        _group.command(_name)(_command)
        _group.command(_alias, hidden=True)(_command)
