"""AE titles, sources and destinations: five routes for each kind, in both shapes (original-behaviour 1.15, seed 001).

Routes are written in lower case and compared as they stand.
"""

from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import quote

import structlog
from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from clara_dicom_adapter.api import openapi
from clara_dicom_adapter.api.bodies import JsonBody
from clara_dicom_adapter.api.callers import caller_of, needs
from clara_dicom_adapter.api.dependencies import Dependencies, Deps
from clara_dicom_adapter.api.exchange import Exchange, Speaks
from clara_dicom_adapter.api.kinds import KINDS, SOURCES, AnyKind, Key
from clara_dicom_adapter.configuration.entities import Entity, Source
from clara_dicom_adapter.configuration.entity_store import EntityStore
from clara_dicom_adapter.configuration.resource_names import resource_name
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.configuration.settings import Dialect

log = structlog.get_logger("clara_dicom_adapter.api")

HostIp = Annotated[str | None, Query(alias="hostIp", description="Needed when a source's AE title has several hosts.")]


def router(dialect: Dialect) -> APIRouter:
    """The routes of all kinds.

    Args:
        dialect: Shape of plain JSON.
    """
    routes = APIRouter(prefix="/api/config", tags=["configuration"])
    for kind in KINDS:
        _add_routes(routes, kind, openapi.Descriptions(kind, dialect))
    return routes


def _add_routes(routes: APIRouter, kind: AnyKind, described: openapi.Descriptions) -> None:
    """The five routes of one kind."""

    async def list_all(deps: Deps, speaks: Speaks) -> Response:
        entities = await run_in_threadpool(_store(deps, kind).all)
        return _answer(speaks, speaks.answer.listed(kind, entities))

    async def get_one(key: Key, deps: Deps, speaks: Speaks, host_ip: HostIp = None) -> Response:
        entity = await run_in_threadpool(_store(deps, kind).get, key, host_ip)
        return _answer(speaks, speaks.answer.one(kind, entity))

    async def add(request: Request, body: JsonBody, deps: Deps, speaks: Speaks) -> Response:
        wanted = speaks.body.read(kind, body)
        entity = await run_in_threadpool(_store(deps, kind).add, wanted)
        _note(request, kind, entity)
        location = await run_in_threadpool(_location, deps, kind, entity)
        status = speaks.answer.created_status
        return _answer(speaks, speaks.answer.one(kind, entity), status, {"Location": location})

    async def replace(
        request: Request, key: Key, body: JsonBody, deps: Deps, *, speaks: Speaks, host_ip: HostIp = None
    ) -> Response:
        store = _store(deps, kind)
        present = await run_in_threadpool(store.get, key, host_ip)
        name = getattr(present, "name", None) if kind.named else None
        wanted = speaks.body.read(kind, body, name)
        entity = await run_in_threadpool(store.replace, key, wanted, host_ip)
        _note(request, kind, entity)
        return _answer(speaks, speaks.answer.one(kind, entity))

    async def remove(request: Request, key: Key, deps: Deps, speaks: Speaks, host_ip: HostIp = None) -> Response:
        entity = await run_in_threadpool(_store(deps, kind).remove, key, host_ip)
        _note(request, kind, entity)
        return _answer(speaks, speaks.answer.removed(kind, entity))

    one = f"/{kind.route}/{{key:key}}"
    configure, read = [needs(Role.CONFIGURE)], [needs(Role.READ)]
    common: dict[str, Any] = {"response_class": Response}
    routes.get(f"/{kind.route}", dependencies=read, **described.listing, **common)(list_all)
    routes.get(one, dependencies=read, **described.getting, **common)(get_one)
    routes.post(f"/{kind.route}", dependencies=configure, **described.adding, **common)(add)
    routes.put(one, dependencies=configure, **described.replacing, **common)(replace)
    routes.delete(one, dependencies=configure, **described.removing, **common)(remove)


def _store(deps: Dependencies, kind: AnyKind) -> EntityStore[Any]:
    store: EntityStore[Any] = deps.entities.of(kind.entity)
    return store


def _note(request: Request, kind: AnyKind, entity: Entity) -> None:
    """Who has changed what, for those who ask later."""
    changed = resource_name(entity)
    log.info("configuration_changed", method=request.method, kind=kind.name, key=changed, name=caller_of(request).name)


def _answer(
    speaks: Exchange, content: object, status: int = HTTPStatus.OK, headers: dict[str, str] | None = None
) -> Response:
    return JSONResponse(content, status, headers, media_type=speaks.media_type)


def _location(deps: Dependencies, kind: AnyKind, entity: Entity) -> str:
    """Where it is found from now on."""
    if kind is not SOURCES or not isinstance(entity, Source):
        return f"{kind.path}/{quote(str(getattr(entity, 'name', '')), safe='')}"
    path = f"{kind.path}/{quote(entity.ae_title, safe='')}"
    several = sum(each.ae_title == entity.ae_title for each in deps.entities.sources.all()) > 1
    return f"{path}?hostIp={quote(entity.host_ip, safe='')}" if several else path
