"""Lists of what has been recorded, and the timeline of an object."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Path, Query
from pydantic import BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from clara_dicom_adapter.api import schemas
from clara_dicom_adapter.api.callers import needs
from clara_dicom_adapter.api.dependencies import Dependencies, Deps
from clara_dicom_adapter.api.problems import responses
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.errors import NotFound
from clara_dicom_adapter.records.listing import Filter, Listing, Subject
from clara_dicom_adapter.records.trace import Tracer

router = APIRouter(prefix="/api", dependencies=[needs(Role.READ)])

SUBJECTS = {"receptions": Subject.RECEPTION, "submissions": Subject.SUBMISSION, "exports": Subject.EXPORT}

PageT = TypeVar("PageT", bound=schemas.Listed[Any])


def _written_out(value: object) -> object:
    """Numbers would be read as seconds since 1970, and years that no database has as they stand."""
    if not isinstance(value, str) or not re.match(r"(19|2[0-9])[0-9]{2}-", value):
        raise ValueError("a time in the form of RFC 3339 is expected, such as 2024-05-01T08:00:00Z")
    return value


Moment = Annotated[datetime, BeforeValidator(_written_out)]


TaskId = Annotated[str, Path(description="Of the task, as the Results Service calls it.")]


class PageQuery(schemas.Schema):
    """Which page of what."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    state: list[str] = Field(default=[], description="One or several states; none: all.")
    since: Moment | None = Field(None, description="Not older than this (RFC 3339; UTC without an offset).")
    until: Moment | None = Field(None, description="Older than this.")
    limit: int = Field(50, ge=1, le=500, description="How many at most.")
    offset: int = Field(0, ge=0, le=10_000_000, description="How many to pass over.")

    def filter(self) -> Filter:
        """As the records take it: what is no question of the page is a column's value."""
        common = set(PageQuery.model_fields) - {"state"}
        equal = {
            name: value if isinstance(value, list) else [value]
            for name, value in self.model_dump(exclude=common, exclude_none=True).items()
        }
        return Filter(equal, _utc(self.since), _utc(self.until), self.limit, self.offset)


class AeTitleQuery(PageQuery):
    called_ae_title: str | None = Field(None, description="Only of this AE title of ours.")
    calling_ae_title: str | None = Field(None, description="Only of this sender.")


class JobQuery(PageQuery):
    pipeline: str | None = Field(None, description="Only of this pipeline, as the AE title names it.")
    submission_id: str | None = Field(None, description="Only of this submission.")


class ExportQuery(PageQuery):
    agent: str | None = Field(None, description="Only of this agent.")
    job_id: str | None = Field(None, description="Only of this job.")


