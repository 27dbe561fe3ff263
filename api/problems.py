"""Errors as problem documents (RFC 9457), with the titles of original-behaviour 1.15."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Protocol

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from clara_dicom_adapter.api.bodies import BodyTooLarge, UnexpectedContent
from clara_dicom_adapter.api.callers import IdentityProviderUnavailable, NotAllowed, NotAuthenticated
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


class ErrorShape(Protocol):
    """Writes an error down, in the shape that a request speaks."""

    def error(self, status: int, title: str, detail: str) -> tuple[object, str]:
        """Its content and media type."""
        ...


class WorkflowRefused(Exception):
    """A workflow does not do what was asked of it, and says why."""


class WorkflowGone(Exception):
    """The workflow has ended, or Temporal does not know it."""


class ForeignRequest(Exception):
    """A browser sent it for a page that is not ours."""


class UnknownMediaType(Exception):
    """A vendor media type of a version that is not spoken.

    Attributes:
        status: 406 when it was asked for, 415 when it was sent.
    """

    def __init__(self, media_type: str, known: Sequence[str], status: int) -> None:
        super().__init__(f"'{media_type[:100]}' is not spoken here; known are {', '.join(known)}.")
        self.status = status


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


@dataclass(frozen=True)
class _Meaning:
    """What an error of ours is to a caller."""

    status: int
    title: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


_LATER: Final = {"Retry-After": "5"}
_MEANINGS: Final[Mapping[type[Exception], _Meaning]] = {
    ConfigurationInvalid: _Meaning(400, "Validation error."),
    NotAuthenticated: _Meaning(401, "Not authenticated.", {"WWW-Authenticate": "Bearer"}),
    ForeignRequest: _Meaning(403, "Forbidden."),
    NotAllowed: _Meaning(403, "Not allowed."),
    NotFound: _Meaning(404, "Not found."),
    WorkflowGone: _Meaning(404, "Nothing waits here any more."),
    WorkflowRefused: _Meaning(409, "The workflow refuses."),
    BodyTooLarge: _Meaning(413, "The body is too large."),
    UnexpectedContent: _Meaning(415, "Unsupported media type."),
    DatabaseUnavailable: _Meaning(503, "Error querying database.", _LATER),
    KubernetesUnavailable: _Meaning(503, "Kubernetes is unavailable.", _LATER),
    TemporalUnavailable: _Meaning(503, "Temporal is unavailable.", _LATER),
    IdentityProviderUnavailable: _Meaning(503, "The identity provider is unavailable.", _LATER),
}


def _meaning(error: Exception) -> _Meaning | None:
    if isinstance(error, UnknownMediaType):
        return _Meaning(error.status, "Not acceptable." if error.status == 406 else "Unsupported media type.")
    return next((_MEANINGS[kind] for kind in type(error).__mro__ if kind in _MEANINGS), None)


def of(error: Exception) -> JSONResponse:
    """The problem document of one of our errors."""
    meaning = _meaning(error)
    if meaning is None:
        return problem(500, "Internal error.", f"The cause is in the log ({type(error).__name__}).")
    return problem(meaning.status, meaning.title, str(error), meaning.headers)


def install(app: FastAPI) -> None:
    """Answer every error with a problem document, the framework's own too, or in the shape that the request speaks."""
    for kind in (AdapterError, UnknownMediaType, *_MEANINGS):
        app.add_exception_handler(kind, _ours)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(Exception, _unexpected)


async def _ours(request: Request, error: Exception) -> JSONResponse:
    shape: ErrorShape | None = getattr(request.state, "shape", None)
    meaning = _meaning(error)
    if shape is None or meaning is None:
        return of(error)
    content, media_type = shape.error(meaning.status, meaning.title, str(error))
    return JSONResponse(content, meaning.status, meaning.headers, media_type=media_type)


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
