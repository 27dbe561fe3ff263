"""Log levels, changed while the adapter runs, in every part that works on this part's data folder."""

from collections.abc import Mapping
from typing import Any, Final

import structlog
from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from clara_dicom_adapter.api.bodies import JsonBody
from clara_dicom_adapter.api.callers import caller_of, needs
from clara_dicom_adapter.api.problems import responses
from clara_dicom_adapter.api.schemas import Schema
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.configuration.run_time_levels import CATEGORY_PATTERN, RunTimeLevels
from clara_dicom_adapter.errors import ConfigurationInvalid
from clara_dicom_adapter.log_levels import LEVELS

log = structlog.get_logger("clara_dicom_adapter.api")

_EXAMPLE: Final = {"Nvidia.Clara.DicomAdapter.Server.Services.Scp": "Debug"}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "propertyNames": {"pattern": CATEGORY_PATTERN},
                    "additionalProperties": {"type": "string", "enum": list(LEVELS)},
                },
                "example": _EXAMPLE,
            }
        },
    }
}


class LogLevels(Schema):
    """Levels by category; the longest category that fits a line counts."""

    levels: dict[str, str] = Field(
        description="What is configured and changed.", examples=[{"Default": "Information", **_EXAMPLE}]
    )
    changed: dict[str, str] = Field(
        description="What has been changed since the adapter was started.", examples=[_EXAMPLE]
    )


class ChangedLogLevels(LogLevels):
    """The levels after a change."""

    told: list[str] = Field(description="The running parts that take them now.", examples=[["api", "receiver"]])


def router(run_time_levels: RunTimeLevels) -> APIRouter:
    """The routes.

    Args:
        run_time_levels: Those of the parts that work on the API part's data folder.
    """
    routes = APIRouter(prefix="/api/logging", tags=["operations"])

    @routes.get(
        "/levels",
        operation_id="getLogLevels",
        summary="Log levels, by category",
        responses=responses(400),
        dependencies=[needs(Role.READ)],
    )
    def get_levels() -> LogLevels:
        return LogLevels(levels=run_time_levels.in_force(), changed=run_time_levels.changed())

    @routes.put(
        "/levels",
        operation_id="changeLogLevels",
        summary="Change log levels until the adapter is started again; in the place of all changes before",
        responses=responses(400, 413, 415),
        openapi_extra=_BODY,
        dependencies=[needs(Role.CONFIGURE)],
    )
    async def put_levels(request: Request, body: JsonBody) -> ChangedLogLevels:
        if not isinstance(body, Mapping):
            raise ConfigurationInvalid(["An object of categories and levels is expected."])
        told = await run_in_threadpool(run_time_levels.replace, body)
        found = await run_in_threadpool(get_levels)
        value = ", ".join(f"{category}={level}" for category, level in sorted(found.changed.items()))
        log.warning("log_levels_changed", value=value, name=caller_of(request).name)
        return ChangedLogLevels(**found.model_dump(), told=told)

    return routes
