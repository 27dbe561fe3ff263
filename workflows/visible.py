"""What the Temporal UI lists of a workflow: its search attributes."""

from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate

with workflow.unsafe.imports_passed_through():
    from clara_dicom_adapter.temporal import attributes
    from clara_dicom_adapter.temporal.attributes import State


def show(
    state: State,
    *,
    ae_title: str = "",
    calling_ae_title: str = "",
    instances: int | None = None,
    incomplete: bool = False,
    pipelines: Sequence[str] = (),
    job_ids: Sequence[str] = (),
    destinations: Sequence[str] = (),
    node_id: str = "",
) -> None:
    """Set the search attributes that differ from what is shown; each real change costs one history event."""
    shown = workflow.info().typed_search_attributes
    wanted: list[SearchAttributeUpdate[Any]] = []

    def want(key: Any, value: Any, *, unless: object = None) -> None:
        if value != unless and shown.get(key) != value:
            wanted.append(key.value_set(value))

    want(attributes.STATE, state.value)
    want(attributes.AE_TITLE, ae_title, unless="")
    want(attributes.CALLING_AE_TITLE, calling_ae_title, unless="")
    want(attributes.INSTANCES, instances)
    want(attributes.INCOMPLETE, incomplete, unless=False)
    want(attributes.PIPELINE, list(pipelines), unless=[])
    want(attributes.JOB_ID, list(job_ids), unless=[])
    want(attributes.DESTINATION, list(destinations), unless=[])
    want(attributes.NODE, node_id, unless="")
    if wanted:
        workflow.upsert_search_attributes(wanted)
