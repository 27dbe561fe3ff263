"""The embedded Clara Platform as a whole: gRPC, Results Service, and the sweep that runs started jobs.

The process that starts it (``cli``) also runs a Temporal worker on the queue ``clara-platform`` with
``PlatformJobWorkflow`` and ``PlatformJobActivities(service.runner)``.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc
import structlog
import uvicorn

from clara_dicom_adapter.clara.embedded.database import Database
from clara_dicom_adapter.clara.embedded.jobs import JobStore
from clara_dicom_adapter.clara.embedded.jobs_servicer import JobsServicer
from clara_dicom_adapter.clara.embedded.payloads import PayloadStore
from clara_dicom_adapter.clara.embedded.payloads_servicer import PayloadsServicer
from clara_dicom_adapter.clara.embedded.pipelines import PipelineCatalogue
from clara_dicom_adapter.clara.embedded.pipelines_servicer import ClaraServicer, PipelinesServicer
from clara_dicom_adapter.clara.embedded.results_api import application
from clara_dicom_adapter.clara.embedded.runner import JobRunner
from clara_dicom_adapter.clara.embedded.starter import JobStarter, JobSweep
from clara_dicom_adapter.clara.embedded.tasks import RETRY_DELAY_SECONDS, TaskStore
from clara_dicom_adapter.clara.wire import clara_platform_pb2_grpc as stubs
from clara_dicom_adapter.errors import SpoolInUse

log = structlog.get_logger("clara_dicom_adapter.clara")

THREADS: Final = 24
"""Calls answered at once; an upload holds one for its whole length, and the adapter sends 4 at once per job."""
JOB_RETENTION_DAYS: Final = 30
"""Jobs whose payload is gone, and their logs, are forgotten after this long, as Temporal forgets their workflows."""


class PlatformService:
    """An embedded Clara Platform with its state below one folder, served by one process at a time.

    Args:
        folder: Where database, payloads, work and logs are; made if need be.
        pipelines: Folder of the operator's pipeline definitions.
        host: Address to listen on; what runs commands listens on loopback unless told otherwise.
        port: Of the gRPC services; 0 is any free one.
        results_port: Of the Results Service; 0 is any free one.
        payload_retention_hours: How long after the end of a job and all its tasks its payload is kept.
        surroundings: Environment of which search path and language reach operators; none: this process's.

    Raises:
        SpoolInUse: Another process serves the folder.
    """

    def __init__(
        self,
        folder: Path,
        pipelines: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        results_port: int = 0,
        allow_pipeline_creation: bool = False,
        payload_retention_hours: float = 8.0,
        result_retry_delay_seconds: float = RETRY_DELAY_SECONDS,
        surroundings: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(folder)
        self._host = host
        self._ports = (port, results_port)
        self._retention_seconds = payload_retention_hours * 3600
        self._database = Database(folder / "platform.db")
        self._payloads = PayloadStore(self._database, folder)
        self._jobs = JobStore(self._database, self._payloads)
        self._tasks = TaskStore(self._database, result_retry_delay_seconds)
        self._pipelines = PipelineCatalogue(
            self._database, pipelines, folder / "pipelines", allow_creation=allow_pipeline_creation
        )
        self.runner = JobRunner(
            self._jobs,
            self._payloads,
            self._tasks,
            folder,
            os.environ if surroundings is None else surroundings,
        )
        """Does the work of the activities."""
        self.port = 0
        """The gRPC port, once started."""
        self.results_port = 0
        """The Results Service's port, once started."""
        self._grpc: grpc.Server | None = None
        self._web: uvicorn.Server | None = None
        self._tasks_running: list[asyncio.Task[None]] = []

    @property
    def endpoint(self) -> str:
        """``host:port`` of the gRPC services."""
        return f"{self._host}:{self.port}"

    @property
    def results_endpoint(self) -> str:
        """URL of the Results Service."""
        return f"http://{self._host}:{self.results_port}"

    async def start(self, starter: JobStarter) -> None:
        """Listen, and hand started jobs to ``starter`` from now on."""
        self._payloads.discard_unknown()
        sweep = JobSweep(self._jobs, starter, self.clear_up)
        self._start_grpc(sweep.nudge)
        await self._start_web()
        self._tasks_running.append(asyncio.create_task(sweep.run()))
        log.info("platform_started", endpoint=self.endpoint, url=self.results_endpoint)

    async def stop(self, grace_seconds: float = 5.0) -> None:
        """Stop listening; calls in progress may end within the grace period."""
        if self._grpc is not None:
            await asyncio.to_thread(self._grpc.stop(grace_seconds).wait)
        if self._web is not None:
            self._web.should_exit = True
        if self._tasks_running:
            *serving, sweep = self._tasks_running
            sweep.cancel()
            await asyncio.gather(*serving, sweep, return_exceptions=True)
        self._tasks_running.clear()

    def close(self) -> None:
        """Close the database, after :meth:`stop` and after the worker has stopped."""
        self._database.close()
        os.close(self._lock)

    def clear_up(self) -> None:
        """Remove payloads whose time is over, then what was forgotten."""
        now = time.time()
        for payload_id in self._jobs.payloads_to_remove(now - self._retention_seconds):
            with self._database.write() as connection:
                self._payloads.mark_removed(connection, payload_id)
            self._payloads.remove_files(payload_id)
            log.info("payload_removed", payload_id=payload_id)
        for job_id in self._jobs.forget(now - JOB_RETENTION_DAYS * 86400):
            self.runner.remove_logs(job_id)
        self._pipelines.discard_unused(self._jobs.definition_folders_in_use())

    def _start_grpc(self, nudge: Callable[[], None]) -> None:
        server = grpc.server(
            ThreadPoolExecutor(THREADS, thread_name_prefix="clara-platform"),
            options=[
                ("grpc.so_reuseport", 0),  # a second platform on the same port must fail, not share it
                ("grpc.max_receive_message_length", 8 * 1024 * 1024),
            ],
        )
        stubs.add_JobsServicer_to_server(JobsServicer(self._jobs, self._pipelines, self.runner.log_file, nudge), server)
        stubs.add_PayloadsServicer_to_server(PayloadsServicer(self._payloads), server)
        stubs.add_PipelinesServicer_to_server(PipelinesServicer(self._pipelines), server)
        stubs.add_ClaraServicer_to_server(ClaraServicer(), server)
        self.port = server.add_insecure_port(f"{self._host}:{self._ports[0]}")
        server.start()
        self._grpc = server

    async def _start_web(self) -> None:
        listening = socket.create_server((self._host, self._ports[1]))
        self.results_port = listening.getsockname()[1]
        config = uvicorn.Config(application(self._tasks), log_config=None, access_log=False, lifespan="off")
        self._web = _WebServer(config)
        self._tasks_running.append(asyncio.create_task(self._web.serve(sockets=[listening])))


def _locked(folder: Path) -> int:
    """Take the folder for this process; the kernel gives it back however the process ends."""
    lock = os.open(folder / "platform.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise SpoolInUse(f"another process serves the embedded platform in {folder}") from None
    return lock


class _WebServer(uvicorn.Server):
    """A web server that leaves signals to the process it runs in."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
