"""Errors as problem documents (RFC 9457), with the titles of original-behaviour 1.15."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from clara_dicom_adapter.errors import (
    AdapterError,
    ConfigurationInvalid,
    DatabaseUnavailable,
    KubernetesUnavailable,
    NotFound,
    TemporalUnavailable,
)

log = structlog.get_logger("clara_dicom_adapter.api")

MEDIA_TYPE: Final = "application/problem+json"


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"title": "Not found.", "status": 404, "detail": "..."}]})

    title: str = Field(description="What kind of problem this is; the same for all of its kind.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong in this case, a line for each thing.")


class WorkflowRefused(Exception):
    """A workflow does not do what was asked of it, and says why."""


class WorkflowGone(Exception):
    """The workflow has ended, or Temporal does not know it."""


class ForeignRequest(Exception):
    """A browser sent it for a page that is not ours."""


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For OpenAPI: these statuses come with a problem document."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in (*statuses, 500)
    }


def problem(status: int, title: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    document = Problem(title=title, status=status, detail=detail)
    return JSONResponse(document.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def of(error: Exception) -> JSONResponse:
    """The problem document of one of our errors."""
    detail = str(error)
    match error:
        case ConfigurationInvalid():
            return problem(400, "Validation error.", detail)
        case NotFound():
            return problem(404, "Not found.", detail)
        case WorkflowGone():
            return problem(404, "Nothing waits here any more.", detail)
        case WorkflowRefused():
            return problem(409, "The workflow refuses.", detail)
        case ForeignRequest():
            return problem(403, "Forbidden.", detail)
        case DatabaseUnavailable():
            return problem(503, "Error querying database.", detail, {"Retry-After": "5"})
        case KubernetesUnavailable():
            return problem(503, "Kubernetes is unavailable.", detail, {"Retry-After": "5"})
        case TemporalUnavailable():
            return problem(503, "Temporal is unavailable.", detail, {"Retry-After": "5"})
    return problem(500, "Internal error.", f"The cause is in the log ({type(error).__name__}).")


def install(app: FastAPI) -> None:
    """Answer every error with a problem document, the framework's own too."""
    for kind in (AdapterError, WorkflowRefused, WorkflowGone, ForeignRequest):
        app.add_exception_handler(kind, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    del request
    return of(error)


async def _http(request: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    phrase = HTTPStatus(status).phrase
    detail = f"{request.method} {request.url.path} is not offered." if status in {404, 405} else phrase
    return problem(status, f"{phrase}.", detail, headers)


async def _validation(request: Request, error: Exception) -> JSONResponse:
    del request
    found = error.errors() if isinstance(error, RequestValidationError) else []
    lines = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in found]
    # a body that is no JSON is 400, as it was in 0.8; parameters are 422
    status = 400 if any(each["type"] == "json_invalid" for each in found) else 422
    return problem(status, "Validation error.", "\n".join(lines))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    log.error("request_failed", method=request.method, route=request.url.path, exc_info=error)
    return of(error)
