"""How the parts of the adapter are, asked of themselves: a part that does not answer is never said to run."""

import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Protocol

import httpx

from clara_dicom_adapter.part_status import PartFile, read_all

_SECONDS: Final = 1.0
"""For one part's answer; a probe must not take long, and parts answer from memory."""


class PartState(StrEnum):
    """The words of 0.8."""

    RUNNING = "Running"
    STOPPED = "Stopped"
    UNKNOWN = "Unknown"
    """Its process is there, but it does not say how it is."""


@dataclass(frozen=True)
class PartReport:
    """How one part is.

    Attributes:
        role: ``receiver``, ``worker``, ``api``, ``platform`` or ``temporal``.
        ready: It can do what it is there for.
        warnings: What somebody should look after although it works.
        status: What it says about itself.
        metrics: Its own metrics, in Prometheus' text form.
    """

    part: str
    role: str
    state: PartState
    ready: bool
    pid: int | None = None
    reason: str = ""
    warnings: Sequence[str] = ()
    status: Mapping[str, Any] = field(default_factory=dict[str, Any])
    metrics: str = ""


class PartsDirectory(Protocol):
    """Knows the parts."""

    def reports(self, *, metrics: bool = False) -> Sequence[PartReport]:
        """Every part that has ever been ready here; blocks for about a second at most."""
        ...


class RunFolder:
    """The parts that have written a file into ``<data>/run``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._http = httpx.Client(timeout=_SECONDS, trust_env=False)

    def reports(self, *, metrics: bool = False) -> Sequence[PartReport]:
        files = read_all(self._folder)
        if not files:
            return []
        with ThreadPoolExecutor(len(files)) as pool:
            return list(pool.map(lambda file: self._report(file, metrics=metrics), files))

    def close(self) -> None:
        self._http.close()

    def _report(self, file: PartFile, *, metrics: bool) -> PartReport:
        if not file.alive:
            return PartReport(file.part, file.role, PartState.STOPPED, ready=False, reason="its process has ended")
        if file.status_url is None:
            return _without_status(file)
        try:
            answer = self._http.get(f"{file.status_url}/status")
            status = dict(answer.raise_for_status().json())
            text = self._http.get(f"{file.status_url}/metrics") if metrics else None
        except (httpx.HTTPError, ValueError, TypeError) as error:
            reason = f"it does not answer: {type(error).__name__}"
            return PartReport(file.part, file.role, PartState.UNKNOWN, ready=False, pid=file.pid, reason=reason)
        ready = file.ready and bool(status.get("ready", True))
        return PartReport(
            file.part,
            file.role,
            PartState.RUNNING,
            ready,
            file.pid,
            reason="" if ready else str(status.get("reason", "it says that it is not ready")),
            warnings=_warnings(status),
            status=status,
            metrics=text.text if text is not None and text.is_success else "",
        )


def _warnings(status: Mapping[str, Any]) -> tuple[str, ...]:
    told = status.get("warnings", ())
    return tuple(map(str, told)) if isinstance(told, list) else ()


def _without_status(file: PartFile) -> PartReport:
    """A part that is not ours, such as the Temporal server: whether its first port takes connections."""
    port = next(iter(file.ports.values()), None)
    try:
        if port is not None:
            socket.create_connection(("127.0.0.1", port), _SECONDS).close()
            return PartReport(file.part, file.role, PartState.RUNNING, file.ready, file.pid)
        reason = "it tells nothing about itself"
    except OSError as error:
        reason = f"it does not answer: {type(error).__name__}"
    return PartReport(file.part, file.role, PartState.UNKNOWN, ready=False, pid=file.pid, reason=reason)
