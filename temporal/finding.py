"""Finding a Temporal server program: on PATH, in our cache, by the SDK's own download, or built with Go.

Slow only once: what was downloaded or built stays in the user's cache folder.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

import structlog
from temporalio.testing import WorkflowEnvironment

from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal import building
from clara_dicom_adapter.temporal.building import GoProgram, NotBuilt, Progress, to_stderr

log = structlog.get_logger("clara_dicom_adapter.temporal")

GO_PACKAGE: Final = "github.com/temporalio/cli/cmd/temporal"
VERSION: Final = "v1.5.1"
"""Pinned; newer ones have ``replace`` directives, which ``go install PACKAGE@VERSION`` refuses."""
OLDEST_GO: Final = (1, 25)
DOWNLOAD_SECONDS: Final = 300.0


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the program is kept once it was downloaded or built."""
    return building.cache_folder("temporal", VERSION, environ)


async def sdk_download(cache: Path) -> None:
    """Start and stop a server in memory: the SDK offers no way to download alone."""
    environment = await WorkflowEnvironment.start_local(download_dest_dir=str(cache), dev_server_log_level="error")
    await environment.shutdown()


def find(
    progress: Progress = to_stderr,
    environ: Mapping[str, str] = os.environ,
    download: Callable[[Path], Awaitable[None]] = sdk_download,
) -> Path:
    """The server program; may take minutes the first time. From the main thread, outside an event loop.

    Args:
        progress: Told what is going on, in words for a person.
        environ: Its PATH and cache folder count.
        download: Puts ``temporal-sdk-*`` into a folder, or raises RuntimeError.

    Raises:
        TemporalUnavailable: None of the ways worked; its text lists them and what to do.
    """
    found = shutil.which("temporal", path=environ.get("PATH"))
    if found and _works(Path(found)):
        return Path(found)
    cache = cache_folder(environ)
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TemporalUnavailable(_advice(f"and the cache folder {cache} cannot be made: {error.strerror}")) from error
    with building.alone(cache, "the Temporal server", progress):
        for candidate in (cache / "temporal", *sorted(cache.glob("temporal-sdk-*"))):
            if _works(candidate):
                return candidate
        return _downloaded(cache, progress, download) or _built(cache, progress, environ)


def _works(program: Path) -> bool:
    """Whether it can be run; a half-written or foreign file cannot."""
    if not (program.is_file() and os.access(program, os.X_OK)):
        return False
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0 and b"temporal" in answer.stdout.lower()


def _downloaded(cache: Path, progress: Progress, download: Callable[[Path], Awaitable[None]]) -> Path | None:
    """The SDK's own download of its dev server, or None when it cannot be had here."""
    progress("looking for a download of the Temporal server")
    try:
        asyncio.run(_within(download(cache), DOWNLOAD_SECONDS))
    except (RuntimeError, TimeoutError) as error:  # no network, or not to that host: nothing unusual in a hospital
        log.debug("temporal_download_failed", reason=str(error))
    return next((program for program in sorted(cache.glob("temporal-sdk-*")) if _works(program)), None)


async def _within(work: Awaitable[None], seconds: float) -> None:
    await asyncio.wait_for(work, seconds)


def _built(cache: Path, progress: Progress, environ: Mapping[str, str]) -> Path:
    arguments = ("install", "-ldflags", "-s -w", f"{GO_PACKAGE}@{VERSION}")
    try:
        return building.build(
            GoProgram("temporal", f"Temporal {VERSION}", arguments, OLDEST_GO), cache, progress, environ
        )
    except NotBuilt as error:
        raise TemporalUnavailable(_advice(f"and {error}")) from error


def _advice(reason: str) -> str:
    return (
        "No Temporal server can be started: `temporal` is not on PATH, the download that comes with the SDK cannot be "
        f"had, {reason}.\nDo one of these: set DicomAdapter>services>temporal>address to a server that runs; put the "
        "`temporal` command line tool on PATH (https://docs.temporal.io/cli); or install Go "
        f"{'.'.join(map(str, OLDEST_GO))} or newer, which builds it."
    )
