"""The embedded Temporal server: the real ``temporal server start-dev``, with a database file and the Web UI."""

import asyncio
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal import attributes, registration
from clara_dicom_adapter.temporal.children import kill_group, spawn
from clara_dicom_adapter.temporal.ports import ReservedPort

DYNAMIC_CONFIG = (
    # The default of 20 polls per second makes every step of a workflow wait for a tick of 50 ms once a burst is used
    # up: 350 ms instead of 100 ms for one signal and three activities, measured on two cores.
    "history.transferProcessorMaxPollRPS=2000",
    "history.timerProcessorMaxPollRPS=2000",
    "history.visibilityProcessorMaxPollRPS=2000",
    # One machine needs no partitioned task queues; the default of 4 costs forwarding between them: 24 workflows a
    # second instead of 34, measured likewise. Never to be lowered on a database that has had more.
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
)
PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",  # NORMAL is faster, but a power cut could forget what the spool was told is safe
)
START_SECONDS = 60.0
"""How long a server may take until it answers; a large database on a slow disk included."""
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class ServerOptions:
    """How to run a server."""

    database: Path | None
    """SQLite file of all its state; none: in memory."""
    host: str = "127.0.0.1"
    port: int = 0
    """gRPC port; 0: a free one, the same over restarts of one :class:`TemporalServer`."""
    ui_port: int = 0
    namespace: str = "default"
    retention: timedelta = timedelta(days=30)
    """How long closed workflows are kept."""


class TemporalServer:
    """One embedded server and its process.

    ``start`` and ``stop`` may be called again; everything in the database is there afterwards, also after ``kill -9``.
    """

    def __init__(self, executable: Path, options: ServerOptions) -> None:
        self._executable = executable
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._reserved: list[ReservedPort] = []
        self.port = self._reserve(options.port)
        self.ui_port = self._reserve(options.ui_port)

    def _reserve(self, wanted: int) -> int:
        """Also a configured port: who listens there already could be a Temporal server of somebody else."""
        try:
            self._reserved.append(ReservedPort(self._options.host, port=wanted))
        except OSError as error:
            self.close()
            raise TemporalUnavailable(
                f"port {wanted} of {self._options.host} cannot be had: {error.strerror}"
            ) from error
        return self._reserved[-1].port

    @property
    def address(self) -> str:
        """``host:port`` for :func:`temporal.client.connect`."""
        return f"{self._options.host}:{self.port}"

    @property
    def ui_address(self) -> str:
        """Where the Web UI is."""
        return f"http://{self._options.host}:{self.ui_port}"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise TemporalUnavailable("the embedded Temporal server has not been started")
        return self._process

    def command(self) -> Sequence[str]:
        """The command line."""
        options = self._options
        command = [str(self._executable), "server", "start-dev", "--log-level", "error"]
        command += ["--ip", options.host, "--port", str(self.port), "--ui-port", str(self.ui_port)]
        if options.database is not None:
            command += ["--db-filename", str(options.database)]
            command += [word for pragma in PRAGMAS for word in ("--sqlite-pragma", pragma)]
        if options.namespace != "default":
            command += ["--namespace", options.namespace]
        command += [word for value in DYNAMIC_CONFIG for word in ("--dynamic-config-value", value)]
        command += [word for key in attributes.ALL for word in ("--search-attribute", registration.flag(key))]
        return command

    def start(self) -> None:
        """Start the process; from the main thread, see :func:`temporal.children.spawn`."""
        if self._options.database is not None:
            self._options.database.parent.mkdir(parents=True, exist_ok=True)
        self._process = spawn(self.command(), stdout=subprocess.DEVNULL)

    async def ready(self) -> Client:
        """Wait until it answers and has our search attributes and retention; returns a client for its namespace.

        Raises:
            TemporalUnavailable: It ended, or did not answer in time.
        """
        preparing = asyncio.create_task(self._prepare_patiently())
        try:
            while not preparing.done():
                status = self.process.poll()
                if status is not None:
                    raise TemporalUnavailable(
                        f"the embedded Temporal server ended with status {status}; its own words stand before this line"
                    )
                await asyncio.wait({preparing}, timeout=0.1)
            return preparing.result()
        finally:
            preparing.cancel()

    async def _prepare_patiently(self) -> Client:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                return await self._prepare()
            except (RuntimeError, RPCError, TemporalUnavailable) as error:
                if time.monotonic() >= deadline:
                    raise TemporalUnavailable(f"the embedded Temporal server does not answer: {error}") from error
            await asyncio.sleep(0.05)

    async def _prepare(self) -> Client:
        client = await Client.connect(
            self.address, namespace=self._options.namespace, data_converter=pydantic_data_converter
        )
        await registration.set_retention(client, self._options.retention)
        await registration.register(client)
        return client

    def stop(self) -> None:
        """End the process, in order if it will; the ports stay reserved."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            kill_group(self._process)
        self._process = None

    def close(self) -> None:
        """Stop, and give the ports back."""
        self.stop()
        for port in self._reserved:
            port.close()
