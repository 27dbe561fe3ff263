"""The guards against workflow code that a restart could not replay: sandbox, committed histories, fingerprints.

The fourth guard, the import contract, is in .importlinter.
"""

import importlib
import importlib.util
import inspect
import json
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

import clara_dicom_adapter.workflows

HISTORIES = sorted((Path(__file__).parents[1] / "replay").glob("*/*.json"))


def every_workflow() -> list[type]:
    found: dict[str, type] = {}
    room = clara_dicom_adapter.workflows
    for module in pkgutil.iter_modules(room.__path__):
        loaded = importlib.import_module(f"{room.__name__}.{module.name}")
        for _, member in inspect.getmembers(loaded, inspect.isclass):
            if hasattr(member, "__temporal_workflow_definition"):
                found[member.__name__] = member
    return list(found.values())


def fingerprint_module() -> ModuleType:
    path = Path(__file__).with_name("fingerprint.py")
    spec = importlib.util.spec_from_file_location("fingerprint", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("definition", every_workflow(), ids=lambda each: str(each.__name__))
async def test_every_workflow_loads_in_the_sandbox(definition: type) -> None:
    SandboxedWorkflowRunner().prepare_workflow(workflow._Definition.must_from_class(definition))


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: f"{path.parent.name}-{path.stem}")
async def test_committed_histories_replay(path: Path) -> None:
    """What an earlier version of the code recorded must lead the present code to the same commands."""
    recorded = json.loads(path.read_text())
    workflow_id = recorded["events"][0]["workflowExecutionStartedEventAttributes"]["workflowId"]
    history = WorkflowHistory.from_json(workflow_id, recorded)
    replayer = Replayer(workflows=every_workflow(), data_converter=pydantic_data_converter)
    await replayer.replay_workflow(history)


def test_there_is_a_committed_history_of_every_workflow() -> None:
    assert {path.parent.name for path in HISTORIES} >= {each.__name__ for each in every_workflow()}


def test_no_workflow_issues_other_commands_than_those_committed() -> None:
    module = fingerprint_module()
    assert module.fingerprints() == module.committed(), (
        "the commands of a workflow have changed: gate the change with workflow.patched(), then write the list anew "
        "with: python tests/workflows/fingerprint.py"
    )
