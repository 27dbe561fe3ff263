"""How a part of the adapter tells the others that it runs, and how it is.

Each process writes ``<data>/run/<part>.json`` when it is ready, and serves ``GET /status`` (JSON) and ``GET /metrics``
(Prometheus) on a port of its own that stands in that file. The file says where to ask; the answer says how
things are. A file whose process is gone means that the part has stopped, whatever else stands in it.

For probes there are ``/health/live`` and ``/health/ready`` on the same port, which is one of loopback unless the
settings say otherwise. ``/status`` tells who is connected, and answers loopback only.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Self, cast

import structlog
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

log = structlog.get_logger("clara_dicom_adapter.part_status")

STATUS_PORT: Final = "status"
"""Name in ``ports`` of the port that ``/status`` and ``/metrics`` are served on."""

# when each counter was made would be a series of its own, of which nobody makes use
disable_created_metrics()  # type: ignore[no-untyped-call]

StatusSource = Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class PartFile:
    """What a part has written about itself.

    Attributes:
        part: ``receiver``, ``worker``, ``api``, ``platform``, ``temporal``; with ``-<n>`` when there are several.
        birth: When the process was started, in ticks since the machine's start: process ids are used again.
        facts: Whatever else the part tells, such as addresses.
    """

    part: str
    pid: int
    birth: int
    ports: Mapping[str, int]
    ready: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def role(self) -> str:
        return self.part.partition("-")[0]

    @property
    def alive(self) -> bool:
        """Whether the very process that wrote the file still runs."""
        return _birth(self.pid) == self.birth

    @property
    def started_at(self) -> float:
        """When its process was started, in seconds since the epoch."""
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
        return time.time() - uptime + self.birth / os.sysconf("SC_CLK_TCK")

    @property
    def addresses(self) -> dict[str, str]:
        """What it listens on, by service, as it has told."""
        told = self.facts.get("addresses")
        return {str(name): str(where) for name, where in told.items()} if isinstance(told, dict) else {}

    @property
    def status_url(self) -> str | None:
        """Where to ask it; None when it does not serve its status."""
        port = self.ports.get(STATUS_PORT)
        return None if port is None else f"http://127.0.0.1:{port}"


def _birth(pid: int) -> int | None:
    """Start time of a process (proc(5), stat field 22); None when there is none, or only its zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    after_name = stat.rpartition(")")[2].split()  # the name may hold blanks and parentheses
    return None if after_name[0] in {"Z", "X"} else int(after_name[19])


def write_ready(
    run_dir: Path,
    part: str,
    ports: Mapping[str, int],
    *,
    ready: bool = True,
    pid: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``<run_dir>/<part>.json``, replacing an older one in one step.

    Args:
        pid: Of a part that does not write itself, such as the Temporal server; none: this process.
    """
    pid = pid or os.getpid()
    path = run_dir / f"{part}.json"
    run_dir.mkdir(parents=True, exist_ok=True)
    content = {"part": part, "pid": pid, "birth": _birth(pid), "ports": dict(ports), "ready": ready, **(facts or {})}
    temporary = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.part")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)
    return path


def remove(run_dir: Path, part: str) -> None:
    """The part ends in order; a part that is killed leaves its file behind, and it is seen to be dead."""
    (run_dir / f"{part}.json").unlink(missing_ok=True)


def read_all(run_dir: Path) -> list[PartFile]:
    """Every part that has written a file, dead ones too, by name."""
    found = []
    for path in sorted(run_dir.glob("*.json")):
        part = read_one(path)
        if part is not None:
            found.append(part)
    return found


def read_one(path: Path) -> PartFile | None:
    """One part's file; None when there is none that can be understood."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return PartFile(
            part=str(content.pop("part")),
            pid=int(content.pop("pid")),
            birth=int(content.pop("birth")),
            ports={str(name): int(port) for name, port in content.pop("ports").items()},
            ready=bool(content.pop("ready", True)),
            facts=content,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


class StatusServer:
    """Serves a part's ``/status``, health and ``/metrics`` from a thread; raises OSError when the port is taken."""

    def __init__(
        self,
        status: StatusSource,
        registry: CollectorRegistry | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        server = _Server6 if ":" in host else _Server
        self._server = server((host, port), _Handler)
        self._server.status = status
        self._server.registry = registry
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="status", daemon=True
        )

    def start(self) -> Self:
        self._thread.start()
        return self

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    status: StatusSource, registry: CollectorRegistry | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> StatusServer:
    """Serve ``status()`` as JSON and the registry's metrics; :attr:`StatusServer.port` goes into the part's file."""
    return StatusServer(status, registry, host=host, port=port).start()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    status: StatusSource
    registry: CollectorRegistry | None


class _Server6(_Server):
    address_family = socket.AF_INET6


def _is_loopback(address: str) -> bool:
    found = ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


class _Handler(BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self) -> None:
        server = cast(_Server, self.server)
        try:
            if self.path == "/health/live":
                self._answer(200, b'{"status": "Healthy"}', "application/json")
            elif self.path == "/health/ready":
                self._answer_ready(server.status())
            elif self.path == "/status" and _is_loopback(self.client_address[0]):
                self._answer(200, json.dumps(server.status()).encode(), "application/json")
            elif self.path == "/metrics" and server.registry is not None:
                self._answer(200, generate_latest(server.registry), CONTENT_TYPE_LATEST)
            else:
                self._answer(404, b"{}", "application/json")
        except ConnectionError:
            pass  # who asked has gone
        except Exception as error:  # a status that cannot be told is an answer, not the end of the part
            log.warning("status_failed", error=type(error).__name__)
            self._answer(500, json.dumps({"error": type(error).__name__}).encode(), "application/json")

    def _answer_ready(self, status: Mapping[str, Any]) -> None:
        """As the REST interface's route of that name: 200 or 503, and why."""
        ready = bool(status.get("ready", True))
        told = {"status": "Healthy" if ready else "Unhealthy", "reason": "" if ready else status.get("reason", "")}
        self._answer(200 if ready else 503, json.dumps(told).encode(), "application/json")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nothing: a probe every second is no news."""
