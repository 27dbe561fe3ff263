"""The sandbox that workers run workflows in: the SDK's, with the modules named that need not be loaded for every run.

A sandbox loads each module that workflow code imports anew for every workflow, some 15 ms of processor time for one of
ours; that was the largest part of what a group cost. What is named here is loaded once per process instead. It keeps no
state and calls neither clock nor chance; the modules with the workflows themselves are loaded in the sandbox as ever,
and ``tests/workflows`` runs all of them in the SDK's strict one.

The SDK also asks a workflow several times per payload which serialization context it has, each time by code compiled
anew and run in its sandbox: another 15 ms per group. Our payloads are pydantic's JSON, the same in every context, so
that question is answered here.
"""

from typing import Final

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.converter import StorageDriverStoreContext
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import Info

_LOADED_ONCE: Final = (
    "clara_dicom_adapter.activities",
    "clara_dicom_adapter.errors",
    "clara_dicom_adapter.temporal",
    "clara_dicom_adapter.workflows.group",
    "clara_dicom_adapter.workflows.models",
    "clara_dicom_adapter.workflows.names",
    "clara_dicom_adapter.workflows.nodes",
    "clara_dicom_adapter.workflows.policies",
    "clara_dicom_adapter.workflows.sender",
    "clara_dicom_adapter.workflows.visible",
)


class _WithoutContext(WorkflowInstance):
    """A workflow in its sandbox, whose payloads are converted alike everywhere."""

    def __init__(self, sandboxed: WorkflowInstance) -> None:
        self._sandboxed = sandboxed

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        return self._sandboxed.activate(act)

    def get_serialization_context(self, command_info: object) -> None:
        del command_info

    def get_external_store_context(self, command_info: object) -> StorageDriverStoreContext:
        del command_info
        return StorageDriverStoreContext(target=None)

    def get_info(self) -> Info:
        return self._sandboxed.get_info()

    def get_thread_id(self) -> int | None:
        return self._sandboxed.get_thread_id()


class _Runner(SandboxedWorkflowRunner):
    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        return _WithoutContext(super().create_instance(det))


def runner() -> SandboxedWorkflowRunner:
    """For ``Worker(workflow_runner=...)``."""
    return _Runner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*_LOADED_ONCE))
