"""The interface over real HTTP, on a real SQLite file, with parts that are real status servers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine

from clara_dicom_adapter.api import Dependencies, RunFolder, create_app
from clara_dicom_adapter.api.problems import WorkflowGone
from clara_dicom_adapter.api.server import serve
from clara_dicom_adapter.configuration.settings import ApiSettings, DataFolder
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.workflows.models import Answer, DiscardInput, RetryInput, SendElsewhereInput


@dataclass
class RecordedControl:
    """Keeps what is asked of workflows; those in ``gone`` have ended."""

    asked: list[tuple[str, RetryInput | SendElsewhereInput | DiscardInput]] = field(
        default_factory=list[tuple[str, RetryInput | SendElsewhereInput | DiscardInput]]
    )
    gone: set[str] = field(default_factory=set[str])

    async def ask(self, workflow_id: str, request: RetryInput | SendElsewhereInput | DiscardInput) -> Answer:
        if workflow_id in self.gone:
            raise WorkflowGone(f"{workflow_id} has ended")
        self.asked.append((workflow_id, request))
        return Answer(changed=1, message="done")

    def link(self, workflow_id: str) -> str | None:
        return f"http://temporal/{workflow_id}"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine("", DataFolder(tmp_path))
    yield engine
    engine.dispose()


@pytest.fixture
def control() -> RecordedControl:
    return RecordedControl()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
async def api(engine: Engine, control: RecordedControl, run_folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that listens on a free port."""
    parts = RunFolder(run_folder)
    app = create_app(Dependencies(ConfigurationStore(engine), engine, parts, control))
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(app, ApiSettings(port=0), port.set_result, stop))
    await asyncio.wait({serving, port}, return_when=asyncio.FIRST_COMPLETED)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.result()}", trust_env=False) as client:
        yield client
    stop.set()
    await serving
    parts.close()
