"""The worker as a part: builds what ``worker.run`` needs."""

import asyncio
import math
from collections.abc import Sequence
from contextlib import closing
from typing import NoReturn

from clara_dicom_adapter import worker
from clara_dicom_adapter.activities.metrics import WorkerMetrics
from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.clara.results import ResultsServiceClient
from clara_dicom_adapter.cli.parts.entry import Part, run_part
from clara_dicom_adapter.cli.parts.temporal_watch import TemporalWatch
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.resources.opening import open_configuration
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.temporal import client as temporal
from clara_dicom_adapter.temporal import registration


def serve(part: Part) -> None:
    """Work until told to stop."""
    asyncio.run(_serve(part))


async def _serve(part: Part) -> None:
    services = part.settings.services
    watch = TemporalWatch()
    metrics = WorkerMetrics()
    part.answers(watch.status, metrics.registry)
    client = await temporal.connect(services.temporal, patience_seconds=math.inf)
    await registration.register(client)
    temporary = part.settings.storage.temporary or part.data.payloads
    platform = services.platform.endpoint or f"127.0.0.1:{services.platform.embedded_port}"
    results = services.results_service_endpoint or f"http://127.0.0.1:{services.platform.embedded_results_port}"
    engine = part.database()
    sql = ConfigurationStore(engine)
    with (
        closing(open_configuration(part.settings, lambda: sql, part.data)) as opened,
        closing(Spool.open(temporary / "spool", SpoolRole.WORKER)) as spool,
        PlatformClient(platform, services.platform.call_timeout_seconds) as platform_client,
        ResultsServiceClient(results, services.platform.call_timeout_seconds) as results_client,
    ):
        parts = worker.WorkerParts(
            settings=part.settings,
            temporary=temporary,
            spool=spool,
            engine=engine,
            configuration=opened.configuration,
            client=client,
            platform=platform_client,
            results=results_client,
            metrics=metrics,
        )
        async with watch.watching(client):
            await worker.run(parts, ready=part.ready)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the worker alone."""
    run_part("worker", serve, arguments)


if __name__ == "__main__":
    main()
