"""The interface over real HTTP, on a real SQLite file, with parts that are real status servers."""

import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine
from support.api import dependencies, serving

from clara_dicom_adapter.api.problems import WorkflowGone
from clara_dicom_adapter.configuration.settings import DataFolder
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


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with all its tables, made once, because that takes longer than most tests."""
    data = DataFolder(tmp_path_factory.mktemp("migrated"))
    open_engine("", data).dispose()
    return data.database


@pytest.fixture
def engine(tmp_path: Path, migrated: Path) -> Iterator[Engine]:
    data = DataFolder(tmp_path)
    shutil.copyfile(migrated, data.database)
    engine = open_engine("", data)
    yield engine
    engine.dispose()


@pytest.fixture
def control() -> RecordedControl:
    return RecordedControl()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
async def api(tmp_path: Path, engine: Engine, control: RecordedControl) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server that listens on a free port."""
    async with serving(replace(dependencies(engine, DataFolder(tmp_path)), workflows=control)) as client:
        yield client
