"""SIGKILL or SIGSTOP at an exact point of a process's life: strace delivers it with a chosen system call.

A call at which a process is killed is not made any more. Nothing in the product takes part. While such a point is
being reached and looked at, whoever would start the process again is stopped, so that the state which the kill has left
can be examined.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from machine import alive, descendants, of_threads, state, states_of_threads

from support.far_ends import Modality
from support.site import Site, wait_until


class Point:
    """A strace that waits for the call."""

    def __init__(self, process: "subprocess.Popen[bytes]", pid: int, deadly: bool, what: str) -> None:
        self._process = process
        self._pid = pid
        self._deadly = deadly
        self._what = what

    def wait(self, seconds: float = 60) -> None:
        """Until the process is dead, or all of it has stopped."""
        wait_until(self._what, self._reached, seconds)
        if self._deadly:
            self._process.wait(10)

    def _reached(self) -> bool:
        if self._deadly:
            return not alive(self._pid)
        states = states_of_threads(self._pid)
        return bool(states) and states <= {"T", "t"}


@contextmanager
def killed_at(site: Site, part: str | Modality, calls: str, *, path: Path | str = "", when: int = 1) -> Iterator[Point]:
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
    with _stopped(guardian), _signalled_at(pid, signal.SIGKILL, calls, path, when) as point:
        yield point
        point.wait()


@contextmanager
def stopped_at(site: Site, part: str, calls: str, *, path: Path | str) -> Iterator[Point]:
    """Stop a part as it has made one of some system calls; whoever goes on with it sends SIGCONT."""
    pid = site.status.part(part).pid
    assert pid
    with _signalled_at(pid, signal.SIGSTOP, calls, path, 1) as point:
        yield point
        point.wait()


@contextmanager
def _signalled_at(pid: int, number: signal.Signals, calls: str, path: Path | str, when: int) -> Iterator[Point]:
    inject = f"inject={calls}:signal={number.name}:when={when}"
    command = [strace(), "-f", "-p", str(pid), "-o", "/dev/null", "-e", inject]
    # without a path everything else is still traced, and slowly; with one strace shows and tampers with nothing else
    command += ["-P", str(path)] if path else ["-e", f"trace={calls}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until("strace has every thread", lambda: _traced(pid, process.pid), 60)
        yield Point(process, pid, number is signal.SIGKILL, f"{number.name} at {calls} {path}".strip())
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
    wait_until("the process has stopped", lambda: state(pid) in {"T", "t", ""}, 60)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _traced(pid: int, tracer: int) -> bool:
    """Whether all threads are traced, or the process has come to its point already."""
    if not state(pid):
        return True
    statuses = of_threads(pid, "status")
    return bool(statuses) and all(f"TracerPid:\t{tracer}\n" in status for status in statuses)
