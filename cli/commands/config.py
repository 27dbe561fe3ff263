"""``clara dicom config``: check a settings file, show what is in force, write the form of today.

Nothing is started, and no database is opened.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clara_dicom_adapter.cli.examples import examples
from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import print_json, print_table, say, to_stderr
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.cli.stores import levels_to_work_on, only_here

if TYPE_CHECKING:
    from clara_dicom_adapter.configuration.given import GivenEntities
    from clara_dicom_adapter.configuration.reader import Reading

config_group = typer.Typer(no_args_is_help=True)


def add_to(group: typer.Typer) -> None:
    """Add these commands."""
    group.add_typer(config_group, name="config", help="Check, show and convert settings files, and change log levels.")


@config_group.callback()
def what_is_done(context: typer.Context) -> None:
    """Check, show and convert settings files, and change log levels."""
    if context.invoked_subcommand != "levels":
        only_here(context)


def _file(help_: str) -> Any:
    return typer.Argument(metavar="FILE", exists=True, dir_okay=False, help=help_)


@config_group.command(epilog=examples("config", "check"))
def check(
    data_dir: DataDir,
    file: Annotated[Path, _file("A settings file of 0.6, 0.7 or 0.8.")],
    as_json: Json = False,
) -> None:
    """Tell everything that is wrong with a file, together with the environment, without starting anything.

    Exit status 1 when the adapter could not start with it.
    """
    from clara_dicom_adapter.configuration import reader
    from clara_dicom_adapter.errors import ConfigurationInvalid

    place = Place(data_dir, file)
    try:
        reading = reader.read(file, place.data, os.environ, starting=True)
    except ConfigurationInvalid as error:
        if as_json:
            print_json({"file": file, "problems": error.problems})
        for problem in () if as_json else error.problems:
            say(problem)
        raise typer.Exit(1) from None
    if as_json:
        print_json({"file": file, "version": reading.dialect, "problems": [], "warnings": reading.warnings})
        return
    for warning in reading.warnings:
        say(f"warning: {warning}")
    say(f"{file}: nothing is wrong; it is written for {reading.dialect}{_listed(reading.given)}")


def _listed(given: GivenEntities) -> str:
    counts = {"AE title": len(given.ae_titles), "source": len(given.sources), "destination": len(given.destinations)}
    told = ", ".join(f"{count} {what}{'s' if count > 1 else ''}" for what, count in counts.items() if count)
    return f", and lists {told}, which are imported once" if told else ""


@config_group.command(epilog=examples("config", "show"))
def show(
    data_dir: DataDir,
    config: Config = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only what is not the default.")] = False,
    as_json: Json = False,
) -> None:
    """Show every setting as it is in force, and where it came from: file and line, variable, or default."""
    reading = Place(data_dir, config).reading
    rows = [row for row in _rows(reading) if not (changed and row["origin"] == "default")]
    if as_json:
        print_json(rows)
        return
    for warning in reading.warnings:
        to_stderr(f"warning: {warning}")
    to_stderr(f"settings file: {reading.file or 'none'}{f', of {reading.dialect}' if reading.dialect else ''}")
    print_table(
        ("setting", "value", "from"),
        [(row["setting"], _text(row["value"]), row["origin"].removeprefix(f"file {reading.file}, ")) for row in rows],
        empty="every setting is the default",
    )


def _rows(reading: Reading) -> Iterator[dict[str, Any]]:
    from clara_dicom_adapter.configuration import known_keys
    from clara_dicom_adapter.configuration.gathered import canonical_name

    for path, value in _leaves(reading.settings.model_dump(mode="json", by_alias=True)):
        shown = "(not shown)" if value and known_keys.is_secret(path) else value
        yield {"setting": canonical_name(path), "value": shown, "origin": reading.origin(path)}


def _leaves(values: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*above, key))
        else:
            yield (*above, key), value


def _text(value: object) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


@config_group.command(epilog=examples("config", "levels"))
def levels(
    context: typer.Context,
    data_dir: DataDir,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="CATEGORY=LEVEL...", help="Levels to change; CATEGORY= takes a change back."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Change log levels in every part that runs on the data folder, until the adapter is started again.

    Levels are Trace, Debug, Information, Warning, Error, Critical and None. Without arguments: show what is changed.
    """
    pairs = [change.partition("=") for change in changes or []]
    if not all(category and equals for category, equals, _ in pairs):
        raise typer.BadParameter("a change is CATEGORY=LEVEL")
    wanted = {category.strip(): level.strip() or None for category, _, level in pairs}
    kept = levels_to_work_on(context, data_dir, config)
    if wanted:
        told = kept.change(wanted)
        to_stderr(f"told: {', '.join(told)}" if told else "no part runs there; the next start forgets this")
    changed = kept.changed()
    if as_json:
        print_json(changed)
    else:
        print_table(("category", "level"), changed.items(), empty="no level is changed")


