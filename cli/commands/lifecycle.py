"""``clara dicom start``, ``stop``, ``status``, and the parts alone."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clara_dicom_adapter.cli.defaults import CONFIG_VARIABLE, passed_over
from clara_dicom_adapter.cli.examples import examples
from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import duration, print_json, print_table, say, size, to_stderr
from clara_dicom_adapter.cli.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from clara_dicom_adapter.cli.commands.condition import Condition
    from clara_dicom_adapter.cli.running import AdapterStatus
    from clara_dicom_adapter.configuration.settings import Settings

NOT_RUNNING = 3
"""Exit status of ``status`` when nothing runs; the same as that of init scripts."""
PARTS = {
    "receiver": "the Storage SCP",
    "worker": "the Temporal worker",
    "api": "the REST API",
    "platform": "the embedded Clara Platform",
    "temporal": "the embedded Temporal server",
}


def add_to(group: typer.Typer) -> None:
    """Add these commands."""
    group.command(rich_help_panel="Run", epilog=examples("start"))(start)
    group.command(rich_help_panel="Run")(stop)
    group.command(rich_help_panel="Run", epilog=examples("status"))(status)
    for name, what in PARTS.items():
        group.command(name, help=f"Run one part alone: {what}.", rich_help_panel="Parts")(_part(name))


def start(
    data_dir: DataDir,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            envvar=CONFIG_VARIABLE,
            help="Settings file; without it appsettings.json in the data folder, else that of `clara pull dicom`.",
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Run everything in the foreground until Ctrl-C or SIGTERM; what dies is started again."""
    from clara_dicom_adapter import log
    from clara_dicom_adapter.cli.part_process import INVALID_CONFIGURATION
    from clara_dicom_adapter.cli.parts.plan import Plan
    from clara_dicom_adapter.cli.running import is_locked
    from clara_dicom_adapter.cli.supervisor import Console, Supervisor
    from clara_dicom_adapter.configuration import reader, run_time_levels
    from clara_dicom_adapter.errors import ConfigurationInvalid

    place = Place(data_dir, config)
    if config is None:
        place.config = None
    if not is_locked(place.data):
        run_time_levels.forget(place.data)
        place.as_started().starting = True
    try:
        settings = place.settings
    except ConfigurationInvalid as error:
        to_stderr("these settings cannot work:")
        for problem in error.problems:
            to_stderr(f"  {problem}")
        raise typer.Exit(INVALID_CONFIGURATION) from None
    log.configure(settings.log_setup, part="start")
    older = passed_over(place.config)
    if older is not None:
        to_stderr(f"warning: {older} is not read, because appsettings.json lies beside it")
    for warning in place.reading.warnings:
        to_stderr(f"warning: {warning}")
    if not is_locked(place.data):
        place.remember_config()
    place.data.pipelines.mkdir(parents=True, exist_ok=True)
    try:
        plan = Plan(settings, place.data, place.config)
    except OSError as error:
        to_stderr(f"no port of {error.filename} can be had: {error.strerror}")
        raise typer.Exit(1) from None

    def announce(ready: AdapterStatus) -> None:
        if not settings.log_json:
            for line in _welcome(place, settings, ready):
                say(line)

    try:
        status = Supervisor(
            place.data,
            plan.parts,
            ready=announce,
            heard=Console(names=not settings.log_json),
            reload=lambda: run_time_levels.reload(
                lambda: reader.load(place.config, place.data, os.environ).logging.levels
            ),
        ).run()
    finally:
        plan.close()
    final = place.status
    if status and final and final.reason:
        to_stderr(final.reason)
    raise typer.Exit(status)


