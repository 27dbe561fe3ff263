"""The sandbox that workers run workflows in: the SDK's, with the modules named that need not be loaded for every run.

A sandbox loads each module that workflow code imports anew for every workflow, some 15 ms of processor time for one of
ours; that was the largest part of what a group cost. What is named here is loaded once per process instead. It keeps no
state and calls neither clock nor chance; the modules with the workflows themselves are loaded in the sandbox as ever,
and ``tests/workflows`` runs all of them in the SDK's strict one.
"""

from typing import Final

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

_LOADED_ONCE: Final = (
    "clara_dicom_adapter.activities",
    "clara_dicom_adapter.errors",
    "clara_dicom_adapter.temporal",
    "clara_dicom_adapter.workflows.group",
    "clara_dicom_adapter.workflows.models",
    "clara_dicom_adapter.workflows.names",
    "clara_dicom_adapter.workflows.nodes",
    "clara_dicom_adapter.workflows.policies",
    "clara_dicom_adapter.workflows.visible",
)


def runner() -> SandboxedWorkflowRunner:
    """For ``Worker(workflow_runner=...)``."""
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*_LOADED_ONCE))
