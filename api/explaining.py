"""The dry run: what would be done with a DICOM file that somebody sends to an AE title of ours. Nothing is kept."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool

from clara_dicom_adapter.api.bodies import FileHead
from clara_dicom_adapter.api.callers import needs
from clara_dicom_adapter.api.dependencies import Deps
from clara_dicom_adapter.api.kinds import Key
from clara_dicom_adapter.api.problems import responses
from clara_dicom_adapter.configuration.forecast import Explainer, Explanation
from clara_dicom_adapter.configuration.roles import Role


def router(explainer: Explainer) -> APIRouter:
    """Its route."""
    routes = APIRouter(prefix="/api/config/claraaetitle", tags=["configuration"])

    @routes.post(
        "/{key:key}/explain",
        operation_id="explain",
        summary="What would be done with a DICOM file sent to a Clara AE title; nothing is kept",
        responses=responses(400, 404, 422, 503),
        dependencies=[needs(Role.READ)],
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": "A DICOM file (PS3.10).",
                "content": {"application/dicom": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def explain(
        key: Key,
        head: FileHead,
        deps: Deps,
        calling_ae_title: Annotated[str | None, Query(alias="callingAeTitle", description="Of the sender.")] = None,
        host_ip: Annotated[str | None, Query(alias="hostIp", description="The sender's IP address.")] = None,
    ) -> Explanation:
        ae = await run_in_threadpool(deps.entities.clara_ae_titles.get, key)
        return await run_in_threadpool(explainer.explain, ae, head, calling_ae_title, host_ip)

    return routes
