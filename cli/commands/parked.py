"""What waits for a person: Temporal says which workflows, the records say why; updates carry the answer."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine
from temporalio.client import Client, WorkflowExecution
from temporalio.service import RPCError

from clara_dicom_adapter.api.problems import WorkflowGone, WorkflowRefused
from clara_dicom_adapter.api.workflows import Request, TemporalControl
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.configuration.web_destinations import EveryDestination
from clara_dicom_adapter.errors import NotFound, TemporalUnavailable
from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.temporal import attributes
from clara_dicom_adapter.temporal import client as temporal
from clara_dicom_adapter.workflows import names
from clara_dicom_adapter.workflows.models import JobOutcome, ReceptionState

_PATIENCE_SECONDS = 5.0
_MOST = 100_000
_SUBJECTS = {
    "ReceiveWorkflow": Subject.RECEPTION,
    "SubmissionWorkflow": Subject.SUBMISSION,
    "ExportWorkflow": Subject.EXPORT,
}


@dataclass(frozen=True)
class Parked:
    """One thing that waits.

    Attributes:
        id: Workflow id, which ``retry`` and ``discard`` take.
        item: Job key or destination, for ``--item``; empty when the whole waits.
        url: The workflow in the Temporal UI.
    """

    kind: str
    id: str
    since: datetime | None
    ae_title: str
    instances: int | None
    item: str
    why: str
    url: str = ""


@dataclass(frozen=True)
class Outcome:
    """What an answer to one workflow came to."""

    workflow_id: str
    done: bool
    changed: int
    message: str


def find(place: Place) -> list[Parked]:
    """Everything that waits for a person, the oldest first."""
    executions = asyncio.run(_executions(place))
    control = TemporalControl(place.temporal)
    with place.database() as engine:
        records = _records(engine)
        return [
            parked
            for execution in executions
            for parked in _told(execution, records.get(execution.id, {}), control.link(execution.id) or "")
        ]


def waiting_workflows(place: Place) -> list[str]:
    """Ids of the workflows that wait for a person."""
    return [execution.id for execution in asyncio.run(_executions(place))]


def workflow_of(place: Place, identifier: str) -> str:
    """The workflow of a reception, submission or export task; what is none of them is taken for a workflow's id."""
    with place.database() as engine:
        listing = Listing(engine)
        for subject in (Subject.EXPORT, Subject.SUBMISSION, Subject.RECEPTION):
            try:
                return _workflow_id(subject, listing.get(subject, identifier))
            except NotFound:
                continue
    return identifier


def destination(place: Place, name: str) -> str:
    """The name of a configured destination, as it was written there; raises NotFound."""
    with place.database() as engine:
        configuration = place.configuration(engine)
        return EveryDestination(configuration.destinations, engine).name_of(name)


def answer(place: Place, workflows: Sequence[str], request: Request) -> list[Outcome]:
    """Send a person's answer to each workflow; a refusal of one does not keep the others from theirs."""

    async def ask_all() -> list[Outcome]:
        control = TemporalControl(place.temporal)
        return [await _ask(control, workflow_id, request) for workflow_id in workflows]

    return asyncio.run(ask_all())


async def _ask(control: TemporalControl, workflow_id: str, request: Request) -> Outcome:
    try:
        done = await control.ask(workflow_id, request)
    except (WorkflowRefused, WorkflowGone) as error:
        return Outcome(workflow_id, done=False, changed=0, message=str(error))
    return Outcome(workflow_id, done=True, changed=done.changed, message=done.message)


# ---- what waits ----


async def _executions(place: Place) -> list[WorkflowExecution]:
    client = await temporal.connect(place.temporal, patience_seconds=_PATIENCE_SECONDS)
    try:
        found = [execution async for execution in _listed(client)]
    except RPCError as error:
        raise TemporalUnavailable(f"Temporal does not tell what waits: {error.message}") from error
    return sorted(found, key=lambda execution: execution.start_time)


def _listed(client: Client) -> AsyncIterator[WorkflowExecution]:
    return client.list_workflows(attributes.NEEDS_ATTENTION_QUERY)


def _records(engine: Engine) -> dict[str, Mapping[str, Any]]:
    """What is recorded of everything that waits, by workflow id."""
    listing = Listing(engine)
    found: dict[str, Mapping[str, Any]] = {}
    for subject, state in (
        (Subject.RECEPTION, ReceptionState.QUARANTINED.value),
        (Subject.SUBMISSION, attributes.State.NEEDS_ATTENTION.value),
        (Subject.EXPORT, attributes.State.NEEDS_ATTENTION.value),
    ):
        for row in listing.page(subject, Filter({"state": [state]}, limit=_MOST)).items:
            found[_workflow_id(subject, row)] = row
    return found


def _workflow_id(subject: Subject, row: Mapping[str, Any]) -> str:
    match subject:
        case Subject.EXPORT:
            return names.export(row["agent"], row["task_id"])
        case Subject.SUBMISSION:
            return str(row["submission_id"])
        case _:
            return str(row["workflow_id"])


def _told(execution: WorkflowExecution, row: Mapping[str, Any], url: str) -> Iterator[Parked]:
    """One line for what waits, or one for each job of a submission that does."""
    kind = execution.workflow_type.removesuffix("Workflow").lower()
    values = execution.typed_search_attributes
    ae_title = values.get(attributes.AE_TITLE) or ""
    since = row.get("changed_at") or execution.start_time

    def parked(instances: int | None, item: str, why: str) -> Parked:
        return Parked(kind, execution.id, since, ae_title, instances, item, why, url)

    refused = [job for job in row.get("jobs", ()) if job["state"] == JobOutcome.REFUSED.value]
    for job in refused:
        yield parked(job["instances"], job["job_key"], job["message"])
    if not refused:
        why = row.get("message") or row.get("reason") or values.get(attributes.STATE) or ""
        yield parked(values.get(attributes.INSTANCES), "", why)
