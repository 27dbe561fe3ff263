"""Who is asked for exports: both of our agents, whatever they are called."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.common import WorkflowIDConflictPolicy

from clara_dicom_adapter import worker
from clara_dicom_adapter.configuration.settings import Settings


class Started:
    """Stands for Temporal, and notes what is started."""

    def __init__(self) -> None:
        self.agents: list[str] = []

    async def start_workflow(self, _run: object, given: Any, **options: Any) -> None:
        assert options["id_conflict_policy"] is WorkflowIDConflictPolicy.USE_EXISTING
        self.agents.append(given.agent)


@pytest.mark.parametrize(
    ("scu", "agents"),
    [
        ({}, ["ClaraSCU", "DICOMweb"]),
        ({"aeTitle": "LUNGS", "export": {"agent": "web"}}, ["LUNGS", "web"]),
        ({"aeTitle": "DICOMweb"}, ["DICOMweb"]),
    ],
)
async def test_tasks_of_both_agents_are_asked_for_once(scu: dict[str, object], agents: list[str]) -> None:
    client = Started()
    settings = Settings.model_validate({"dicom": {"scu": scu}})
    await worker._start_pollers(cast(worker.WorkerParts, SimpleNamespace(client=client, settings=settings)))
    assert client.agents == agents
