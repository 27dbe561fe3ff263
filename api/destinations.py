"""Trying a destination: a C-ECHO with time limits, and what happened in words."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from clara_dicom_adapter.api.callers import needs
from clara_dicom_adapter.api.dependencies import Deps
from clara_dicom_adapter.api.kinds import Key
from clara_dicom_adapter.api.problems import responses
from clara_dicom_adapter.api.schemas import Schema
from clara_dicom_adapter.configuration.peers import peer_of
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.dicom.echo import echo
from clara_dicom_adapter.dicom.requestor import TimeLimits

router = APIRouter(prefix="/api/config/destinationaetitle", tags=["configuration"])


class EchoOutcome(Schema):
    """What came of a C-ECHO."""

    destination: str
    answered: bool = Field(description="Whether it answered with Success.")
    message: str = Field(
        description="What happened, and where it failed what to look at.",
        examples=["MYPACSAET answered the C-ECHO with Success."],
    )
    seconds: float


@router.post(
    "/{key:key}/echo",
    operation_id="echoDestination",
    summary="Send a C-ECHO to a destination, by name or AE title",
    responses=responses(400, 404, 422, 503),
    dependencies=[needs(Role.OPERATE)],
)
def echo_destination(
    key: Key,
    deps: Deps,
    seconds: Annotated[float, Query(gt=0, le=60, description="Time limit of each of its steps.")] = 10,
) -> EchoOutcome:
    destination = deps.entities.destinations.get(key)
    limits = TimeLimits(connect=seconds, association=seconds, response=seconds)
    found = echo(deps.scu_ae_title, peer_of(destination), limits)
    return EchoOutcome(
        destination=destination.name,
        answered=found.answered,
        message=found.message,
        seconds=round(found.seconds, 3),
    )
