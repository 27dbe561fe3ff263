"""Between the messages of the Clara Platform's gRPC services and what the adapter works with."""

from collections.abc import Mapping
from typing import TypeVar

from clara_dicom_adapter.clara.model import (
    JobPriority,
    JobState,
    JobStatus,
    OperatorDetails,
    OperatorStatus,
    PlatformJob,
    from_timestamp,
    identifier,
)
from clara_dicom_adapter.clara.wire import clara_platform_pb2 as pb


def header() -> pb.RequestHeader:
    """Of every request."""
    return pb.RequestHeader(api_version=pb.Version(major=0, minor=6, patch=0), user_agent="clara-dicom-adapter")


def wire_id(value: str) -> pb.Identifier:
    """An identifier as the platform spells it; what is none is sent as it is, to be refused."""
    return pb.Identifier(value=identifier(value) or value)


def lower_keys(metadata: Mapping[str, str]) -> dict[str, str]:
    """Metadata by the name of its entries, which the platform tells apart without regard to case."""
    return {key.lower(): value for key, value in metadata.items()}


def platform_job(details: pb.JobsStatusResponse | pb.JobsListResponse.JobDetails) -> PlatformJob:
    """A job, from the answer about one job, or from one entry of the list, which says less."""
    status = details if isinstance(details, pb.JobsStatusResponse) else None
    return PlatformJob(
        job_id=details.job_id.value,
        payload_id=details.payload_id.value,
        pipeline_id=details.pipeline_id.value,
        name=details.name if isinstance(details, pb.JobsStatusResponse) else details.job_name,
        state=_known(JobState, details.state),
        status=_known(JobStatus, details.status),
        priority=_known(JobPriority, details.priority),
        created=from_timestamp(details.created.value),
        started=from_timestamp(details.started.value),
        stopped=from_timestamp(details.stopped.value),
        metadata=dict(details.metadata),
        messages=tuple(status.messages) if status else (),
        operators=tuple(
            OperatorDetails(operator.name, _known(OperatorStatus, operator.status))
            for operator in (status.operator_details if status else ())
        ),
    )


Number = TypeVar("Number", JobState, JobStatus, JobPriority, OperatorStatus)


def _known(kind: type[Number], value: int) -> Number:
    """An enum value; one that a newer platform may have counts as unknown."""
    try:
        return kind(value)
    except ValueError:
        return kind(0)
