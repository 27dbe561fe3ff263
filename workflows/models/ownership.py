"""Whose instances are, and in which node's spool they lie."""

from clara_dicom_adapter.workflows.models.payload import Payload


class Owner(Payload):
    """Who a batch belongs to: a workflow execution chain, and which of its groups."""

    workflow_id: str
    run_id: str = ""
    group: int = 0


class HeldNode(Payload):
    """How much of a group lies in one node's spool."""

    node_id: str
    instances: int
    bytes: int
