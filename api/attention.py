"""What waits for a person, and the person's answer: go on, or give up."""

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Body, Path
from fastapi.concurrency import run_in_threadpool

from clara_dicom_adapter.api import schemas
from clara_dicom_adapter.api.callers import needs
from clara_dicom_adapter.api.dependencies import Dependencies, Deps
from clara_dicom_adapter.api.lists import SUBJECTS, links
from clara_dicom_adapter.api.problems import WorkflowGone, WorkflowRefused, responses
from clara_dicom_adapter.api.workflows import Request
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.configuration.web_destinations import EveryDestination
from clara_dicom_adapter.records.listing import Filter, Listing
from clara_dicom_adapter.temporal.attributes import WAITING_FOR_A_PERSON
from clara_dicom_adapter.workflows.models import Answer, DiscardInput, ReceptionState, RetryInput, SendElsewhereInput

router = APIRouter(prefix="/api")

SubjectName = Annotated[Literal["receptions", "submissions", "exports"], Path(description="What waits.")]
Verb = Annotated[Literal["retry", "discard"], Path(description="Go on with it, or give it up.")]
Identifier = Annotated[str, Path(description="As `/api/attention` tells it.")]

WAITING_STATES: Final = [*sorted(state.value for state in WAITING_FOR_A_PERSON), ReceptionState.QUARANTINED.value]
_AT_ONCE: Final = 16
_PAGE: Final = 500
Choice = Annotated[schemas.Decision | None, Body()]


@router.get(
    "/attention",
    tags=["operations"],
    operation_id="listAttention",
    summary="What waits for a person: quarantined groups, refused jobs, failed exports",
    dependencies=[needs(Role.READ)],
    responses=responses(503),
)
def list_attention(deps: Deps) -> list[schemas.AttentionItem]:
    return [_item(deps, subject, row) for subject, row in _waiting(deps)]


@router.post(
    "/attention/{verb}",
    tags=["operations"],
    operation_id="answerAll",
    summary="Retry or discard everything that waits for a person",
    dependencies=[needs(Role.OPERATE)],
    responses=responses(400, 422, 503),
)
async def answer_all(verb: Verb, deps: Deps, decision: Choice = None) -> list[schemas.Outcome]:
    waiting = await run_in_threadpool(_waiting, deps)
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def one(subject: str, row: Mapping[str, Any]) -> schemas.Outcome:
        async with at_once:
            try:
                answer, done = await _ask(deps, subject, row, verb, decision), True
            except (WorkflowGone, WorkflowRefused) as error:
                answer, done = Answer(changed=0, message=str(error)), False
            return _outcome(subject, row, answer, done=done)

    return list(await asyncio.gather(*(one(subject, row) for subject, row in waiting)))


@router.post(
    "/{subject}/{key}/{verb}",
    tags=["operations"],
    operation_id="answerOne",
    summary="Retry or discard what waits in one group, submission or export",
    dependencies=[needs(Role.OPERATE)],
    responses=responses(400, 404, 409, 422, 503),
)
async def answer_one(
    subject: SubjectName, key: Identifier, verb: Verb, deps: Deps, decision: Choice = None
) -> schemas.Outcome:
    row = await run_in_threadpool(Listing(deps.engine).get, SUBJECTS[subject], key)
    answer = await _ask(deps, subject, row, verb, decision)
    return _outcome(subject, row, answer, done=True)


def _waiting(deps: Dependencies) -> list[tuple[str, Mapping[str, Any]]]:
    """By the records, so that the list is there when Temporal is not."""
    listing = Listing(deps.engine)
    found: list[tuple[str, Mapping[str, Any]]] = []
    for subject, table in SUBJECTS.items():
        offset, total = 0, 1
        while offset < total:
            page = listing.page(table, Filter({"state": WAITING_STATES}, limit=_PAGE, offset=offset))
            found += [(subject, row) for row in page.items]
            offset, total = offset + _PAGE, page.total
    return found


async def _ask(
    deps: Dependencies, subject: str, row: Mapping[str, Any], verb: Verb, decision: schemas.Decision | None
) -> Answer:
    item = decision.item if decision else None
    request: Request
    if verb == "discard":
        request = DiscardInput(item=item, reason=_reason(decision))
    elif decision is not None and decision.to is not None:
        if subject != "exports":
            raise WorkflowRefused(f"only exports can be sent to another destination, not {subject}")
        name = await run_in_threadpool(
            EveryDestination(deps.configuration.destinations, deps.engine).name_of, decision.to
        )
        request = SendElsewhereInput(destination=name, instead_of=item)
    else:
        request = RetryInput(item=item)
    return await deps.workflows.ask(schemas.workflow_id(subject, row), request)


def _reason(decision: schemas.Decision | None) -> str:
    return decision.reason if decision else ""


def _item(deps: Dependencies, subject: str, row: Mapping[str, Any]) -> schemas.AttentionItem:
    workflow = schemas.workflow_id(subject, row)
    key = str(row[SUBJECTS[subject].key])
    message = row.get("message") or row.get("reason") or ""
    if subject == "submissions":
        message = "; ".join(f"{job['job_key']}: {job['message']}" for job in row["jobs"] if job["message"])
    return schemas.AttentionItem(
        subject=subject,
        id=key,
        workflow_id=workflow,
        state=row["state"],
        called_ae_title=row.get("called_ae_title"),
        instances=row["instances"] if "instances" in row else row["objects"],
        message=message,
        since=row["changed_at"],
        links=links(deps, workflow, key),
    )


def _outcome(subject: str, row: Mapping[str, Any], answer: Answer, *, done: bool) -> schemas.Outcome:
    return schemas.Outcome(
        subject=subject,
        id=str(row[SUBJECTS[subject].key]),
        workflow_id=schemas.workflow_id(subject, row),
        done=done,
        changed=answer.changed,
        message=answer.message,
    )
