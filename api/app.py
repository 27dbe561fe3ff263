"""The REST interface: configuration, health, what has been recorded, and answers to what waits for a person."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from clara_dicom_adapter.api import (
    attention,
    configuration,
    destinations,
    explaining,
    health,
    lists,
    log_levels,
    metrics,
    problems,
    web_destinations,
)
from clara_dicom_adapter.api.authentication import OPEN_PATHS, Authentication, is_loopback
from clara_dicom_adapter.api.dependencies import Dependencies
from clara_dicom_adapter.api.guard import Guard

TAGS = [
    {"name": "configuration", "description": "Clara AE titles, sources and destinations. Changes act at once."},
    {"name": "records", "description": "What has been received, submitted and exported."},
    {"name": "operations", "description": "What waits for a person, and the person's answer."},
    {"name": "health", "description": "For probes and monitoring."},
]


def create_app(dependencies: Dependencies) -> FastAPI:
    """The application; the caller serves it, and closes what it depends on."""
    app = FastAPIOffline(  # its pages load nothing from elsewhere, for there are networks that reach nothing
        title="Clara DICOM Adapter",
        version=version("clara-dicom-adapter"),
        description="Every error is a problem document (RFC 9457).",
        openapi_tags=TAGS,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.openapi = partial(_described, app.openapi, asks=bool(dependencies.authenticator))  # type: ignore[method-assign]
    app.state.dependencies = dependencies
    app.add_middleware(Authentication, authenticator=dependencies.authenticator)
    app.add_middleware(Guard, loopback=is_loopback(dependencies.settings.host))
    problems.install(app)
    routers = (
        destinations.router,
        web_destinations.router,
        attention.router,
        lists.router,
        health.router,
        metrics.router,
    )
    for router in (configuration.router(dependencies.settings.dialect), *routers):
        app.include_router(router)
    if dependencies.explainer is not None:
        app.include_router(explaining.router(dependencies.explainer))
    if dependencies.log_levels is not None:
        app.include_router(log_levels.router(dependencies.log_levels))
    return app


def _described(describe: Callable[[], dict[str, Any]], *, asks: bool) -> dict[str, Any]:
    """Errors as they are: problem documents, where the framework would have shapes of its own.

    Args:
        asks: Whether callers are asked who they are.
    """
    document = describe()
    schemas = document["components"]["schemas"]
    schemas["Problem"] = problems.Problem.model_json_schema()
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or an OpenID Connect token."}
    }
    for path, operation in (
        (path, operation) for path, operations in document["paths"].items() for operation in operations.values()
    ):
        if path not in OPEN_PATHS:
            operation["security"] = [{"bearer": []}] if asks else []
            operation["responses"] |= problems.responses(401, 403)
        for response in operation["responses"].values():
            if response["description"] == "Successful Response":  # the framework's word for it
                response["description"] = "As asked."
        if "HTTPValidationError" in str(operation["responses"].get("422")):
            operation["responses"]["422"] = problems.responses(422)[422]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document