class ExportObjectQuery(schemas.Schema):
    """Which objects of an export."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid")

    destination: list[str] = Field(default=[], description="Only at these destinations.")
    verdict: list[str] = Field(default=[], description="Only these verdicts.")
    limit: int = Field(50, ge=1, le=500, description="How many at most.")
    offset: int = Field(0, ge=0, le=10_000_000, description="How many to pass over.")


def links(deps: Dependencies, workflow_id: str | None, identifier: str) -> schemas.Links:
    return schemas.Links(
        temporal=deps.workflows.link(workflow_id) if workflow_id else None,
        trace=f"/api/trace/{quote(identifier, safe='')}",
    )


def _utc(time: datetime | None) -> datetime | None:
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _listed(deps: Dependencies, subject: Subject, kind: type[PageT], query: PageQuery) -> PageT:
    listing = Listing(deps.engine)
    page = listing.page(subject, query.filter())
    return kind.model_validate(
        {
            "items": [{**row, "links": _links_of(deps, subject, row)} for row in page.items],
            "total": page.total,
            "limit": query.limit,
            "offset": query.offset,
            "states": listing.counts(subject),
        }
    )


def _links_of(deps: Dependencies, subject: Subject, row: Mapping[str, Any]) -> schemas.Links:
    workflow = None if subject is Subject.ASSOCIATION else schemas.workflow_id(f"{subject.name.lower()}s", row)
    identifier = row[subject.key] or row["submission_id"]  # a job that was not created has no id
    return links(deps, workflow, str(identifier))


@router.get(
    "/associations",
    tags=["records"],
    operation_id="listAssociations",
    summary="Associations, rejected ones too",
    responses=responses(422, 503),
)
def list_associations(deps: Deps, query: Annotated[AeTitleQuery, Query()]) -> schemas.Listed[schemas.Association]:
    return _listed(deps, Subject.ASSOCIATION, schemas.Listed[schemas.Association], query)


@router.get(
    "/receptions",
    tags=["records"],
    operation_id="listReceptions",
    summary="Groups of instances, and what became of them",
    responses=responses(422, 503),
)
def list_receptions(deps: Deps, query: Annotated[AeTitleQuery, Query()]) -> schemas.Listed[schemas.Reception]:
    return _listed(deps, Subject.RECEPTION, schemas.Listed[schemas.Reception], query)


@router.get(
    "/submissions",
    tags=["records"],
    operation_id="listSubmissions",
    summary="Submissions to the Clara Platform, with their jobs",
    responses=responses(422, 503),
)
def list_submissions(deps: Deps, query: Annotated[AeTitleQuery, Query()]) -> schemas.Listed[schemas.Submission]:
    return _listed(deps, Subject.SUBMISSION, schemas.Listed[schemas.Submission], query)


@router.get(
    "/jobs",
    tags=["records"],
    operation_id="listJobs",
    summary="Jobs, and how they ended on the Clara Platform",
    responses=responses(422, 503),
)
def list_jobs(deps: Deps, query: Annotated[JobQuery, Query()]) -> schemas.Listed[schemas.ListedJob]:
    return _listed(deps, Subject.JOB, schemas.Listed[schemas.ListedJob], query)


@router.get(
    "/exports",
    tags=["records"],
    operation_id="listExports",
    summary="Exports of results, with what each destination has got",
    responses=responses(422, 503),
)
def list_exports(deps: Deps, query: Annotated[ExportQuery, Query()]) -> schemas.Listed[schemas.Export]:
    return _listed(deps, Subject.EXPORT, schemas.Listed[schemas.Export], query)


@router.get(
    "/exports/{task_id}",
    tags=["records"],
    operation_id="getExport",
    summary="One export, with what each destination has got",
    responses=responses(404, 503),
)
def get_export(task_id: TaskId, deps: Deps) -> schemas.Export:
    row = Listing(deps.engine).get(Subject.EXPORT, task_id)
    return schemas.Export.model_validate({**row, "links": _links_of(deps, Subject.EXPORT, row)})


@router.get(
    "/exports/{task_id}/objects",
    tags=["records"],
    operation_id="listExportObjects",
    summary="The objects of an export: what became of each at each destination, and why",
    responses=responses(404, 422, 503),
)
def list_export_objects(
    task_id: TaskId, deps: Deps, query: Annotated[ExportObjectQuery, Query()]
) -> schemas.ExportObjects:
    page = Listing(deps.engine).export_objects(
        task_id,
        Filter({"destination": query.destination, "verdict": query.verdict}, limit=query.limit, offset=query.offset),
    )
    return schemas.ExportObjects.model_validate(
        {"items": page.items, "total": page.total, "limit": query.limit, "offset": query.offset}
    )


@router.get(
    "/trace/{identifier}",
    tags=["records"],
    operation_id="trace",
    summary="Where a study, series, instance, association, group, job or export is and has been",
    responses=responses(404, 503),
)
def trace(
    identifier: Annotated[str, Path(description="Of a study, series, instance, association, group, job or export.")],
    deps: Deps,
) -> schemas.Timeline:
    found = Tracer(deps.engine).trace(identifier)
    if found.kind is None:
        raise NotFound("study, series, instance, association, group, job or export", identifier)
    return schemas.Timeline(
        identifier=found.identifier,
        kind=found.kind,
        events=[schemas.Line.model_validate(event) for event in found.events],
    )
