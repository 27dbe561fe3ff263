"""An embedded platform in a process that can be killed; it has no Temporal, so it runs no jobs.

``python -m support.platform_process FOLDER PORT RESULTS_PORT``
"""

import asyncio
import sys
from pathlib import Path

from clara_dicom_adapter.clara.embedded.service import PlatformService
from support.platform import NotedStarter


async def serve(folder: Path, port: int, results_port: int) -> None:
    definitions = folder / "definitions"
    definitions.mkdir(parents=True, exist_ok=True)
    service = PlatformService(
        folder / "platform", definitions, port=port, results_port=results_port, result_retry_delay_seconds=0.5
    )
    await service.start(NotedStarter())
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), *map(int, sys.argv[2:])))
