"""How the demo ends: a report for people, or for machines."""

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from clara_dicom_adapter.cli.demo.site import Site
from clara_dicom_adapter.cli.demo.story import Story
from clara_dicom_adapter.cli.output import size

MOST_DIFFERENCES = 10
PLAIN_WIDTH = 110
"""Columns when nobody's terminal says how many there are."""


def for_machines(story: Story, site: Site, pictures: Sequence[Path], seconds: float, *, kept: bool) -> dict[str, Any]:
    """Everything as JSON."""
    accounts = story.accounts
    return {
        "ok": succeeded(story),
        "seconds": round(seconds, 1),
        "ready_seconds": round(story.ready_seconds, 1),
        "results_seconds": round(story.results_seconds, 1),
        "killed": story.killed,
        "sent": [
            {
                "ae_title": each.stack.ae_title,
                "what": each.stack.what,
                "instances": len(each.stack.files),
                "acknowledged": each.instances,
                "associations": each.associations,
                "bytes": each.bytes,
                "seconds": round(each.seconds, 2),
                "sent_again": len(each.doubtful),
            }
            for each in story.sent
        ],
        "jobs": [{**asdict(job), "inputs": len(job.inputs)} for job in accounts.jobs],
        "exports": [asdict(each) for each in accounts.exports],
        "pacs": {"product": site.pacs.product, "instances": len(accounts.at_pacs)},
        "checks": [{**asdict(check), "ok": check.ok} for check in accounts.checks],
        "pictures": [str(path) for path in pictures],
        "kept": {"data_dir": str(site.data.root), **site.status.addresses} if kept else None,
    }


def succeeded(story: Story) -> bool:
    """Whether every count matches and both parts were killed and came back."""
    return story.accounts.ok and sorted(story.killed) == ["receiver", "worker"]


def for_people(story: Story, site: Site, pictures: Sequence[Path], seconds: float, *, kept: bool) -> None:
    """Print everything."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    for title, table in (
        ("What went in", _went_in(story)),
        ("What ran", _ran(story)),
        (f"What came out, at the PACS ({site.pacs.product})", _came_out(story)),
        ("Counts that must match", _checks(story)),
    ):
        console.print(Text(f"\n{title}", style="bold"))
        console.print(table)
    for check in story.accounts.checks:
        for line in check.difference[:MOST_DIFFERENCES]:
            console.print(Text(f"  {check.what}: {line}", style="red"))
        if len(check.difference) > MOST_DIFFERENCES:
            console.print(Text(f"  and {len(check.difference) - MOST_DIFFERENCES} more", style="red"))
    console.print(f"killed with kill -9, and came back: {', '.join(story.killed) or 'nothing'}")
    if pictures:
        console.print(f"pictures of input and results: {pictures[0].parent}")
    _how_to_look(console, site, kept=kept)
    if succeeded(story):
        console.print(Text(f"\nEverything matches, after {seconds:.0f} s.", style="bold green"))
    else:
        console.print(Text(f"\nIt does not match, after {seconds:.0f} s.", style="bold red"))


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numbers = column in {"instances", "associations", "objects", "expected", "found", "arrived", "seconds", "size"}
        table.add_column(column, justify="right" if numbers else "left")
    return table


def _went_in(story: Story) -> Table:
    table = _table("to", "what", "instances", "size", "associations", "seconds", "")
    for each in story.sent:
        notes = [f"{len(each.doubtful)} sent again"] if each.doubtful else []
        if len(each.acknowledged) < each.instances:
            notes.append(f"{len(each.acknowledged)} different ones")
        table.add_row(
            each.stack.ae_title,
            each.stack.what,
            str(each.instances),
            size(each.bytes),
            str(each.associations),
            f"{each.seconds:.1f}",
            ", ".join(notes),
        )
    table.add_row(
        "",
        "all",
        str(sum(each.instances for each in story.sent)),
        size(sum(each.bytes for each in story.sent)),
        str(sum(each.associations for each in story.sent)),
        "",
        "",
        style="bold",
    )
    return table


def _ran(story: Story) -> Table:
    table = _table("for", "pipeline", "job", "instances", "outcome", "seconds")
    for job in sorted(story.accounts.jobs, key=lambda job: (job.ae_title, job.pipeline, job.name)):
        outcome = job.status.lower() if job.state == "STOPPED" else job.state.lower()
        seconds = "" if job.seconds is None else f"{job.seconds:.0f}"
        table.add_row(job.ae_title, job.pipeline, job.name, str(len(job.inputs)), outcome, seconds)
    return table


def _came_out(story: Story) -> Table:
    accounts = story.accounts
    jobs = {job.job_id: job for job in accounts.jobs}
    table = _table("from", "tasks", "objects", "arrived")
    made: Counter[str] = Counter()
    arrived: Counter[str] = Counter()
    states: dict[str, Counter[str]] = {}
    for export in accounts.exports:
        job = jobs.get(export.job_id)
        name = f"{job.pipeline} for {job.ae_title}" if job else export.job_id
        made[name] += len(export.results)
        arrived[name] += sum(uid in accounts.at_pacs for uid in export.results)
        states.setdefault(name, Counter())[export.state] += 1
    for name in sorted(made):
        told = ", ".join(f"{count} {state}" for state, count in sorted(states[name].items()))
        table.add_row(name, told, str(made[name]), str(arrived[name]))
    return table


def _checks(story: Story) -> Table:
    table = _table("", "what", "expected", "found")
    for check in story.accounts.checks:
        mark = Text("ok", style="green") if check.ok else Text("NO", style="bold red")
        table.add_row(mark, check.what, str(check.expected), str(check.found))
    return table


def _how_to_look(console: Console, site: Site, *, kept: bool) -> None:
    if not kept:
        console.print("to look around in the Temporal UI: make demo KEEP=1, which leaves everything running")
        return
    addresses = site.status.addresses
    console.print("\neverything is still running:", style="bold")
    for label, text in (
        ("Temporal UI", addresses.get("temporal_ui", "")),
        ("REST API", f"{addresses.get('api', '')}/docs"),
        ("PACS", site.pacs.url or str(site.pacs.received)),
        ("DICOM", addresses.get("dicom", "")),
        ("look", f"clara dicom status --data-dir {site.data.root}"),
        ("", f"clara dicom list submissions --data-dir {site.data.root}"),
        ("stop it all", f"clara dicom stop --data-dir {site.data.root} && rm -r {site.root}"),
    ):
        if text:
            console.print(Text(f"  {label:<12} {text}"), soft_wrap=True)
