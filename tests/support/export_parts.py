"""An export with everything that takes part in it as a process of its own: each can be killed, and is started again.

A worker, Temporal, an embedded platform that has the payload, another one that is the Results Service, and two
destinations, dcmtk's storescp with a file for each object as often as it came.
"""

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import grpc
import httpx

from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.clara.wire import clara_platform_pb2 as pb
from clara_dicom_adapter.clara.wire import clara_platform_pb2_grpc as stubs
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import Peer
from clara_dicom_adapter.errors import InvalidInstance
from clara_dicom_adapter.temporal.children import kill_group, spawn
from clara_dicom_adapter.temporal.ports import ReservedPort
from clara_dicom_adapter.temporal.server import ServerOptions, TemporalServer
from support.dicom_peers import tool
from support.exports import Site
from support.site import wait_until

DESTINATIONS = ("PACS", "ARCHIVE")
PARTS = ("platform", "results", "temporal", "destination", "worker")
ASSOCIATIONS = 2
"""With each destination."""


class Part:
    """One process; its port stays its own."""

    def __init__(self, command: Sequence[str], port: int | None = None, **environment: str) -> None:
        self._command = command
        self._port = port
        paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
        self._process: Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; from the main thread, see :func:`temporal.children.spawn`."""
        self._process = spawn(self._command, env=self._environment)

    def await_ready(self) -> None:
        if self._port is not None:
            wait_until(f"{self._command} listens", self._listens, 30)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self._command} ended with {self._process.returncode}"
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port or 0), timeout=1):
            return True
        return False

    def kill(self) -> None:
        """SIGKILL, also to what it has started."""
        if self._process is not None:
            kill_group(self._process)


class Temporal(Part):
    """The server, which keeps its database."""

    def __init__(self, executable: Path, database: Path) -> None:
        super().__init__(())
        self._server = TemporalServer(executable, ServerOptions(database=database))
        self.address = self._server.address

    def start(self) -> None:
        self._server.start()

    def await_ready(self) -> None:
        asyncio.run(self._server.ready())

    def kill(self) -> None:
        kill_group(self._server.process)

    def close(self) -> None:
        self._server.close()


class ExportParts:
    """All of them, and what each has of a task."""

    def __init__(self, root: Path, temporal: Temporal, files: Sequence[Path], ports: Sequence[int]) -> None:
        platform, self._results, *destinations = ports
        self._objects = {read_meta(path).sop_instance_uid: path for path in files}
        self._numbers = {uid: number for number, uid in enumerate(self._objects)}
        self._held = {name: root / name for name in DESTINATIONS}
        patient = {"export": {"connectRetries": 20, "connectRetryDelaySeconds": 0.2}}
        self.site = Site(
            root,
            temporal.address,
            f"http://127.0.0.1:{self._results}",
            "node",
            scu=patient,
            platform=f"127.0.0.1:{platform}",
        )
        python = (sys.executable, "-m")
        module = (*python, "support.platform_process")
        self.parts: Mapping[str, Part] = {
            "temporal": temporal,
            "platform": Part((*module, str(root / "platform"), str(platform), "0"), platform),
            "results": Part((*module, str(root / "results"), "0", str(self._results)), self._results),
            **{
                name: Part(
                    (tool("storescp"), "--fork", "+B", "+uf", "-od", str(self._held[name]), str(port)),
                    port,
                    TCP_NODELAY="1",
                )
                for name, port in zip(DESTINATIONS, destinations, strict=True)
            },
            "worker": Part((*python, "support.exports", self.site.json())),
        }
        for folder in self._held.values():
            folder.mkdir(parents=True)
        pacs, archive = (Peer("STORESCP", "127.0.0.1", port) for port in destinations)
        self.site.set_destinations(ASSOCIATIONS, PACS=pacs, ARCHIVE=archive)

    def upload(self) -> str:
        """Give the platform the objects; returns the payload's id."""
        with grpc.insecure_channel(self.site.platform) as channel:
            made = stubs.PayloadsStub(channel).Create(pb.PayloadsCreateRequest(header=pb.RequestHeader()))
        with PlatformClient(self.site.platform) as client:
            for path in self._objects.values():
                client.upload(made.payload_id.value, path.name, path)
        return str(made.payload_id.value)

    # ---- a task ----

    def offer(self, payload_id: str) -> str:
        """Have the Results Service offer the objects for both destinations; returns the task's id."""
        for folder in self._held.values():
            for path in folder.iterdir():
                path.unlink()
        body = {
            "jobId": "a" * 32,
            "payloadId": payload_id,
            "agent": "ClaraSCU",
            "parameters": '["PACS", "archive"]',
            "uris": [path.name for path in self._objects.values()],
        }
        answer = httpx.post(f"{self.site.results}/embedded/tasks", json=body, trust_env=False)
        return str(answer.raise_for_status().json()["taskId"])

    def moved(self) -> int:
        """How many objects have been downloaded, and come to a destination: up to thrice as many as there are."""
        held = sum(1 for folder in self._held.values() for _ in folder.iterdir())
        downloaded = sum(1 for _ in (self.site.root / self.site.node_id / "exports").glob("*/*.dcm"))
        return held + (len(self._objects) if held else downloaded)

    def told(self, task_id: str) -> Mapping[str, Any]:
        """The task, as the Results Service has it."""
        answer = httpx.get(f"{self.site.results}/embedded/tasks", params={"size": 1000}, trust_env=False)
        (task,) = (task for task in answer.raise_for_status().json() if task["taskId"] == task_id)
        return dict(task)

    def held(self, destination: str) -> Counter[int]:
        """How often a destination has each object, whole and as it was made."""
        found: Counter[int] = Counter()
        for path in self._held[destination].iterdir():
            with suppress(InvalidInstance):
                meta = read_meta(path)
                made = self._objects[meta.sop_instance_uid]
                if _dataset(path) == _dataset(made):
                    found[self._numbers[meta.sop_instance_uid]] += 1
        return found


def _dataset(path: Path) -> bytes:
    return path.read_bytes()[read_meta(path).dataset_offset :]


@contextmanager
def export_parts(root: Path, temporal_executable: Path, files: Sequence[Path]) -> Iterator[ExportParts]:
    """All parts, running."""
    reserved = [ReservedPort() for _ in range(2 + len(DESTINATIONS))]
    temporal = Temporal(temporal_executable, root / "temporal.db")
    parts = ExportParts(root, temporal, files, [port.port for port in reserved])
    try:
        for part in parts.parts.values():
            part.start()
            part.await_ready()
        yield parts
    finally:
        for part in parts.parts.values():
            part.kill()
        temporal.close()
        for port in reserved:
            port.close()
