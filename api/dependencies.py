"""What the routes work with; passed in, so that tests and the command line can pass in their own."""

from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy import Engine

from clara_dicom_adapter.api.parts import PartsDirectory
from clara_dicom_adapter.api.workflows import WorkflowControl
from clara_dicom_adapter.configuration.chosen import Configuration
from clara_dicom_adapter.configuration.settings import ApiSettings


@dataclass(frozen=True)
class Dependencies:
    """What the API needs.

    Attributes:
        required_roles: Parts without which this installation is not ready.
    """

    configuration: Configuration
    engine: Engine
    parts: PartsDirectory
    workflows: WorkflowControl
    settings: ApiSettings = field(default_factory=ApiSettings)
    required_roles: tuple[str, ...] = ("receiver", "worker")


def _dependencies(request: Request) -> Dependencies:
    return cast(Dependencies, request.app.state.dependencies)


Deps = Annotated[Dependencies, Depends(_dependencies)]
