"""What the API tells about what has been recorded."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from clara_dicom_adapter.workflows import names


class Schema(BaseModel):
    """Base: camelCase in JSON."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, from_attributes=True)


class Links(Schema):
    """Where there is more."""

    temporal: str | None = Field(None, description="The workflow in the Temporal UI.")
    trace: str = Field(description="Its timeline.", examples=["/api/trace/0190a1b2c3"])


class Association(Schema):
    """An association; rejected ones too."""

    association_id: str
    node_id: str
    calling_ae_title: str
    called_ae_title: str
    peer: str
    started_at: datetime
    ended_at: datetime | None
    state: str = Field(
        description="open, rejected, released, aborted, connection-lost or adapter-stopped.", examples=["released"]
    )
    instances: int = Field(description="Stored and answered 0000.")
    bytes: int
    failed: int = Field(description="Answered A700.")
    refused: int = Field(description="Answered A900, C000 or 0122.")
    ignored: int = Field(description="Answered 0000 and not stored, by configuration.")
    reject_result: int | None = Field(description="Result of the A-ASSOCIATE-RJ (PS3.8 table 9-21).")
    reject_source: int | None
    reject_reason: int | None
    reason: str = Field(description="Why it was rejected.", examples=["called-ae-title-unknown"])
    links: Links


class Reception(Schema):
    """A group of instances that are submitted together."""

    reception_id: str
    workflow_id: str
    called_ae_title: str
    calling_ae_title: str
    state: str = Field(
        description="receiving, held, quarantined, submitted, discarded or merged.", examples=["submitted"]
    )
    instances: int
    bytes: int
    incomplete: bool = Field(description="The association was interrupted, or some instance could not be stored.")
    reason: str
    opened_at: datetime
    changed_at: datetime
    closed_at: datetime | None
    submission_id: str | None
    merged_into: str | None = Field(description="The reception that took its instances over.")
    links: Links


class Job(Schema):
    """A job on the Clara Platform."""

    job_key: str
    pipeline: str
    state: str = Field(
        description="planned, created, uploaded, started, waiting-for-platform, waiting-for-node, refused or "
        "discarded; after its end completed, faulted, canceled, evicted, terminated or unknown.",
        examples=["completed"],
    )
    job_id: str
    payload_id: str
    job_name: str
    instances: int
    message: str = Field(description="Why it waits, was refused, or did not complete.")
    changed_at: datetime
    ended_at: datetime | None = Field(description="When it ended on the platform.")


class ListedJob(Job):
    """A job, with where it comes from."""

    submission_id: str
    called_ae_title: str
    calling_ae_title: str
    links: Links


class Submission(Schema):
    """The way of one group to the platform."""

    submission_id: str
    called_ae_title: str
    calling_ae_title: str
    received_by: str
    state: str = Field(examples=["Submitted", "WaitingForPlatform", "NeedsAttention"])
    instances: int
    incomplete: bool
    created_at: datetime
    changed_at: datetime
    jobs: list[Job]
    links: Links


class DeliveryTotals(Schema):
    """What one destination has got."""

    name: str
    delivered: int
    failed: int


class Export(Schema):
    """A task of the Results Service."""

    task_id: str
    agent: str
    job_id: str
    pipeline_id: str
    payload_id: str
    state: str = Field(examples=["Exported", "NeedsAttention"])
    objects: int
    destinations: list[DeliveryTotals]
    offer: int = Field(description="How often the Results Service has offered it.")
    open: bool = Field(description="Whether its report is outstanding.")
    success: bool | None
    retry_later: bool | None
    accepted: bool | None = Field(description="Whether the Results Service took the report.")
    message: str
    offered_at: datetime
    changed_at: datetime
    reported_at: datetime | None
    links: Links


class ExportObject(Schema):
    """The newest result of one object at one destination."""

    number: int = Field(
        description="Place in the task's list of uris, from 0; below 0: of a file that only an earlier offer named."
    )
    sop_instance_uid: str = Field(description="Empty when it is not known.")
    destination: str
    delivered: bool
    verdict: str = Field(
        description="stored, warning, refused, context-refused, unreadable, unknown or not-sent.", examples=["refused"]
    )
    status: int | None = Field(description="DIMSE status of the C-STORE-RSP.", examples=[42752])
    reason: str = Field(examples=["status A700"])
    comment: str = Field(description="Error Comment of the C-STORE-RSP: the destination's own words.")
    at: datetime


class ExportObjects(Schema):
    """A page of the objects of an export, in the order of its task."""

    items: list[ExportObject]
    total: int = Field(description="How many match the filters.")
    limit: int
    offset: int


ItemT = TypeVar("ItemT", bound=Schema)


class Listed(Schema, Generic[ItemT]):
    """A page, newest first."""

    items: list[ItemT]
    total: int = Field(description="How many match the filters.")
    limit: int
    offset: int
    states: dict[str, int] = Field(description="How many there are in each state, whatever the filters.")


class Line(Schema):
    """One line of a timeline."""

    at: datetime
    subject: str = Field(examples=["association", "job"])
    what: str = Field(examples=["accepted", "started"])
    text: str
    ids: dict[str, str]


class Timeline(Schema):
    """Everything recorded about an identifier, in the order it happened."""

    identifier: str
    kind: str = Field(examples=["study"])
    events: list[Line]


class AttentionItem(Schema):
    """Something that waits for a person."""

    subject: str = Field(description="receptions, submissions or exports.", examples=["submissions"])
    id: str
    workflow_id: str
    state: str
    called_ae_title: str | None
    instances: int
    message: str
    since: datetime
    links: Links


class Decision(Schema):
    """What a person has decided."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        json_schema_extra={"examples": [{"item": "lung", "reason": "sent by mistake"}]},
    )

    item: str | None = Field(None, description="A job key or a destination; none: all that waits there.")
    to: str | None = Field(
        None,
        description="Retry of an export only: the destination that gets everything instead of the item, or of all.",
    )
    reason: str = Field("", max_length=500, description="Kept in the workflow's history; no patient's data, please.")


class Outcome(Schema):
    """What an answer has changed."""

    subject: str
    id: str
    workflow_id: str
    done: bool
    changed: int
    message: str


def workflow_id(subject: str, row: Mapping[str, Any]) -> str:
    """The workflow of a recorded reception, submission, job or export."""
    match subject:
        case "receptions":
            return str(row["workflow_id"])
        case "submissions" | "jobs":
            return str(row["submission_id"])
    return names.export(str(row["agent"]), str(row["task_id"]))
