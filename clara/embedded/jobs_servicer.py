"""The gRPC service ``Jobs`` (clara-wire, section 4)."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import grpc

from clara_dicom_adapter.clara.embedded.answers import identified, ok, stream, timestamp, unary
from clara_dicom_adapter.clara.embedded.definition import PAYLOAD
from clara_dicom_adapter.clara.embedded.jobs import Job, JobStore
from clara_dicom_adapter.clara.embedded.names import checked_id
from clara_dicom_adapter.clara.embedded.pipelines import PipelineCatalogue
from clara_dicom_adapter.clara.embedded.refusal import PIPELINE_ID_MALFORMED, Refusal
from clara_dicom_adapter.clara.model import JobPriority, JobState, from_timestamp
from clara_dicom_adapter.clara.wire import clara_platform_pb2 as pb
from clara_dicom_adapter.clara.wire import clara_platform_pb2_grpc as stubs

_LOG_BYTES: Final = 256 * 1024
"""Roughly so much log goes into one message, well below gRPC's limit of 4 MiB."""
_LINE_BYTES: Final = 64 * 1024
_CURRENT: Final = (JobState.PENDING.value, JobState.RUNNING.value)
"""What List tells without a filter: the Python client's "current jobs"."""


class JobsServicer(stubs.JobsServicer):
    """Answers from the job store.

    Args:
        log_file: Where the output of a job's operator is kept.
        nudge: Called when a job has been started or shall end.
    """

    def __init__(
        self,
        jobs: JobStore,
        pipelines: PipelineCatalogue,
        log_file: Callable[[str, str], Path],
        nudge: Callable[[], None],
    ) -> None:
        self._jobs = jobs
        self._pipelines = pipelines
        self._log_file = log_file
        self._nudge = nudge

    @unary(pb.JobsCreateResponse)
    def Create(self, request: pb.JobsCreateRequest, context: grpc.ServicerContext) -> pb.JobsCreateResponse:
        pipeline = self._pipelines.get(request.pipeline_id.value)
        if int(request.priority) not in list(JobPriority):
            raise Refusal("the priority is unknown")
        job = self._jobs.create(
            pipeline,
            request.name,
            JobPriority(request.priority),
            request.metadata,
            [payload.value for payload in request.input_payloads],
        )
        return pb.JobsCreateResponse(header=ok(), job_id=identified(job.job_id), payload_id=identified(job.payload_id))

    @unary(pb.JobsStartResponse)
    def Start(self, request: pb.JobsStartRequest, context: grpc.ServicerContext) -> pb.JobsStartResponse:
        variables = {variable.name: variable.value for variable in request.Variables}
        job = self._jobs.start(request.job_id.value, variables)
        self._nudge()
        return pb.JobsStartResponse(header=ok(), state=_state(job), status=_status(job), priority=_priority(job))

    @unary(pb.JobsStatusResponse)
    def Status(self, request: pb.JobsStatusRequest, context: grpc.ServicerContext) -> pb.JobsStatusResponse:
        job = self._jobs.get(request.job_id.value)
        return pb.JobsStatusResponse(
            header=ok(),
            job_id=identified(job.job_id),
            pipeline_id=identified(job.pipeline_id),
            payload_id=identified(job.payload_id),
            state=_state(job),
            status=_status(job),
            name=job.name,
            messages=job.messages,
            priority=_priority(job),
            created=timestamp(job.created),
            started=timestamp(job.started),
            stopped=timestamp(job.stopped),
            operator_details=[
                pb.JobsStatusResponse.JobOperatorDetails(
                    name=operator.name,
                    status=pb.JobOperatorStatus.ValueType(operator.status.value),
                    created=timestamp(job.created),
                    started=timestamp(operator.started),
                    stopped=timestamp(operator.stopped),
                )
                for operator in self._jobs.operators(job.job_id)
            ],
            metadata=job.metadata,
            dag=_dag(job),
        )

    @stream(pb.JobsListResponse)
    def List(self, request: pb.JobsListRequest, context: grpc.ServicerContext) -> Iterator[pb.JobsListResponse]:
        wanted = request.filter
        filtered = wanted != pb.JobsListRequest.JobFilter()
        pipelines = [checked_id(given.value, "pipeline", PIPELINE_ID_MALFORMED) for given in wanted.pipeline_id]
        found = self._jobs.find(
            states=wanted.has_state if filtered else _CURRENT,
            statuses=wanted.has_status,
            pipeline_ids=pipelines,
            completed_before=_seconds(wanted.completed_before),
            created_after=_seconds(wanted.created_after),
        )
        for job in found:
            yield pb.JobsListResponse(
                header=ok(),
                job_details=pb.JobsListResponse.JobDetails(
                    job_id=identified(job.job_id),
                    payload_id=identified(job.payload_id),
                    pipeline_id=identified(job.pipeline_id),
                    job_name=job.name,
                    state=_state(job),
                    status=_status(job),
                    priority=_priority(job),
                    created=timestamp(job.created),
                    started=timestamp(job.started),
                    stopped=timestamp(job.stopped),
                    metadata=job.metadata,
                ),
            )

    @unary(pb.JobsCancelResponse)
    def Cancel(self, request: pb.JobsCancelRequest, context: grpc.ServicerContext) -> pb.JobsCancelResponse:
        job = self._jobs.cancel(request.job_id.value, request.reason)
        self._nudge()
        return pb.JobsCancelResponse(
            header=ok(), job_id=identified(job.job_id), job_state=_state(job), job_status=_status(job)
        )

    @stream(pb.JobsReadLogsResponse)
    def ReadLogs(
        self, request: pb.JobsReadLogsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.JobsReadLogsResponse]:
        job = self._jobs.get(request.job_id.value)
        names = [operator.name for operator in self._jobs.operators(job.job_id)]
        if request.operator_name and request.operator_name not in names:
            raise Refusal("the job has no such operator")
        for name in [request.operator_name] if request.operator_name else names:
            for lines in _lines(self._log_file(job.job_id, name)):
                yield pb.JobsReadLogsResponse(
                    header=ok(), job_id=identified(job.job_id), operator_name=name, logs=lines
                )

    @unary(pb.JobsAddMetadataResponse)
    def AddMetadata(
        self, request: pb.JobsAddMetadataRequest, context: grpc.ServicerContext
    ) -> pb.JobsAddMetadataResponse:
        self._jobs.add_metadata(request.job_id.value, request.metadata)
        return pb.JobsAddMetadataResponse(header=ok(), job_id=request.job_id, metadata=request.metadata)

    @unary(pb.JobsRemoveMetadataResponse)
    def RemoveMetadata(
        self, request: pb.JobsRemoveMetadataRequest, context: grpc.ServicerContext
    ) -> pb.JobsRemoveMetadataResponse:
        remaining = self._jobs.remove_metadata(request.job_id.value, request.keys)
        return pb.JobsRemoveMetadataResponse(header=ok(), job_id=request.job_id, metadata=remaining)


