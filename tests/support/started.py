"""Receivers that are started in processes of their own, and tools of the operating system to look into them with."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from signal import SIGKILL
from typing import NoReturn

import pytest

TESTS = Path(__file__).parent.parent


@contextmanager
def process_of_its_own(command: Sequence[str | Path], log: Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose group is killed at the end; its standard output can be read."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))}
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, start_new_session=True
        )
    assert process.stdout is not None
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, SIGKILL)  # strace's receiver too
        process.wait(10)
        process.stdout.close()


@contextmanager
def receiver_process(
    spool: Path, *, before: Sequence[str | Path] = (), log: Path | None = None, prepared_mb: int = 0
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A receiver with its listener in one process, and its port.

    Args:
        before: A command that runs the one behind it, in the same process or as its only child.
        prepared_mb: What prepared files may take.
    """
    command = [*before, sys.executable, "-P", "-m", "support.receiver_process", str(spool), str(prepared_mb)]
    with process_of_its_own(command, log or spool.with_suffix(".log")) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert first, "the receiver ended"
        yield process, int(first)


def in_a_small_disk(disk: Path, megabytes: int) -> list[str | Path]:
    """A command that runs the one behind it where ``disk`` is a file system of so many MB, which nobody else sees.

    Root gets an ext4 on a loop device, or a tmpfs where there are none; others get a tmpfs if they may have a user
    namespace, and otherwise the test is skipped, or fails in CI.
    """
    unshare = [tool("unshare", "util-linux"), "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        unshare += ["--user", "--map-root-user"]
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode != 0:
        missing("a mount needs root or a user namespace")
    disk.mkdir()
    image = disk.with_suffix(".ext4")
    with image.open("wb") as file:
        file.truncate(megabytes * 1_000_000)
    mount = (
        '{ mkfs.ext4 -q -m 0 "$1" && mount -o loop "$1" "$2"; } >&2 || mount -t tmpfs -o "size=$3" tmpfs "$2"; '
        'shift 3; exec "$@"'
    )
    return [*unshare, "sh", "-c", mount, "sh", image, disk, str(megabytes * 1_000_000)]


def tool(name: str, package: str) -> str:
    """Path of a program; without it the test is skipped, and fails in CI."""
    return shutil.which(name) or missing(f"{name} is not installed: apt-get install {package}")


def missing(reason: str) -> NoReturn:
    """What a test needs is not there."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
