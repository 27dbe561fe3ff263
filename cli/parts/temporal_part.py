"""The embedded Temporal server as a part: found or built, started, watched, stopped."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import NoReturn

from clara_dicom_adapter.cli.part_process import INVALID_CONFIGURATION
from clara_dicom_adapter.cli.parts.entry import Part, run_part
from clara_dicom_adapter.errors import TemporalUnavailable
from clara_dicom_adapter.temporal import finding
from clara_dicom_adapter.temporal.server import ServerOptions, TemporalServer


def serve(part: Part) -> int:
    """Serve until told to stop; 1 when the server ended by itself."""
    settings = part.settings.services.temporal
    try:
        executable = finding.find()
    except TemporalUnavailable as error:
        sys.stderr.write(f"{error}\n")
        return INVALID_CONFIGURATION  # starting this part again would not install anything
    server = TemporalServer(
        executable,
        ServerOptions(
            database=part.data.temporal_database,
            port=settings.embedded_port,
            ui_port=settings.embedded_ui_port,
            namespace=settings.namespace,
            retention=timedelta(days=settings.retention_days),
        ),
    )
    try:
        return asyncio.run(_watch(part, server))
    finally:
        server.close()


async def _watch(part: Part, server: TemporalServer) -> int:
    loop = asyncio.get_running_loop()
    told, ended = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    server.start()
    process = os.pidfd_open(server.process.pid)
    loop.add_reader(process, ended.set)
    starting = asyncio.create_task(server.ready())
    waits = [asyncio.create_task(event.wait()) for event in (told, ended)]
    try:
        await asyncio.wait([starting, waits[0]], return_when=asyncio.FIRST_COMPLETED)
        if told.is_set():
            return 0
        await starting
        part.ready(temporal=server.address, temporal_ui=server.ui_address)
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return 0 if told.is_set() else 1
    finally:
        loop.remove_reader(process)
        os.close(process)
        for task in (starting, *waits):
            task.cancel()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    run_part("temporal", serve, arguments)


if __name__ == "__main__":
    main()
