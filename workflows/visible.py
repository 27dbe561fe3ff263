"""What the Temporal UI lists of a workflow: its search attributes."""

from typing import Unpack

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from clara_dicom_adapter.temporal import attributes
    from clara_dicom_adapter.temporal.attributes import Shown, State


def show(state: State, **what: Unpack[Shown]) -> None:
    """Set the search attributes that differ from what is shown; each real change costs one history event."""
    known = workflow.info().typed_search_attributes
    wanted = [
        pair.key.value_set(pair.value) for pair in attributes.shown(state, **what) if known.get(pair.key) != pair.value
    ]
    if wanted:
        workflow.upsert_search_attributes(wanted)
