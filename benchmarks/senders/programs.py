"""How each sender is found, started and measured.

Those in Python say when they are ready, and their clock starts then; the others are programs whose start takes a few
milliseconds, and it counts.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from machine import memory_mb
from receivers.peers import cargo_installed, dcmtk_sender, installed
from receivers.process import Failed
from receivers.sender import CALLED, LONGEST_PDU

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Sent:
    """One sender with one set, once; the sums over its processes."""

    instances: int
    bytes: int
    seconds: float
    cpu_seconds: float
    memory_mb: float


@dataclass(frozen=True)
class Share:
    """What one process sends.

    Attributes:
        folder: The files.
        scratch: An empty folder for what it writes itself.
    """

    port: int
    folder: Path
    associations: int
    scratch: Path


@dataclass(frozen=True)
class Sender:
    """A Storage SCU.

    Attributes:
        program: Makes or finds the program; raises LeftOut with what a person can do about it.
        command: Its command line.
        says: Whether it says when it is ready and what it took (``clock.py``).
        threads: Whether one process opens all associations; else there is a process for each.
    """

    name: str
    program: Callable[[Path], Path]
    command: Callable[[Path, Share], Sequence[str | Path]]
    says: bool = False
    threads: bool = False

    def run(self, program: Path, shares: Sequence[Share], bytes_in_all: int) -> Sent:
        """Send; raises Failed when a process did not send all."""
        commands = [[str(word) for word in self.command(program, share)] for share in shares]
        figures = _said(commands) if self.says else _watched(commands)
        instances = sum(sum(1 for _ in share.folder.iterdir()) for share in shares)
        return Sent(instances, bytes_in_all, *figures)


def _said(commands: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(_HERE.parent), *sys.path]))}
    processes = [
        subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for command in commands
    ]
    try:
        for process in processes:
            if _line_of(process) != "ready\n":
                raise Failed("a sender did not start")
        begun = time.monotonic()
        for process in processes:
            print(file=process.stdin, flush=True)
        reports = []
        for process in processes:
            line = _line_of(process)
            if not line:
                raise Failed(f"a sender ended with {process.wait(60)}")
            reports.append(json.loads(line))
        seconds = time.monotonic() - begun
    finally:
        for process in processes:
            process.kill()
            process.wait()
    if len(reports) == 1:
        seconds = reports[0]["seconds"]
    return (
        seconds,
        sum(report["cpu_seconds"] for report in reports),
        sum(report["memory_mb"] for report in reports),
    )


def _line_of(process: subprocess.Popen[str]) -> str:
    return process.stdout.readline() if process.stdout else ""


def _watched(commands: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    environment = {**os.environ, "TCP_NODELAY": "1"}
    begun = time.monotonic()
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    peaks = dict.fromkeys((process.pid for process in processes), 0.0)
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(peaks, over))
    watch.start()
    cpu_seconds = 0.0
    try:
        for process in processes:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu_seconds += used.ru_utime + used.ru_stime
        seconds = time.monotonic() - begun
    finally:
        over.set()
        watch.join()
    if wrong := [process.returncode for process in processes if process.returncode]:
        raise Failed(f"{commands[0][0]} ended with {wrong[0]}")
    return seconds, cpu_seconds, sum(peaks.values())


def _watch(peaks: dict[int, float], over: threading.Event) -> None:
    """Look at the memory now and then: ``ru_maxrss`` would count the process that started them."""
    while not over.wait(0.02):
        for pid, peak in peaks.items():
            peaks[pid] = max(peak, memory_mb([pid], "VmHWM"))


def _python(_cache: Path) -> Path:
    return Path(sys.executable)


def _ours(program: Path, share: Share) -> Sequence[str | Path]:
    return [program, _HERE / "ours.py", str(share.port), share.folder, str(share.associations), share.scratch]


def _limit(program: Path, share: Share) -> Sequence[str | Path]:
    return [program, _HERE / "limit.py", str(share.port), share.folder]


def _pynetdicom(program: Path, share: Share) -> Sequence[str | Path]:
    return [program, _HERE / "stock_pynetdicom.py", str(share.port), share.folder]


def _dcmtk(program: Path, share: Share) -> Sequence[str | Path]:
    options = ["-aec", CALLED, "--max-send-pdu", str(LONGEST_PDU), "-xe", "+sd"]
    return [program, *options, "127.0.0.1", str(share.port), share.folder]


def _dicom_rs(program: Path, share: Share) -> Sequence[str | Path]:
    options = ["--never-transcode", "--fail-first", "--max-pdu-length", str(LONGEST_PDU)]
    return [program, *options, f"{CALLED}@127.0.0.1:{share.port}", share.folder]


def _dcm4che(program: Path, share: Share) -> Sequence[str | Path]:
    return [program, "-c", f"{CALLED}@127.0.0.1:{share.port}", "--tcp-delay", share.folder]


OURS: Final = "ours"
LIMIT: Final = "limit"
SENDERS: Final = {
    sender.name: sender
    for sender in (
        Sender(OURS, _python, _ours, says=True, threads=True),
        Sender("dcmtk", dcmtk_sender, _dcmtk),
        Sender("dicom_rs", cargo_installed("dicom-storescu"), _dicom_rs),
        Sender("pynetdicom", _python, _pynetdicom, says=True),
        Sender(LIMIT, _python, _limit, says=True),
        Sender(
            "dcm4che", installed("dcm4che-storescu", "dcm4che, and link its storescu as dcm4che-storescu"), _dcm4che
        ),
    )
}
