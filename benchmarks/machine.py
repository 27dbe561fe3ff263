"""What the kernel knows about processes and threads (proc(5)): they end while one looks, and are then left out."""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")


def state(pid: int) -> str:
    """The letter of a process's state, empty if it is gone."""
    try:
        return _letter(Path(f"/proc/{pid}/stat").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return ""


def alive(pid: int) -> bool:
    """Whether a process exists and runs: a zombie whose new parent is slow to reap it does not."""
    return state(pid) not in {"", "Z", "X"}


def states_of_threads(pid: int) -> set[str]:
    return {_letter(stat) for stat in of_threads(pid, "stat")}


def of_threads(pid: int, name: str) -> list[str]:
    """The text of one file of each thread that is still there when it is read."""
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):
                found.append((task / name).read_text())
    return found


def descendants(pid: int) -> list[int]:
    """Every living process that a process has started, and theirs."""
    children = [int(child) for line in of_threads(pid, "children") for child in line.split()]
    return [member for child in children for member in (child, *descendants(child))]


def cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time of processes, with that of children that have ended and were waited for."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            # the process's clock (clock_getcpuclockid(3)): its ticks of 10 ms are more than a short run may use
            total += time.clock_gettime(~pid << 3 | 2)
            # fields 16 and 17: cutime, cstime; the name before them may hold blanks
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[13:15])) / _TICKS
    return total


def memory_mb(pids: Sequence[int], field: str = "VmRSS") -> float:
    """Resident memory of processes, 10^6 bytes; ``VmHWM`` for the most it has ever been."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith(f"{field}:"):
                    total += int(line.split()[1]) * 1024
    return total / 1e6


def reset_peak(pid: int) -> None:
    """Let ``VmHWM`` begin anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def filesystem(path: Path) -> str:
    """Type of the file system that a path is on, as in proc(5) ``mounts``."""
    found, kind = Path(), "unknown"
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mounted, its_kind = line.split()[:3]
        if path.is_relative_to(mounted) and len(Path(mounted).parts) >= len(found.parts):
            found, kind = Path(mounted), its_kind
    return kind


class CpuMeter:
    """Processor time of parts since it was made."""

    def __init__(self, families: Mapping[str, Sequence[int]]) -> None:
        self._before = {name: cpu_seconds(pids) for name, pids in families.items()}

    def read(self, families: Mapping[str, Sequence[int]]) -> dict[str, float]:
        """Seconds by part."""
        return {name: cpu_seconds(pids) - self._before.get(name, 0.0) for name, pids in families.items()}


def _letter(stat: str) -> str:
    return stat.rpartition(")")[2].split()[0]
