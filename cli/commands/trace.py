"""``clara dicom trace UID``: where a study is, and where it has been."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from clara_dicom_adapter.cli.examples import examples
from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import local, print_json, say, to_stderr
from clara_dicom_adapter.cli.place import Place

if TYPE_CHECKING:
    from clara_dicom_adapter.records.trace import Trace, TraceEvent

_Thing = tuple[str, str]
"""An association, reception, submission, job or export, and its id."""
_COLOURS = {"association": "cyan", "submission": "magenta", "job": "green", "export": "yellow"}
_NO_STATE = frozenset({"received", "delivered", "not delivered"})
"""What happens to objects, and not to the thing that they came with or went out with."""


def add_to(group: typer.Typer) -> None:
    """Add this command."""
    group.command(rich_help_panel="Look", epilog=examples("trace"))(trace)


def trace(
    data_dir: DataDir,
    identifier: Annotated[
        str,
        typer.Argument(
            metavar="UID",
            help="Of a study, series or SOP instance, or the id of an association, reception, submission, job, "
            "payload or export.",
        ),
    ],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell the way of an object, from the association it came with to the export of its results."""
    from clara_dicom_adapter.records.trace import Tracer

    with Place(data_dir, config).database() as engine:
        found = Tracer(engine).trace(identifier)
    if as_json:
        print_json(found)
    elif found.kind is None:
        to_stderr(f"nothing is known of {identifier}")
    else:
        _tell(found)
    raise typer.Exit(0 if found.kind else 1)


def _tell(found: Trace) -> None:
    say(f"{found.kind} {found.identifier}")
    names = _names(found.events)
    _tell_where_it_is(found.events, names)
    day = ""
    previous = None
    for event in found.events:
        date, clock = local(event.at).split(" ")
        if date != day:
            say(date)
            day = date
        passed = event.at - previous if previous else timedelta()
        previous = event.at
        clock += f".{event.at.microsecond // 1000:03}"
        subject = _styled(names[_about(event)])
        text = event.ids["pipeline"] if event.text and event.text == event.ids.get("job_id") else event.text
        typer.echo(f"  {clock} {_gap(passed)}  {subject} {event.what:<18} {text}".rstrip())


def _tell_where_it_is(events: Sequence[TraceEvent], names: Mapping[_Thing, str]) -> None:
    """Everything that the timeline is about, by its id and with what has become of it."""
    now = {_about(event): event.what for event in events if event.what not in _NO_STATE}
    for thing, name in names.items():
        typer.echo(f"  {_styled(name)} {now.get(thing, ''):<18} {thing[1]}")


def _about(event: TraceEvent) -> _Thing:
    ids = event.ids
    if event.subject == "job":
        return "job", ids["job_id"] or f"{ids['submission_id']} {ids['job_key']}"
    if event.subject == "instances":
        return "association", ids["association_id"]
    return event.subject, ids["task_id" if event.subject == "export" else f"{event.subject}_id"]


def _names(events: Sequence[TraceEvent]) -> dict[_Thing, str]:
    """Short names, such as ``job 2``: ids are too long to stand in every line."""
    names: dict[_Thing, str] = {}
    counted: Counter[str] = Counter()
    for thing in map(_about, events):
        if thing not in names:
            counted[thing[0]] += 1
            names[thing] = f"{thing[0]} {counted[thing[0]]}"
    return names


def _styled(name: str) -> str:
    return typer.style(f"{name:<14}", fg=_COLOURS.get(name.split(" ", maxsplit=1)[0]))


def _gap(passed: timedelta) -> str:
    seconds = passed.total_seconds()
    return f"{f'+{seconds:.3f} s' if seconds < 1000 else f'+{seconds / 3600:.1f} h':>10}"
