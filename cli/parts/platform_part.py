"""The embedded Clara Platform as a part: its services, and the worker that runs its jobs.

The services answer at once; jobs that are started while Temporal is away run when it is back.
"""

import asyncio
import math
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NoReturn

import structlog
from temporalio.worker import Worker

from clara_dicom_adapter.activities.interceptor import ErrorInterceptor
from clara_dicom_adapter.activities.operators import HEARTBEAT_THROTTLE, PlatformJobActivities
from clara_dicom_adapter.clara.embedded.service import PlatformService
from clara_dicom_adapter.clara.embedded.starter import TemporalJobStarter
from clara_dicom_adapter.cli.parts.entry import Part, run_part
from clara_dicom_adapter.cli.parts.temporal_watch import TemporalWatch
from clara_dicom_adapter.temporal import client as temporal
from clara_dicom_adapter.temporal import queues, registration
from clara_dicom_adapter.workflows import sandbox
from clara_dicom_adapter.workflows.platform_job import PlatformJobWorkflow

log = structlog.get_logger("clara_dicom_adapter.clara")

OPERATORS_AT_ONCE: Final = 4
"""They compute; more would only take the processors from each other and from the receiver."""


def serve(part: Part) -> None:
    """Serve until told to stop."""
    asyncio.run(_serve(part))


async def _serve(part: Part) -> None:
    settings = part.settings.services.platform
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    service = PlatformService(
        part.data.platform,
        settings.pipelines or part.data.pipelines,
        host=settings.embedded_host,
        port=settings.embedded_port,
        results_port=settings.embedded_results_port,
        allow_pipeline_creation=settings.allow_pipeline_creation,
        payload_retention_hours=settings.payload_retention_hours,
        result_retry_delay_seconds=settings.result_retry_delay_seconds,
    )
    await service.start(TemporalJobStarter(await temporal.connect(part.settings.services.temporal, lazy=True)))
    watch = TemporalWatch()
    part.answers(watch.status)
    part.ready(platform=service.endpoint, results_service=service.results_endpoint)
    working = asyncio.create_task(_work(part, service, watch))
    stopping = asyncio.create_task(told.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if working.done():
            working.result()  # it only ends by failing
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await service.stop()
        service.close()


async def _work(part: Part, service: PlatformService, watch: TemporalWatch) -> None:
    """Run started jobs, as soon as Temporal is there."""
    # the worker cannot share the lazy client of the starter: the SDK wants a connected one
    client = await temporal.connect(part.settings.services.temporal, patience_seconds=math.inf)
    await registration.register(client)
    with ThreadPoolExecutor(OPERATORS_AT_ONCE, thread_name_prefix="operator") as threads:
        worker = Worker(
            client,
            task_queue=queues.PLATFORM,
            workflows=[PlatformJobWorkflow],
            workflow_runner=sandbox.runner(),
            activities=PlatformJobActivities(service.runner).all(),
            activity_executor=threads,
            max_concurrent_activities=OPERATORS_AT_ONCE,
            max_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            default_heartbeat_throttle_interval=HEARTBEAT_THROTTLE,
            interceptors=[ErrorInterceptor()],
        )
        async with watch.watching(client):
            await worker.run()


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the embedded platform alone."""
    run_part("platform", serve, arguments)


if __name__ == "__main__":
    main()