def _state(job: Job) -> pb.JobState.ValueType:
    return pb.JobState.ValueType(job.state.value)


def _status(job: Job) -> pb.JobStatus.ValueType:
    return pb.JobStatus.ValueType(job.status.value)


def _priority(job: Job) -> pb.JobPriority.ValueType:
    return pb.JobPriority.ValueType(job.priority.value)


def _seconds(value: pb.Timestamp) -> float | None:
    when = from_timestamp(value.value)
    return when.timestamp() if when else None


def _dag(job: Job) -> Iterable[pb.JobsStatusResponse.JobDagNode]:
    """Operators with what they read from (input) and what they only wait for (order: they run one after another)."""
    before: str | None = None
    for operator in job.definition.operators:
        node = pb.JobsStatusResponse.JobDagNode(name=operator.name)
        if operator.input != PAYLOAD:
            node.input_dependencies.add(name=operator.input)
        if before and before != operator.input:
            node.order_dependencies.add(name=before)
        before = operator.name
        yield node


def _lines(file: Path) -> Iterator[list[str]]:
    """A log file in portions, as far as it is written."""
    if not file.exists():
        return
    lines: list[str] = []
    size = 0
    with file.open("rb") as log:
        while line := log.readline(_LINE_BYTES):
            lines.append(line.decode(errors="replace").rstrip("\r\n"))
            size += len(line)
            if size >= _LOG_BYTES:
                yield lines
                lines, size = [], 0
    if lines:
        yield lines
