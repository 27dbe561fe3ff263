"""DICOMweb destinations: the routes of ``api.configuration`` for one more kind."""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Body, Path, Response

from clara_dicom_adapter.api.callers import needs
from clara_dicom_adapter.api.dependencies import Dependencies, Deps
from clara_dicom_adapter.api.problems import responses
from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import WebDestination
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.configuration.web_destinations import WebDestinations

router = APIRouter(prefix="/api/config/dicomwebdestination", tags=["configuration"])

EXAMPLE = {
    "name": "ARCHIVE",
    "url": "https://archive.hospital/dicom-web",
    "authentication": {"kind": "basic", "user": "clara", "passwordFile": "/etc/clara/archive.password"},
    "tls": None,
    "maximumRequests": 2,
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object"}, "example": EXAMPLE}},
    }
}


Name = Annotated[str, Path(description="Its name, in any case.")]


def _store(deps: Dependencies) -> WebDestinations:
    return WebDestinations(deps.engine)


@router.get(
    "",
    operation_id="listWebDestinations",
    summary="List the DICOMweb destinations",
    responses=responses(503),
    dependencies=[needs(Role.READ)],
)
def list_web_destinations(deps: Deps) -> list[WebDestination]:
    return _store(deps).all()


@router.get(
    "/{key:path}",
    operation_id="getWebDestination",
    summary="One DICOMweb destination, by name",
    responses=responses(404, 503),
    dependencies=[needs(Role.READ)],
)
def get_web_destination(key: Name, deps: Deps) -> WebDestination:
    return _store(deps).one(key)


@router.post(
    "",
    status_code=201,
    operation_id="addWebDestination",
    summary="Add a DICOMweb destination; secrets are in files on the worker's machine",
    responses=responses(400, 503),
    openapi_extra=_BODY,
    dependencies=[needs(Role.CONFIGURE)],
)
def add_web_destination(body: Annotated[Any, Body()], response: Response, deps: Deps) -> WebDestination:
    entity = _store(deps).add(checks.web_destination(body))
    response.headers["Location"] = f"/api/config/dicomwebdestination/{quote(entity.name, safe='')}"
    return entity


@router.delete(
    "/{key:path}",
    operation_id="deleteWebDestination",
    summary="Remove a DICOMweb destination, by name",
    responses=responses(404, 503),
    dependencies=[needs(Role.CONFIGURE)],
)
def delete_web_destination(key: Name, deps: Deps) -> WebDestination:
    return _store(deps).remove(key)
