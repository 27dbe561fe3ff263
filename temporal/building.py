"""Programs that are built once with Go and stay in the user's cache folder."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clara_dicom_adapter.temporal.children import kill_group, spawn

PROGRESS_SECONDS: Final = 5.0

Progress = Callable[[str], None]


class NotBuilt(Exception):
    """It could not be built; the text goes on after "and": ``there is no Go to build one``."""


def to_stderr(text: str) -> None:
    """Show progress where a person who waits sees it."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - for the eye, not an event


def cache_folder(name: str, version: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Where a program is kept once it was downloaded or built."""
    base = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "clara-dicom-adapter" / f"{name}-{version.removeprefix('v')}"


@contextmanager
def alone(cache: Path, what: str, progress: Progress) -> Iterator[None]:
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
                    progress(f"another process is preparing {what}; waiting for {waited:.0f} s")
                time.sleep(0.2)
        yield


@dataclass(frozen=True)
class GoProgram:
    """What to build.

    Attributes:
        name: File name of the program.
        title: Name and version, for people.
        arguments: Of ``go``; the program is put into the folder that ``GOBIN`` names, which is also put in the place
            of ``{bin}``.
        oldest_go: Major and minor version that can build it.
        folder: Where ``go`` runs, when that matters.
    """

    name: str
    title: str
    arguments: Sequence[str]
    oldest_go: tuple[int, int]
    folder: Path | None = None


def build(wanted: GoProgram, cache: Path, progress: Progress, environ: Mapping[str, str] = os.environ) -> Path:
    """Build it into its cache folder; takes minutes. From the main thread, inside :func:`alone`.

    Raises:
        NotBuilt: There is no Go, it is too old, or it failed.
    """
    go = shutil.which("go", path=environ.get("PATH"))
    if go is None:
        raise NotBuilt("there is no Go to build one")
    version = _go_version(go, environ)
    if version < wanted.oldest_go:
        raise NotBuilt(f"the Go here is {'.'.join(map(str, version))}, too old to build one")
    building = cache / "building"
    building.mkdir(exist_ok=True)
    command = [go, *(argument.replace("{bin}", str(building)) for argument in wanted.arguments)]
    started = shown = time.monotonic()
    progress(f"building {wanted.title} with Go; this takes some minutes, once")
    with (cache / "build.log").open("wb") as output:
        # GOFLAGS such as -mod=vendor make sense for someone's own module, not for this
        child = spawn(
            command,
            env={**environ, "GOBIN": str(building), "GOFLAGS": ""},
            cwd=wanted.folder or cache,
            stderr=output.fileno(),
        )
        try:
            while child.poll() is None:
                time.sleep(0.2)
                if time.monotonic() - shown >= PROGRESS_SECONDS:
                    shown = time.monotonic()
                    progress(f"building {wanted.title}: {shown - started:.0f} s")
        finally:
            kill_group(child)
    if child.returncode != 0:
        words = (cache / "build.log").read_text(errors="replace").strip().splitlines()[-5:]
        raise NotBuilt("building one with Go failed:\n  " + "\n  ".join(words))
    program = cache / wanted.name
    (building / wanted.name).replace(program)  # only ever a whole program under the final name
    progress(f"built {program} in {time.monotonic() - started:.0f} s")
    return program


def _go_version(go: str, environ: Mapping[str, str]) -> tuple[int, int]:
    """Major and minor version; (0, 0) when it does not say."""
    answer = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, env={**environ}, check=False)
    match = re.match(r"go(\d+)\.(\d+)", answer.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)
