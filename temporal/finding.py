"""Finding a Temporal server program: on PATH, in our cache, by the SDK's own download, or built with Go.

Slow only once: what was downloaded or built stays in the user's cache folder.
"""

import asyncio
import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import structlog
from temporalio.testing import WorkflowEnvironment

from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal.children import kill_group, spawn

log = structlog.get_logger("clara_dicom_adapter.temporal")

GO_PACKAGE: Final = "github.com/temporalio/cli/cmd/temporal"
VERSION: Final = "v1.5.1"
"""Pinned; newer ones have ``replace`` directives, which ``go install PACKAGE@VERSION`` refuses."""
OLDEST_GO: Final = (1, 25)
DOWNLOAD_SECONDS: Final = 300.0
PROGRESS_SECONDS: Final = 5.0

Progress = Callable[[str], None]


def to_stderr(text: str) -> None:
    """Show progress where a person who waits sees it."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - for the eye, not an event


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where the program is kept once it was downloaded or built."""
    base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "clara-dicom-adapter" / f"temporal-{VERSION.removeprefix('v')}"


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
    with _alone(cache, progress):
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


@contextmanager
def _alone(cache: Path, progress: Progress) -> Iterator[None]:
    """Let one process at a time download or build."""
    with (cache / "lock").open("w") as lock:
        waiting_since = time.monotonic()
        shown = 0.0
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                waited = time.monotonic() - waiting_since
                if waited - shown >= PROGRESS_SECONDS:
                    shown = waited
                    progress(f"another process is preparing the Temporal server; waiting for {waited:.0f} s")
                time.sleep(0.2)
        yield


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
    go = shutil.which("go", path=environ.get("PATH"))
    if go is None:
        raise TemporalUnavailable(_advice("and there is no Go to build one"))
    version = _go_version(go, environ)
    if version < OLDEST_GO:
        raise TemporalUnavailable(_advice(f"and the Go here is {'.'.join(map(str, version))}, too old to build one"))
    building = cache / "building"
    command = [go, "install", "-ldflags", "-s -w", f"{GO_PACKAGE}@{VERSION}"]
    started = shown = time.monotonic()
    progress(f"building Temporal {VERSION} with Go; this takes some minutes, once")
    with (cache / "build.log").open("wb") as output:
        # GOFLAGS such as -mod=vendor make sense for someone's own module, not for this
        child = spawn(
            command, env={**environ, "GOBIN": str(building), "GOFLAGS": ""}, cwd=cache, stderr=output.fileno()
        )
        try:
            while child.poll() is None:
                time.sleep(0.2)
                if time.monotonic() - shown >= PROGRESS_SECONDS:
                    shown = time.monotonic()
                    progress(f"building Temporal {VERSION}: {shown - started:.0f} s")
        finally:
            kill_group(child)
    if child.returncode != 0:
        words = (cache / "build.log").read_text(errors="replace").strip().splitlines()[-5:]
        raise TemporalUnavailable(_advice("and building one with Go failed:\n  " + "\n  ".join(words)))
    program = cache / "temporal"
    (building / "temporal").replace(program)  # only ever a whole program under the final name
    progress(f"built {program} in {time.monotonic() - started:.0f} s")
    return program


def _go_version(go: str, environ: Mapping[str, str]) -> tuple[int, int]:
    """Major and minor version; (0, 0) when it does not say."""
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, env={**environ}, check=False)
    match = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _advice(reason: str) -> str:
    return (
        "No Temporal server can be started: `temporal` is not on PATH, the download that comes with the SDK cannot be "
        f"had, {reason}.\nDo one of these: set DicomAdapter>services>temporal>address to a server that runs; put the "
        "`temporal` command line tool on PATH (https://docs.temporal.io/cli); or install Go "
        f"{'.'.join(map(str, OLDEST_GO))} or newer, which builds it."
    )
