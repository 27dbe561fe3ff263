"""``clara dicom send``: send DICOM files to a Storage SCP, exactly as they are stored."""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clara_dicom_adapter.cli.examples import examples
from clara_dicom_adapter.cli.options import Json
from clara_dicom_adapter.cli.output import print_json, print_table, say, size, to_stderr

if TYPE_CHECKING:
    from clara_dicom_adapter.dicom.sender import ObjectResult, Peer


def add_to(group: typer.Typer) -> None:
    """Add this command."""
    group.command(rich_help_panel="Look", epilog=examples("send"))(send)


def send(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", exists=True, help="Files, and folders with all in them.")
    ],
    to: Annotated[str, typer.Option("--to", metavar="AET@HOST:PORT", help="Whom to send to.")],
    calling: Annotated[str, typer.Option("--from", metavar="AET", help="Our AE title.")] = "ClaraSCU",
    retries: Annotated[int, typer.Option(min=0, help="How often a lost association is tried again.")] = 0,
    as_json: Json = False,
) -> None:
    """Send DICOM part 10 files; exit status 1 when something was not stored."""
    from clara_dicom_adapter.dicom.sender import SendSettings
    from clara_dicom_adapter.dicom.sender import send as send_files

    peer = _peer(to)
    if not 1 <= len(calling.strip()) <= 16:
        raise typer.BadParameter("an AE title has 1 to 16 characters", param_hint="--from")
    files = list(_files(paths))
    if not files:
        to_stderr("no DICOM files there")
        raise typer.Exit(1)
    results: list[ObjectResult] = []
    started = time.monotonic()
    with _progress(files, show=not as_json) as note:
        settings = SendSettings(calling.strip(), retries=retries, retry_delay=2)

        def done(result: ObjectResult) -> None:
            results.append(result)
            note(result)

        totals = send_files(files, peer, settings, done)
    seconds = time.monotonic() - started
    if as_json:
        print_json(
            {
                "to": to,
                "sent": totals.sent,
                "failed": totals.failed,
                "bytes": totals.bytes,
                "seconds": round(seconds, 3),
                "associations": totals.associations,
                "objects": [_told(result) for result in results],
            }
        )
    else:
        _summarise(results, totals.sent, totals.bytes, seconds)
    raise typer.Exit(1 if totals.failed else 0)


def _peer(text: str) -> Peer:
    from clara_dicom_adapter.dicom.sender import Peer

    match = re.fullmatch(r"(?P<ae>[^@\\]{1,16})@(?P<host>\[[^\]]+\]|[^:@\s]+):(?P<port>[0-9]{1,5})", text.strip())
    if match is None or not 1 <= int(match["port"]) <= 65535:
        raise typer.BadParameter("AET@HOST:PORT is expected", param_hint="--to")
    return Peer(match["ae"].strip(), match["host"].strip("[]"), int(match["port"]))


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Files as named, and of folders everything that is a DICOM file; DICOMDIRs are not for sending."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for file in sorted(path.rglob("*")):
            if file.is_file() and file.name != "DICOMDIR" and _is_part10(file):
                yield file


def _is_part10(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"  # PS3.10 section 7.1
    except OSError:
        return True  # not readable: the sender tells that it was not sent


class _progress:  # noqa: N801 - used as a function
    """Shows a bar on a terminal, and nothing elsewhere; standard error, because the summary is the result."""

    def __init__(self, files: Sequence[Path], *, show: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TransferSpeedColumn

        self._sizes = [_size(file) for file in files]
        self._bar = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            console=Console(stderr=True),
            disable=not (show and sys.stderr.isatty()),
            transient=True,
        )
        self._objects = len(files)
        self._task = self._bar.add_task("sending", total=sum(self._sizes))

    def __enter__(self) -> _progress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, result: ObjectResult) -> None:
        self._bar.advance(self._task, self._sizes[result.index])


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _told(result: ObjectResult) -> dict[str, object]:
    return {
        "path": result.path,
        "verdict": result.verdict.value,
        "status": None if result.status is None else f"{result.status:04X}",
        "reason": result.reason,
    }


def _summarise(results: Sequence[ObjectResult], sent: int, sent_bytes: int, seconds: float) -> None:
    failures: dict[str, list[ObjectResult]] = {}
    for result in results:
        if not result.delivered:
            failures.setdefault(f"{result.verdict.value}: {result.reason}", []).append(result)
    for reason, failed in failures.items():
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        to_stderr(f"{failed[0].path}{more}: {reason}")
    counts = Counter((result.verdict.value, result.status) for result in results)
    print_table(
        ("outcome", "status", "instances"),
        [
            (verdict, "" if status is None else f"{status:04X}", count)
            for (verdict, status), count in counts.most_common()
        ],
        empty="",
    )
    speed = f", {size(sent_bytes / seconds)}/s" if seconds > 0 and sent else ""
    say(f"{sent} of {len(results)} instances stored, {size(sent_bytes)} in {seconds:.1f} s{speed}")
