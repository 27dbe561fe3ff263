"""``clara dicom list associations|receptions|submissions|jobs|exports``: what has happened, from the records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from clara_dicom_adapter.cli.commands.showing import lists
from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import print_json, print_table, size, to_stderr
from clara_dicom_adapter.cli.place import Place

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """How one subject is shown.

    Attributes:
        ae_title: Column that ``--aetitle`` compares with; none: it has no AE title.
        cells: Heading and the row's text below it.
    """

    subject: str
    ae_title: str | None
    cells: Sequence[tuple[str, Callable[[Row], object]]]


def _column(name: str) -> Callable[[Row], object]:
    return lambda row: row[name]


def _jobs(row: Row) -> str:
    return ", ".join(
        f"{job['job_key']} {job['state']}" + (f" ({job['message']})" if job["message"] else "") for job in row["jobs"]
    )


def _destinations(row: Row) -> str:
    return ", ".join(
        f"{each['name']} {each['delivered']}" + (f" ({each['failed']} failed)" if each["failed"] else "")
        for each in row["destinations"]
    )


def _ending(row: Row) -> str:
    if row["reject_result"] is None:
        return str(row["state"])
    return f"{row['state']}: {row['reason']} ({row['reject_result']}/{row['reject_source']}/{row['reject_reason']})"


SUBJECTS = {
    "associations": Shown(
        "ASSOCIATION",
        "called_ae_title",
        (
            ("started", _column("started_at")),
            ("association", _column("association_id")),
            ("calling", _column("calling_ae_title")),
            ("called", _column("called_ae_title")),
            ("peer", _column("peer")),
            ("state", _ending),
            ("instances", _column("instances")),
            ("size", lambda row: size(row["bytes"])),
            ("failed", _column("failed")),
        ),
    ),
    "receptions": Shown(
        "RECEPTION",
        "called_ae_title",
        (
            ("opened", _column("opened_at")),
            ("reception", _column("reception_id")),
            ("calling", _column("calling_ae_title")),
            ("called", _column("called_ae_title")),
            ("state", _column("state")),
            ("instances", _column("instances")),
            ("size", lambda row: size(row["bytes"])),
            ("incomplete", _column("incomplete")),
            ("reason", _column("reason")),
        ),
    ),
    "submissions": Shown(
        "SUBMISSION",
        "called_ae_title",
        (
            ("created", _column("created_at")),
            ("submission", _column("submission_id")),
            ("called", _column("called_ae_title")),
            ("state", _column("state")),
            ("instances", _column("instances")),
            ("incomplete", _column("incomplete")),
            ("jobs", _jobs),
        ),
    ),
    "jobs": Shown(
        "JOB",
        None,
        (
            ("changed", _column("changed_at")),
            ("job", lambda row: row["job_id"] or f"{row['submission_id']} {row['job_key']}"),
            ("called", _column("called_ae_title")),
            ("pipeline", _column("pipeline")),
            ("state", _column("state")),
            ("ended", _column("ended_at")),
            ("message", _column("message")),
        ),
    ),
    "exports": Shown(
        "EXPORT",
        None,
        (
            ("offered", _column("offered_at")),
            ("task", _column("task_id")),
            ("job", _column("job_id")),
            ("state", _column("state")),
            ("objects", _column("objects")),
            ("delivered to", _destinations),
            ("message", _column("message")),
        ),
    ),
}


def add_to(group: typer.Typer) -> None:
    """Add these commands to ``clara dicom list``."""
    del group
    for name in SUBJECTS:
        lists.command(name, help=f"Show {name}, the newest first.")(_command(name))


def _command(name: str) -> Callable[..., None]:
    def command(
        data_dir: DataDir,
        *,
        state: Annotated[list[str] | None, typer.Option(help="Only in this state; may be repeated.")] = None,
        ae_title: Annotated[str | None, typer.Option("--aetitle", "-a", help="Only of this AE title of ours.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 50,
        config: Config = None,
        as_json: Json = False,
    ) -> None:
        _show(name, Place(data_dir, config), state or [], ae_title, limit, as_json=as_json)

    return command


def _show(name: str, place: Place, states: Sequence[str], ae_title: str | None, limit: int, *, as_json: bool) -> None:
    from clara_dicom_adapter.records.listing import Filter, Listing, Subject

    shown = SUBJECTS[name]
    equal: dict[str, Sequence[str]] = {"state": states}
    if ae_title:
        if shown.ae_title is None:
            raise typer.BadParameter(f"{name} have no AE title of ours")
        equal[shown.ae_title] = [ae_title]
    with place.database() as engine:
        page = Listing(engine).page(Subject[shown.subject], Filter(equal, limit=limit))
    if as_json:
        print_json({"total": page.total, "items": page.items})
        return
    print_table(
        [heading for heading, _ in shown.cells],
        [[cell(row) for _, cell in shown.cells] for row in page.items],
        empty=f"no {name}",
    )
    if page.total > len(page.items):
        to_stderr(f"{len(page.items)} of {page.total} are shown; --limit shows more")
