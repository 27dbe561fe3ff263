"""What the routes work with; passed in, so that tests and the command line can pass in their own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy import Engine

from clara_dicom_adapter.api.authentication import Authenticator
from clara_dicom_adapter.api.parts import PartsDirectory
from clara_dicom_adapter.api.workflows import WorkflowControl
from clara_dicom_adapter.configuration.chosen import Configuration
from clara_dicom_adapter.configuration.entity_store import EntityStores
from clara_dicom_adapter.configuration.forecast import Explainer
from clara_dicom_adapter.configuration.run_time_levels import RunTimeLevels
from clara_dicom_adapter.configuration.settings import ApiSettings


@dataclass(frozen=True)
class Dependencies:
    """What the API needs.

    Attributes:
        scu_ae_title: Our AE title when we send.
        explainer: Judges files for the dry run; None: there is no dry run.
        authenticator: None: everybody may do everything.
        log_levels: Those of the parts beside us; None: they are neither shown nor changed.
        warnings: What somebody should look after, in how the interface is protected.
        required_roles: Parts without which this installation is not ready.
    """

    configuration: Configuration
    engine: Engine
    parts: PartsDirectory
    workflows: WorkflowControl
    settings: ApiSettings = field(default_factory=ApiSettings)
    required_roles: tuple[str, ...] = ("receiver", "worker")
    scu_ae_title: str = "ClaraSCU"
    explainer: Explainer | None = None
    authenticator: Authenticator | None = None
    log_levels: RunTimeLevels | None = None
    warnings: Sequence[str] = ()

    @property
    def entities(self) -> EntityStores:
        """Where AE titles, sources and destinations are kept."""
        return self.configuration.entities


def _dependencies(request: Request) -> Dependencies:
    return cast(Dependencies, request.app.state.dependencies)


Deps = Annotated[Dependencies, Depends(_dependencies)]