def _welcome(place: Place, settings: Settings, ready: AdapterStatus) -> list[str]:
    addresses = ready.addresses
    lines = ["", "Clara DICOM Adapter is ready.", f"  data folder  {place.data.root}"]
    if place.config is not None:
        lines.append(f"  settings     {place.config}")
    for service, label in _LABELS.items():
        if service in addresses:
            lines.append(f"  {label:<12} {addresses[service]}")
    pipelines = settings.services.platform.pipelines or place.data.pipelines
    if settings.services.platform.endpoint is None:
        lines.append(f"  pipelines    {pipelines}")
    return [*lines, "  stop         Ctrl-C, or `clara dicom stop`", ""]


_LABELS = {
    "dicom": "DICOM",
    "dicom_tls": "DICOM TLS",
    "api": "REST API",
    "temporal_ui": "Temporal UI",
    "platform": "platform",
}


def stop(data_dir: DataDir) -> None:
    """Stop the adapter of a data folder: associations in progress may finish, then every part ends in order."""
    from clara_dicom_adapter.cli import running

    place = Place(data_dir)
    grace = place.settings.dicom.scp.shutdown_grace_seconds
    if running.stop(place.data, patience_seconds=grace + 90):
        say("stopped")
    else:
        say(f"no adapter runs on {place.data.root}")


def status(
    data_dir: DataDir,
    config: Config = None,
    as_json: Json = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it live, with the open associations, until Ctrl-C.")
    ] = False,
) -> None:
    """Show the parts, where they listen, and what waits; exit status 3 when nothing runs."""
    from clara_dicom_adapter.cli.commands.condition import Condition

    if watch:
        _watch(lambda: Condition.of(Place(data_dir, config)), as_json=as_json)
        return
    condition = Condition.of(Place(data_dir, config))
    if as_json:
        print_json(condition)
    else:
        _print_condition(condition)
    raise typer.Exit(0 if condition.running else NOT_RUNNING)


def _watch(look: Callable[[], Condition], *, as_json: bool) -> None:
    from rich.console import Console

    from clara_dicom_adapter.cli.commands import watch

    console = Console()
    if as_json:
        watch.print_lines(watch.looks(look))
    elif console.is_terminal:
        watch.show(watch.looks(look), console)
    else:
        raise typer.BadParameter("--watch needs a terminal; for a program there is --json --watch")


def _print_condition(condition: Condition) -> None:
    say(f"{condition.state}, data folder {condition.data_dir}")
    if condition.reason:
        say(condition.reason)
    if condition.parts:
        now = time.time()
        print_table(
            ("part", "state", "health", "pid", "since", "restarts", "listens on"),
            [
                (
                    f"{part.name} (alone)" if part.alone else part.name,
                    part.state,
                    part.health,
                    part.pid,
                    duration(now - part.started_at) if part.pid and part.started_at else "",
                    part.restarts,
                    ", ".join(f"{service} {address}" for service, address in part.addresses.items()),
                )
                for part in condition.parts
            ],
            empty="no parts",
        )
    for part in condition.parts:
        for warning in part.warnings:
            say(f"warning: {part.name}: {warning}")
    spool = condition.spool
    if spool is not None:
        oldest = f", the oldest {duration(spool.oldest_seconds)} ago" if spool.instances else ""
        say(f"spool: {spool.instances} instances, {size(spool.bytes)}{oldest}; {spool.unhanded} not handed over")
    waiting = sum(condition.waiting.values())
    if waiting:
        say(f"waits for a person: {', '.join(f'{count} {what}' for what, count in condition.waiting.items() if count)}")
        say("  see `clara dicom attention`")
    elif condition.waiting:
        say("nothing waits for a person")
    if condition.temporal_ui:
        say(f"Temporal UI: {condition.temporal_ui}")


def _part(name: str) -> Callable[..., None]:
    def run(data_dir: DataDir, config: Config = None) -> None:
        place = Place(data_dir, config)
        arguments = ["--data-dir", str(place.data.root)]
        if place.config:
            arguments += ["--config", str(place.config)]
        importlib.import_module(f"clara_dicom_adapter.cli.parts.{name}_part").main(arguments)

    return run
