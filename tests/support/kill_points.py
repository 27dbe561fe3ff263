"""SIGKILL at an exact point of a process's life: strace delivers it as a chosen system call is about to be made.

The call itself is not made any more, and nothing in the product takes part. While the point is being reached and
looked at, whoever would start the process again is stopped, so that the state which the kill has left can be examined.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.far_ends import Modality
from support.site import Site, descendants, wait_until


class KillPoint:
    """A strace that waits for the call."""

    def __init__(self, process: "subprocess.Popen[bytes]", pid: int, what: str) -> None:
        self._process = process
        self._pid = pid
        self._what = what

    @property
    def reached(self) -> bool:
        return _state(self._pid) in {"", "Z", "X"}

    def wait(self, seconds: float = 60) -> None:
        """Until the process is dead."""
        wait_until(f"killed at {self._what}", lambda: self.reached, seconds)
        self._process.wait(10)


@contextmanager
def killed_at(
    site: Site, part: str | Modality, calls: str, *, path: Path | str = "", when: int = 1
) -> Iterator[KillPoint]:
    """Kill a part as it is about to make one of some system calls.

    Args:
        part: Its name, or a modality: the listener process that serves it.
        calls: As strace takes them, ``write,writev``.
        path: Only calls on this file, folder or ``socket:[inode]``.
        when: Only the n-th such call of a thread.
    """
    guardian = site.status.pid
    if isinstance(part, Modality):
        receiver = site.status.part("receiver").pid
        assert receiver
        pid, guardian = listener(site, part), receiver
    else:
        pid = (server(site) if part == "temporal" else site.status.part(part).pid) or 0
    assert pid
    command = [strace(), "-f", "-p", str(pid), "-o", "/dev/null", "-e", f"inject={calls}:signal=SIGKILL:when={when}"]
    # without a path everything else is still traced, and slowly; with one strace shows and tampers with nothing else
    command += ["-P", str(path)] if path else ["-e", f"trace={calls}"]
    with _stopped(guardian):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_until("strace has every thread", lambda: _traced(pid, process.pid), 20)
            point = KillPoint(process, pid, f"{calls} {path}".strip())
            yield point
            point.wait()
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def held(site: Site, part: str) -> Iterator[int]:
    """Only the process of the part is stopped, and goes on afterwards."""
    pid = site.status.part(part).pid
    assert pid
    with _stopped(pid):
        yield pid


def server(site: Site) -> int:
    """The Temporal server, which is a child of the part."""
    part = site.status.part("temporal").pid
    assert part
    (pid,) = (pid for pid in descendants(part) if b"start-dev" in Path(f"/proc/{pid}/cmdline").read_bytes())
    return pid


def listener(site: Site, modality: Modality) -> int:
    """The process that serves a modality's association."""
    receiver = site.status.part("receiver").pid
    assert receiver
    connection = socket_of(receiver, site.dicom_port, modality.port)
    (pid,) = (pid for pid in descendants(receiver) if connection in _descriptors(pid))
    return pid


def _descriptors(pid: int) -> set[str]:
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            found.add(str(path.readlink()))
    return found


def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        message = "strace is not installed: apt-get install strace"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def socket_of(pid: int, local_port: int, remote_port: int) -> str:
    """How /proc names our end of a connection on the loopback, of whichever process."""
    ends = (f"0100007F:{local_port:04X}", f"0100007F:{remote_port:04X}")
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if (fields[1], fields[2]) == ends:
            return f"socket:[{fields[9]}]"
    raise AssertionError(f"process {pid} has no such connection")


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    wait_until("the process has stopped", lambda: _state(pid) in {"T", "t", ""}, 10)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _traced(pid: int, tracer: int) -> bool:
    wanted = f"TracerPid:\t{tracer}\n"
    statuses = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            statuses.append(wanted in (task / "status").read_text())
    return bool(statuses) and all(statuses)
