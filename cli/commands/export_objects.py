"""``clara dicom list objects``: what became of each object of an export at each destination, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from clara_dicom_adapter.cli.commands.entities import lists
from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import print_json, print_table, to_stderr
from clara_dicom_adapter.cli.place import Place

DELIVERED = ("stored", "warning")
FAILED = ("refused", "context-refused", "unreadable", "unknown", "not-sent")


def add_to(group: typer.Typer) -> None:
    """Add this command to ``clara dicom list``."""
    del group
    lists.command("objects")(objects)


def objects(
    data_dir: DataDir,
    task_id: Annotated[str, typer.Argument(metavar="TASK", help="Of an export, as `list exports` shows it.")],
    *,
    destination: Annotated[list[str] | None, typer.Option(help="Only at this destination; may be repeated.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only what a destination did not store.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many.")] = 50,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the objects of an export: what each destination has answered."""
    from clara_dicom_adapter.records.listing import Filter, Listing, Subject

    with Place(data_dir, config).database() as engine:
        listing = Listing(engine)
        export = listing.get(Subject.EXPORT, task_id)
        wanted = Filter({"destination": destination or [], "verdict": FAILED if failed else []}, limit=limit)
        page = listing.export_objects(task_id, wanted)
    if as_json:
        print_json({"export": export, "total": page.total, "items": page.items})
        return
    to_stderr(_summary(export))
    print_table(
        ("object", "SOP instance", "destination", "result", "status", "why", "its comment", "at"),
        [
            (
                row["number"] if row["number"] >= 0 else "earlier",
                row["sop_instance_uid"],
                row["destination"],
                row["verdict"],
                "" if row["status"] is None else f"{row['status']:04X}",
                row["reason"],
                row["comment"],
                row["at"],
            )
            for row in page.items
        ],
        empty="nothing has failed" if failed else "nothing was sent yet",
    )
    if page.total > len(page.items):
        to_stderr(f"{len(page.items)} of {page.total} are shown; --limit shows more")


def _summary(export: Mapping[str, Any]) -> str:
    if export["reported_at"] is None:
        told = "not reported yet"
    else:
        told = "reported as success" if export["success"] else "reported as failure"
        told += ", to be offered again" if export["retry_later"] else ""
        told += "" if export["accepted"] else ", which the Results Service refused"
    message = f": {export['message']}" if export["message"] else ""
    return f"{export['objects']} objects, {export['state']}, {told}{message}"
