"""AE titles, sources and destinations: the routes and the JSON of 0.8 (original-behaviour 1.15).

Routes are written in lower case and compared as they stand.
"""

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Body, Query, Response

from clara_dicom_adapter.api.dependencies import Deps
from clara_dicom_adapter.api.problems import responses
from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import DEFAULT_PROCESSOR, ClaraAeTitle, Destination, Entity, Source

router = APIRouter(prefix="/api/config", tags=["configuration"])

CLARA_EXAMPLE = {
    "name": "COVIDAET",
    "aeTitle": "COVIDAET",
    "overwriteSameInstance": False,
    "ignoredSopClasses": ["1.2.840.10008.5.1.4.1.1.7"],
    "allowedSources": [],
    "processor": DEFAULT_PROCESSOR,
    "processorSettings": {"timeout": "5", "groupBy": "0020,000D", "pipeline-covid": "db3a6b1b5d3f4b6e9d0d"},
    "interrupted": None,
}
SOURCE_EXAMPLE = {"aeTitle": "MYPACS", "hostIp": "10.20.30.1"}
DESTINATION_EXAMPLE = {
    "name": "MYPACS",
    "aeTitle": "MYPACSAET",
    "hostIp": "10.20.30.2",
    "port": 1104,
    "maximumAssociations": 2,
    "tls": {
        "caFile": "/etc/clara/pacs-ca.pem",
        "certificateFile": None,
        "keyFile": None,
        "serverName": "pacs.hospital",
    },
}

HostIp = Annotated[str | None, Query(alias="hostIp", description="Needed when the AE title has several hosts.")]


def _body(kind: type[Entity], example: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """OpenAPI of a body that is checked by ``configuration.checks``, which tells everything wrong at once."""
    schema = kind.model_json_schema(by_alias=True)
    definitions = schema.pop("$defs", {})
    for field in schema["properties"].values():
        for choice in field.get("anyOf", []):
            name = choice.pop("$ref", "").rpartition("/")[2]
            choice.update(definitions.get(name, {}))
    schema["required"] = [name for name in schema["required"] if name not in optional]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema, "example": example}}}}


def _created(response: Response, kind: str, key: str) -> None:
    response.headers["Location"] = f"/api/config/{kind}/{quote(key, safe='')}"


def _example(example: Any) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {"application/json": {"example": example}}}}


def _made(example: Any) -> dict[int | str, dict[str, Any]]:
    return {
        201: {
            "headers": {"Location": {"description": "Where it is found from now on.", "schema": {"type": "string"}}},
            "content": {"application/json": {"example": example}},
        }
    }


# ---- Clara AE titles ----


@router.get(
    "/claraaetitle",
    operation_id="listClaraAeTitles",
    summary="List the Clara AE titles",
    responses=_example([CLARA_EXAMPLE]) | responses(503),
)
def list_clara_ae_titles(deps: Deps) -> list[ClaraAeTitle]:
    return deps.configuration.clara_ae_titles()


@router.get(
    "/claraaetitle/{key:path}",
    operation_id="getClaraAeTitle",
    summary="One Clara AE title, by name or AE title",
    responses=_example(CLARA_EXAMPLE) | responses(404, 503),
)
def get_clara_ae_title(key: str, deps: Deps) -> ClaraAeTitle:
    return deps.configuration.clara_ae_title(key)


@router.post(
    "/claraaetitle",
    status_code=201,
    operation_id="addClaraAeTitle",
    summary="Add a Clara AE title; it accepts associations from now on",
    responses=_made(CLARA_EXAMPLE) | responses(400, 503),
    openapi_extra=_body(ClaraAeTitle, CLARA_EXAMPLE, optional=("name",)),
)
def add_clara_ae_title(body: Annotated[Any, Body()], response: Response, deps: Deps) -> ClaraAeTitle:
    entity = deps.configuration.add_clara_ae_title(checks.clara_ae_title(body))
    _created(response, "claraaetitle", entity.name)
    return entity


@router.delete(
    "/claraaetitle/{key:path}",
    operation_id="deleteClaraAeTitle",
    summary="Remove a Clara AE title, by name or AE title; what it has received goes its way",
    responses=_example(CLARA_EXAMPLE) | responses(404, 503),
)
def delete_clara_ae_title(key: str, deps: Deps) -> ClaraAeTitle:
    return deps.configuration.remove_clara_ae_title(key)


# ---- sources ----


@router.get(
    "/sourceaetitle",
    operation_id="listSources",
    summary="List the sources",
    responses=_example([SOURCE_EXAMPLE]) | responses(503),
)
def list_sources(deps: Deps) -> list[Source]:
    return deps.configuration.sources()


@router.get(
    "/sourceaetitle/{key:path}",
    operation_id="getSource",
    summary="One source, by AE title",
    responses=_example(SOURCE_EXAMPLE) | responses(400, 404, 503),
)
def get_source(key: str, deps: Deps, host_ip: HostIp = None) -> Source:
    return deps.configuration.source(key, host_ip)


@router.post(
    "/sourceaetitle",
    status_code=201,
    operation_id="addSource",
    summary="Add a source; one AE title may have several hosts",
    responses=_made(SOURCE_EXAMPLE) | responses(400, 503),
    openapi_extra=_body(Source, SOURCE_EXAMPLE),
)
def add_source(body: Annotated[Any, Body()], response: Response, deps: Deps) -> Source:
    entity = deps.configuration.add_source(checks.source(body))
    _created(response, "sourceaetitle", entity.ae_title)
    if sum(each.ae_title == entity.ae_title for each in deps.configuration.sources()) > 1:
        response.headers["Location"] += f"?hostIp={quote(entity.host_ip, safe='')}"
    return entity


@router.delete(
    "/sourceaetitle/{key:path}",
    operation_id="deleteSource",
    summary="Remove a source, by AE title",
    responses=_example(SOURCE_EXAMPLE) | responses(400, 404, 503),
)
def delete_source(key: str, deps: Deps, host_ip: HostIp = None) -> Source:
    return deps.configuration.remove_source(key, host_ip)


# ---- destinations ----


@router.get(
    "/destinationaetitle",
    operation_id="listDestinations",
    summary="List the destinations",
    responses=_example([DESTINATION_EXAMPLE]) | responses(503),
)
def list_destinations(deps: Deps) -> list[Destination]:
    return deps.configuration.destinations()


@router.get(
    "/destinationaetitle/{key:path}",
    operation_id="getDestination",
    summary="One destination, by name",
    responses=_example(DESTINATION_EXAMPLE) | responses(404, 503),
)
def get_destination(key: str, deps: Deps) -> Destination:
    return deps.configuration.destination(key)


@router.post(
    "/destinationaetitle",
    status_code=201,
    operation_id="addDestination",
    summary="Add a destination",
    responses=_made(DESTINATION_EXAMPLE) | responses(400, 503),
    openapi_extra=_body(Destination, DESTINATION_EXAMPLE),
)
def add_destination(body: Annotated[Any, Body()], response: Response, deps: Deps) -> Destination:
    entity = deps.configuration.add_destination(checks.destination(body))
    _created(response, "destinationaetitle", entity.name)
    return entity


@router.delete(
    "/destinationaetitle/{key:path}",
    operation_id="deleteDestination",
    summary="Remove a destination, by name",
    responses=_example(DESTINATION_EXAMPLE) | responses(404, 503),
)
def delete_destination(key: str, deps: Deps) -> Destination:
    return deps.configuration.remove_destination(key)
