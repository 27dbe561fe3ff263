"""An embedded platform on loopback, without Temporal, and a client for it."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from clara_dicom_adapter.clara.embedded.jobs import Job
from clara_dicom_adapter.clara.embedded.service import PlatformService
from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.errors import TemporalUnavailable

COPY = """
name: copy
parameters: {greeting: hello}
operators:
  - name: copy
    command:
      - python
      - -c
      - |
        import os, shutil
        shutil.copytree(os.environ["MONAI_INPUTPATH"], os.environ["MONAI_OUTPUTPATH"], dirs_exist_ok=True)
        print("{greeting}")
register-results:
  - agent: ClaraSCU
    destinations: [PACS1, PACS2]
    from: copy
"""


class NotedStarter:
    """Stands for Temporal: notes what it was asked for, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.started: list[str] = []
        self.cancelled: list[str] = []
        self.asked = threading.Event()

    async def start(self, job: Job) -> None:
        self.asked.set()
        if self.away:
            raise TemporalUnavailable("away")
        self.started.append(job.job_id)

    async def cancel(self, job: Job) -> None:
        self.cancelled.append(job.job_id)


class RunningPlatform:
    """A platform with an event loop in a thread of its own, as its process has one."""

    def __init__(self, folder: Path, **options: object) -> None:
        self.folder = folder
        self.pipelines = folder / "definitions"
        self.pipelines.mkdir(parents=True, exist_ok=True)
        self.starter = NotedStarter()
        self.service = PlatformService(folder / "platform", self.pipelines, **options)  # type: ignore[arg-type]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.service.start(self.starter), self._loop).result(20)
        self.client = PlatformClient(self.service.endpoint, call_timeout=20)

    def stop(self) -> None:
        self.client.close()
        asyncio.run_coroutine_threadsafe(self.service.stop(0.2), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self.service.close()


def await_true(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look until something holds."""
    waited = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        waited.wait(0.02)
    pytest.fail("the condition did not come true")