@config_group.command(epilog=examples("config", "convert"))
def convert(
    data_dir: DataDir,
    old: Annotated[Path, _file("A settings file of 0.6 or 0.7.")],
    to: Annotated[
        Path | None,
        typer.Option("--to", help="Where to write it; must not exist. Else standard output.", dir_okay=False),
    ] = None,
) -> None:
    """Write the 0.8 form of an older settings file.

    What 0.8 keeps elsewhere, AE titles, sources and destinations, is told as the commands that add it.
    """
    import json

    from clara_dicom_adapter.configuration import reader

    reading = reader.read(old, Place(data_dir, old).data, {})
    text = json.dumps(_of_today(reading), indent=2, ensure_ascii=False) + "\n"
    if to is None:
        say(text.rstrip("\n"))
    else:
        try:
            with to.open("x", encoding="utf-8") as file:
                file.write(text)
        except FileExistsError:
            raise typer.BadParameter(f"{to} exists already") from None
    for warning in reading.warnings:
        to_stderr(f"warning: {warning}")
    commands = list(_commands(reading.given))
    if commands:
        to_stderr("these stand in the store, not in a file; starting with the old file adds them, or:")
    for command in commands:
        typer.echo(command, err=True)


def _of_today(reading: Reading) -> dict[str, Any]:
    """What the file says, by its keys of today."""
    sections: dict[str, Any] = {}
    for path, value in _leaves(reading.as_written.model_dump(mode="json", by_alias=True)):
        if reading.origin(path) == "default":
            continue
        match path:
            case ("database",):
                where: tuple[str, ...] = ("ConnectionStrings", "DicomAdapterDatabase")
            case ("logging", *below):
                where = ("Logging", *below)
            case _:
                where = ("DicomAdapter", *path)
        here = sections
        for key in where[:-1]:
            here = here.setdefault(key, {})
        here[where[-1]] = value
    return {"DicomAdapter": {}} | sections


def _commands(given: GivenEntities) -> Iterator[str]:
    for ae in given.ae_titles:
        words = ["create", "aetitle", "-a", ae.ae_title]
        words += [f"{key}={value}" for key, value in ae.processor_settings.items()]
        words += ["--overwrite"] if ae.overwrite_same_instance else []
        words += [word for uid in ae.ignored_sop_classes for word in ("--ignore-sop-class", uid)]
        words += ["--processor", ae.processor] if "processor" in ae.model_fields_set else []
        if not any(key.startswith("pipeline-") for key in ae.processor_settings):
            words.append("pipeline-NAME=ID")
        yield shlex.join(["clara", "dicom", *words])
    for source in given.sources:
        yield shlex.join(["clara", "dicom", "create", "src", "-a", source.ae_title, "-i", source.host_ip])
    for each in given.destinations:
        words = ["create", "dest", "-n", each.name, "-a", each.ae_title, "-i", each.host_ip, "-p", str(each.port)]
        yield shlex.join(["clara", "dicom", *words])
