"""Printing for people and for machines. Only results go to standard output; everything else to standard error."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

_NARROWEST = 12
"""Characters that a column of sentences needs at least to be readable, and..."""
_BETWEEN = 3
"""...those between two columns."""


def to_stderr(text: str) -> None:
    """Tell a person something that is no result."""
    sys.stderr.write(f"clara: {text}\n")


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{text}\n")


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print a result for machines, at once: times in ISO 8601, UTC.

    Args:
        indent: None: in one line.
    """
    sys.stdout.write(json.dumps(value, default=_plain, indent=indent) + "\n")
    sys.stdout.flush()


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Iterable):
        return list(value)
    raise TypeError(f"cannot print {type(value).__name__} as JSON")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print rows under bold headings; on no rows, a sentence instead.

    Piped into another program every row is one line, tab-separated, for the tools of a shell.
    """
    shown = [[_shown(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(columns), *shown]:
            say("\t".join(row))
        return
    if not shown:
        say(empty)
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    whole = _whole(columns, shown, console.width)
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number in whole)
    for row in shown:
        table.add_row(*map(Text, row))
    console.print(table)


def _whole(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> set[int]:
    """Columns of single words, such as ids, that are kept in one piece to be copied; none when they do not fit."""
    cells = [[column, *(row[number] for row in rows)] for number, column in enumerate(columns)]
    words = {number for number, column in enumerate(cells) if not any(" " in cell for cell in column[1:])}
    needed = sum(
        max(map(len, column)) if number in words else min(_NARROWEST, max(map(len, column)))
        for number, column in enumerate(cells)
    )
    return words if needed + _BETWEEN * len(columns) <= width else set()


def _shown(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, datetime):
        return local(cell)
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return " ".join(str(cell).split()) if not isinstance(cell, str) else cell.replace("\t", " ").replace("\n", "; ")


def local(when: datetime) -> str:
    """A time as the person's clock shows it."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: float) -> str:
    """Bytes in words, powers of ten as disks are sold."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """A time span in words."""
    for limit, unit, length in ((120, "s", 1), (7200, "min", 60), (172800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def pick(row: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Some values of a row, in the order asked for."""
    return [row[name] for name in names]
