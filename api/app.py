"""The REST interface: configuration, health, what has been recorded, and answers to what waits for a person."""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from ipaddress import ip_address
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from clara_dicom_adapter.api import attention, configuration, health, lists, metrics, problems, web_destinations
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
    app.openapi = partial(_described, app.openapi)  # type: ignore[method-assign]
    app.state.dependencies = dependencies
    app.add_middleware(Guard, loopback=_is_loopback(dependencies.settings.host))
    problems.install(app)
    for part in (configuration, web_destinations, attention, lists, health, metrics):
        app.include_router(part.router)
    return app


def _described(describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Errors as they are: problem documents, where the framework would have shapes of its own."""
    document = describe()
    schemas = document["components"]["schemas"]
    schemas["Problem"] = problems.Problem.model_json_schema()
    for operation in (each for path in document["paths"].values() for each in path.values()):
        if "HTTPValidationError" in str(operation["responses"].get("422")):
            operation["responses"]["422"] = problems.responses(422)[422]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
