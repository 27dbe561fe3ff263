"""``clara dicom status --watch``: the condition of an installation, looked at again and again until Ctrl-C."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from clara_dicom_adapter.cli.commands.condition import Condition, PartCondition
from clara_dicom_adapter.cli.output import duration, local, print_json, size

SECONDS: Final = 1.0
"""From one look to the next."""
_OTHER_LINES: Final = 12
"""Lines of a screen, besides the parts, that are not for associations."""
_WIDE: Final = 110
"""Columns in which an association fits into a line."""
_FEWEST: Final = 3
"""Associations that are shown on the smallest screen."""


def looks(look: Callable[[], Condition], refreshes: int | None = None) -> Iterator[Condition]:
    """Look about once a second.

    Args:
        refreshes: How often; None: for as long as somebody wants to see.
    """
    count = 0
    while refreshes is None or count < refreshes:
        if count:
            time.sleep(SECONDS)
        yield look()
        count += 1


def show(conditions: Iterable[Condition], console: Console) -> None:
    """Show each on a terminal in the place of the one before; the last one stays when Ctrl-C ends it."""
    live = Live(console=console, auto_refresh=False, vertical_overflow="ellipsis")
    with suppress(KeyboardInterrupt), live:
        for condition in conditions:
            live.update(rendered(condition, console.size), refresh=True)


def print_lines(conditions: Iterable[Condition]) -> None:
    """Print each as one line of JSON, until Ctrl-C."""
    with suppress(KeyboardInterrupt):
        for condition in conditions:
            print_json({"at": datetime.now(UTC), **asdict(condition)}, indent=None)


def rendered(condition: Condition, screen: ConsoleDimensions) -> RenderableType:
    """A condition as large as a screen."""
    lines_left = screen.height - _OTHER_LINES - len(condition.parts)
    most = lines_left // (1 if screen.width >= _WIDE else 2)
    shown: list[RenderableType] = [
        Text(f"{condition.state}, data folder {condition.data_dir}, {local(datetime.now(UTC))}")
    ]
    if condition.reason:
        shown.append(Text(condition.reason))
    shown += [Text(line) for line in _stored(condition)]
    shown.append(_associations(condition, max(most, _FEWEST)))
    if condition.parts:
        shown.append(_parts(condition.parts))
    shown += [Text(f"warning: {part.name}: {text}") for part in condition.parts for text in part.warnings]
    return Group(*shown)


def _stored(condition: Condition) -> Iterator[str]:
    spool = condition.spool
    if spool is not None:
        oldest = f", the oldest {duration(spool.oldest_seconds)} ago" if spool.instances else ""
        yield f"spool: {spool.instances} instances, {size(spool.bytes)}{oldest}"
        yield f"hand-over: {spool.unhanded} instances queued, {spool.unclaimed} not claimed, {spool.parked} parked"
    waiting = sum(condition.waiting.values())
    if waiting:
        yield f"{waiting} wait for a person: `clara dicom attention`"
    for part in condition.parts:
        if "listeners" in part.status:
            temporal = "" if part.status.get("temporal_reachable", True) else ", does not reach Temporal"
            yield f"{part.name}: {part.status.get('listening')} of {part.status['listeners']} listeners{temporal}"


def _associations(condition: Condition, most: int) -> RenderableType:
    """The open associations, the busiest first when not all can be shown."""
    told: list[Mapping[str, Any]] = [one for part in condition.parts for one in part.status.get("associations", ())]
    if not told:
        return Text("\nno association is open", style="dim")
    kept = sorted(told, key=lambda one: -one["bytes_per_second"])[:most] if len(told) > most else told
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"open associations: {len(told)}",
        title_justify="left",
    )
    table.add_column("from, to", overflow="fold")
    for name in ("on", "inst", "MB", "inst/s", "MB/s", "flush", "queue", "age"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("now", no_wrap=True)
    for one in kept:
        table.add_row(*map(Text, _association(one)))
    left = len(told) - len(kept)
    return Group(table, Text(f"and {left} more", style="dim")) if left else table


def _association(one: Mapping[str, Any]) -> Sequence[str]:
    return (
        f"{one['calling_ae_title']} {one['peer']}, {one['called_ae_title']}",
        str(one["listener"]),
        str(one["instances"]),
        f"{one['bytes'] / 1e6:.1f}",
        f"{one['instances_per_second']:.1f}",
        f"{one['bytes_per_second'] / 1e6:.1f}",
        "" if one["flush_ms"] is None else f"{one['flush_ms']:.1f} ms",
        str(one["queued"]),
        duration(one["seconds"]),
        "arriving" if one["arriving"] else "idle",
    )


def _parts(parts: Sequence[PartCondition]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("part", "state", "health", "pid", "restarts", "listens on"):
        table.add_column(name, overflow="fold")
    for part in parts:
        where = ", ".join(f"{service} {address}" for service, address in part.addresses.items())
        cells = (part.name, part.state, part.health, str(part.pid or ""), str(part.restarts), where)
        table.add_row(*map(Text, cells))
    return table
