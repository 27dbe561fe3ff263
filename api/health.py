"""Whether the adapter lives, is ready, and how each of its parts is."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response
from pydantic import Field

from clara_dicom_adapter.api.callers import needs
from clara_dicom_adapter.api.dependencies import Dependencies, Deps
from clara_dicom_adapter.api.parts import PartReport, PartState
from clara_dicom_adapter.api.problems import responses
from clara_dicom_adapter.api.schemas import Schema
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.errors import DatabaseUnavailable

router = APIRouter(prefix="/health", tags=["health"])

API: Final = "api"
OPEN_ASSOCIATIONS: Final = "open_associations"
"""Key of a receiver's status."""
SERVICES: Final[Mapping[str, str | None]] = {
    "SpaceReclaimerService": "receiver",
    "JobSubmissionService": "worker",
    "DataRetrievalService": None,
    "ScpService": "receiver",
    "ScuExportService": "worker",
    "DicomWebExportService": None,
}
"""The services of 0.8, and the part that does their work here; nobody does it: Stopped."""


class Live(Schema):
    status: str = Field(examples=["Healthy"])


class RoleHealth(Schema):
    """One role: any of its parts that is ready makes it ready."""

    ready: bool
    reason: Annotated[str, Field(examples=["receiver: its process has ended"])] = ""
    warnings: Annotated[
        list[str],
        Field(
            description="What somebody should look after although it works.",
            examples=[["receiver: 1 of 2 listener processes listen"]],
        ),
    ] = []  # noqa: RUF012 - pydantic copies it


class Ready(Schema):
    status: str = Field(description="Healthy or Unhealthy.", examples=["Healthy"])
    roles: dict[str, RoleHealth]


class PartHealth(Schema):
    part: str
    role: str
    state: PartState
    ready: bool
    pid: int | None
    reason: str
    warnings: list[str] = Field(description="What somebody should look after although it works.")
    status: dict[str, Any] = Field(description="What the part says about itself.")


class Status(Schema):
    active_dimse_connections: int = Field(description="Associations open now.")
    services: dict[str, PartState] = Field(description="By the names of 0.8.")
    database: RoleHealth
    parts: list[PartHealth]


@router.get(
    "/live",
    operation_id="live",
    summary="Whether this process answers",
    responses={200: {"content": {"application/json": {"example": {"status": "Healthy"}}}}},
)
def live() -> Live:
    return Live(status="Healthy")


@router.get(
    "/ready",
    operation_id="ready",
    summary="Whether the adapter, or one role of it, can do its work",
    responses={**responses(), 503: {"model": Ready, "description": "Not ready; the roles say why."}},
)
def ready(
    deps: Deps,
    response: Response,
    role: Annotated[
        str | None,
        Query(description="receiver, worker, platform, temporal or api; none: all that are needed here."),
    ] = None,
) -> Ready:
    reports = () if role == API else deps.parts.reports()
    wanted = [role] if role else sorted({*deps.required_roles, API, *(report.role for report in reports)})
    roles = {each: _database(deps) if each == API else _role(each, reports) for each in wanted}
    healthy = all(health.ready for health in roles.values())
    response.status_code = 200 if healthy else 503
    return Ready(status="Healthy" if healthy else "Unhealthy", roles=roles)


@router.get(
    "/status",
    operation_id="status",
    summary="The state of every part",
    responses=responses(),
    dependencies=[needs(Role.READ)],
)
def status(deps: Deps) -> Status:
    reports = deps.parts.reports()
    return Status(
        active_dimse_connections=sum(_open_associations(report) for report in reports),
        services={name: _state(role, reports) for name, role in SERVICES.items()},
        database=_database(deps),
        parts=[PartHealth.model_validate(report) for report in reports],
    )


def _role(role: str, reports: Sequence[PartReport]) -> RoleHealth:
    mine = [report for report in reports if report.role == role]
    if not mine:
        return RoleHealth(ready=False, reason=f"{role}: has not been ready yet, or does not run here")
    warnings = [f"{report.part}: {warning}" for report in mine for warning in report.warnings]
    if any(report.ready for report in mine):
        return RoleHealth(ready=True, warnings=warnings)
    reason = "; ".join(f"{report.part}: {report.reason}" for report in mine)
    return RoleHealth(ready=False, reason=reason, warnings=warnings)


def _database(deps: Dependencies) -> RoleHealth:
    try:
        ConfigurationStore(deps.engine).revision()
    except DatabaseUnavailable as error:
        return RoleHealth(ready=False, reason=str(error))
    return RoleHealth(ready=True, warnings=[f"api: {warning}" for warning in deps.warnings])


def _state(role: str | None, reports: Sequence[PartReport]) -> PartState:
    """The best of the parts that do it; a part that nobody has heard of has stopped, or was never started."""
    states = {report.state for report in reports if report.role == role}
    for state in (PartState.RUNNING, PartState.UNKNOWN):
        if state in states:
            return state
    return PartState.STOPPED


def _open_associations(report: PartReport) -> int:
    number = report.status.get(OPEN_ASSOCIATIONS, 0)
    return number if isinstance(number, int) else 0
