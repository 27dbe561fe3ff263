"""Client of the Clara Platform's gRPC services.

Used from activities and the command line, from any number of threads. What the platform answers with a negative header
code becomes :class:`PlatformRefused`; no answer becomes :class:`PlatformUnreachable`; ``grpc.RpcError`` never leaves.
Calls that may be repeated after a lost reply (metadata, start) look at the platform before they call it a failure.
"""

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeVar

import grpc

from clara_dicom_adapter.clara.messages import header, lower_keys, platform_job, wire_id
from clara_dicom_adapter.clara.model import (
    JobPriority,
    JobState,
    JobStatus,
    PayloadFile,
    Pipeline,
    PlatformJob,
    identifier,
)
from clara_dicom_adapter.clara.transport import NOT_OF_A_FILE, OPTIONS, StandstillGuard, noting, translated
from clara_dicom_adapter.clara.wire import clara_platform_pb2 as pb
from clara_dicom_adapter.clara.wire import clara_platform_pb2_grpc as stubs
from clara_dicom_adapter.errors import PlatformRefused, PlatformUnreachable

CHUNK: Final = 1024 * 1024
"""The platform library's default block size; it allows up to 4 MiB less 512 bytes (clara-wire, section 5)."""
SLOWEST_BYTES_PER_SECOND: Final = 100_000
"""An upload slower than this counts as stuck."""
PIPELINE_UNKNOWN: Final = -0x1001  # clara-wire, section 2, error codes


class _Answer(Protocol):
    @property
    def header(self) -> pb.ResponseHeader: ...


Answer = TypeVar("Answer", bound=_Answer)


class PlatformClient:
    """The calls that the adapter makes; every method may be used from any thread.

    Args:
        endpoint: ``host:port``.
        call_timeout: Seconds that a short call may take, and a transfer may stand still.
    """

    def __init__(self, endpoint: str, call_timeout: float = 30.0) -> None:
        self.endpoint = endpoint
        self._timeout = call_timeout
        self._channel = grpc.insecure_channel(endpoint, options=OPTIONS)
        self._jobs = stubs.JobsStub(self._channel)
        self._payloads = stubs.PayloadsStub(self._channel)
        self._pipelines = stubs.PipelinesStub(self._channel)
        self._clara = stubs.ClaraStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- jobs ----

    def create_job(
        self, pipeline_id: str, name: str, priority: JobPriority, metadata: Mapping[str, str]
    ) -> tuple[str, str]:
        """Create a pending job; not safe to repeat without :meth:`find_job`.

        Returns:
            Job id and payload id.
        """
        request = pb.JobsCreateRequest(
            header=header(),
            pipeline_id=wire_id(pipeline_id),
            name=name,
            priority=pb.JobPriority.ValueType(priority.value),
            metadata=metadata,
        )
        answer = self._call("Jobs.Create", self._jobs.Create, request)
        return answer.job_id.value, answer.payload_id.value

    def find_jobs(self, states: Collection[JobState] = (), pipeline_id: str | None = None) -> list[PlatformJob]:
        """All jobs in one of the states; without any, what the platform lists by itself."""
        job_filter = pb.JobsListRequest.JobFilter(has_state=[pb.JobState.ValueType(state.value) for state in states])
        if pipeline_id:
            job_filter.pipeline_id.append(wire_id(pipeline_id))
        request = pb.JobsListRequest(header=header(), filter=job_filter)
        answers = self._stream("Jobs.List", self._jobs.List, request)
        return [platform_job(answer.job_details) for answer in answers if answer.HasField("job_details")]

    def find_job(self, key: str, value: str, states: Collection[JobState] = ()) -> PlatformJob | None:
        """The oldest job whose metadata has this value: look here before creating once more."""
        found = [job for job in self.find_jobs(states) if lower_keys(job.metadata).get(key.lower()) == value]
        return min(found, key=lambda job: (job.created is None, job.created, job.job_id), default=None)

    def job_status(self, job_id: str) -> PlatformJob:
        """How a job is."""
        return platform_job(self._status(job_id))

    def add_metadata(self, job_id: str, metadata: Mapping[str, str]) -> None:
        """Add entries; safe to repeat: those that are there with the same value count as added."""
        if not metadata:
            return
        try:
            self._add_metadata(job_id, metadata)
        except PlatformRefused:
            there = lower_keys(self.job_status(job_id).metadata)
            wanted = {key: value for key, value in metadata.items() if there.get(key.lower()) != value}
            if len(wanted) == len(metadata) or any(key.lower() in there for key in wanted):
                raise  # refused for another reason, or an entry has another value
            if wanted:
                self._add_metadata(job_id, wanted)

    def remove_metadata(self, job_id: str, keys: Sequence[str]) -> None:
        """Remove entries; safe to repeat."""
        if not keys:
            return
        request = pb.JobsRemoveMetadataRequest(header=header(), job_id=wire_id(job_id), keys=keys)
        try:
            self._call("Jobs.RemoveMetadata", self._jobs.RemoveMetadata, request)
        except PlatformRefused:
            there = lower_keys(self.job_status(job_id).metadata)
            remaining = [key for key in keys if key.lower() in there]
            if len(remaining) == len(keys):
                raise
            self.remove_metadata(job_id, remaining)

    def start_job(self, job_id: str) -> None:
        """Start a pending job; safe to repeat: one that runs or has run was started."""
        try:
            self._call("Jobs.Start", self._jobs.Start, pb.JobsStartRequest(header=header(), job_id=wire_id(job_id)))
        except PlatformRefused as refused:
            with contextlib.suppress(PlatformRefused):
                if self.job_status(job_id).was_started:
                    return
            raise refused

    def cancel(self, job_id: str, reason: str = "") -> tuple[JobState, JobStatus]:
        """Ask for the end of a job; what runs ends a little later."""
        request = pb.JobsCancelRequest(header=header(), job_id=wire_id(job_id), reason=reason)
        answer = self._call("Jobs.Cancel", self._jobs.Cancel, request)
        return JobState(answer.job_state), JobStatus(answer.job_status)

    def read_logs(self, job_id: str, operator: str = "") -> Iterator[tuple[str, str]]:
        """Pairs of operator and log line, as far as there are any yet."""
        request = pb.JobsReadLogsRequest(header=header(), job_id=wire_id(job_id), operator_name=operator)
        for answer in self._stream("Jobs.ReadLogs", self._jobs.ReadLogs, request):
            for line in answer.logs:
                yield answer.operator_name, line

    # ---- payloads ----

    def upload(self, payload_id: str, name: str, path: Path, progress: Callable[[int], None] | None = None) -> int:
        """Send a file into a payload's ``input/``; repeating replaces it.

        Args:
            progress: Called with the bytes handed to the connection so far, from another thread.

        Returns:
            The file's size.
        """
        size = path.stat().st_size
        request = self._upload_blocks(payload_id, name, path, size, progress)
        timeout = self._timeout + size / SLOWEST_BYTES_PER_SECOND
        trouble: list[OSError] = []
        try:
            self._call("Payloads.Upload", self._payloads.Upload, noting(request, trouble), timeout)
        except PlatformUnreachable:
            if trouble:  # the file could not be read: the platform is not to blame
                raise trouble[0] from None
            raise
        return size

    def download(self, payload_id: str, name: str, target: Path) -> int:
        """Fetch a file, block by block, to ``target``, which appears only when it is complete and on the disk.

        What was written of one that fails is deleted.

        Returns:
            The file's size.

        Raises:
            PlatformRefused: There is no such file.
            PlatformUnreachable: There is no answer, or none that says anything of the file.
        """
        request = pb.PayloadsDownloadRequest(header=header(), payload_id=wire_id(payload_id), name=name)
        part = target.with_name(target.name + ".part")
        size = 0
        try:
            with part.open("wb") as file:
                for answer in self._stream("Payloads.Download", self._payloads.Download, request):
                    size += file.write(answer.data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        except PlatformRefused as refusal:
            if refusal.code in NOT_OF_A_FILE:
                raise PlatformUnreachable(self.endpoint, str(refusal)) from refusal
            raise
        finally:
            part.unlink(missing_ok=True)
        return size

    def payload_files(self, payload_id: str) -> list[PayloadFile]:
        """What a payload holds."""
        request = pb.PayloadsDetailsRequest(header=header(), payload_id=wire_id(payload_id))
        answers = self._stream("Payloads.Details", self._payloads.Details, request)
        return [PayloadFile(answer.file.name, answer.file.size) for answer in answers if answer.HasField("file")]

    # ---- pipelines, and the platform itself ----

    def list_pipelines(self) -> list[Pipeline]:
        """Every pipeline of the platform."""
        answers = self._stream("Pipelines.List", self._pipelines.List, pb.PipelinesListRequest(header=header()))
        return [
            Pipeline(answer.details.pipeline_id.value, answer.details.name)
            for answer in answers
            if answer.HasField("details")
        ]

    def resolve_pipeline(self, id_or_name: str) -> str:
        """Id of a pipeline given by id, which is taken as it is, or by name.

        Raises:
            PlatformRefused: No pipeline has that name, or several do.
        """
        given = identifier(id_or_name)
        if given:
            return given
        pipelines = self.list_pipelines()
        for same in (str.__eq__, lambda a, b: a.lower() == b.lower()):
            found = [pipeline for pipeline in pipelines if same(pipeline.name, id_or_name.strip())]
            if len(found) == 1:
                return found[0].pipeline_id
            if found:
                break
        names = ", ".join(sorted(pipeline.name for pipeline in pipelines)) or "none"
        problem = f"{'several pipelines are' if found else 'no pipeline is'} named {id_or_name!r}; there are: {names}"
        raise PlatformRefused("Pipelines.List", PIPELINE_UNKNOWN, [problem])

    def version(self) -> str:
        """The platform's version, as a sign of life."""
        version = self._call("Clara.Version", self._clara.Version, pb.ClaraVersionRequest(header=header())).version
        return f"{version.major}.{version.minor}.{version.patch}" + (f"-{version.label}" if version.label else "")

    # ---- how a call is made ----

    def _status(self, job_id: str) -> pb.JobsStatusResponse:
        return self._call(
            "Jobs.Status", self._jobs.Status, pb.JobsStatusRequest(header=header(), job_id=wire_id(job_id))
        )

    def _add_metadata(self, job_id: str, metadata: Mapping[str, str]) -> None:
        request = pb.JobsAddMetadataRequest(header=header(), job_id=wire_id(job_id), metadata=metadata)
        self._call("Jobs.AddMetadata", self._jobs.AddMetadata, request)

    def _upload_blocks(
        self, payload_id: str, name: str, path: Path, size: int, progress: Callable[[int], None] | None
    ) -> Iterator[pb.PayloadsUploadRequest]:
        details = pb.PayloadFileDetails(mode=0, size=size, name=name)
        sent = 0
        with path.open("rb") as file:
            while (block := file.read(CHUNK)) or sent == 0:
                yield pb.PayloadsUploadRequest(
                    header=header(), payload_id=wire_id(payload_id), details=details, data=block
                )
                sent += len(block)
                if progress:
                    progress(sent)
                if not block:  # an empty file is one block without data, so that the platform learns its name
                    return

    def _call(self, call: str, method: Callable[..., Answer], request: object, timeout: float | None = None) -> Answer:
        try:
            answer = method(request, timeout=timeout or self._timeout)
        except grpc.RpcError as error:
            raise translated(self.endpoint, call, error) from error
        _check(call, answer)
        return answer

    def _stream(self, call: str, method: Callable[..., Iterable[Answer]], request: object) -> Iterator[Answer]:
        try:
            answers: Any = method(request)
            with StandstillGuard(answers, self._timeout) as guard:
                for number, answer in enumerate(answers):
                    if number == 0:  # only the first message of a stream is sure to carry a header
                        _check(call, answer)
                    guard.moved()
                    yield answer
        except grpc.RpcError as error:
            raise translated(self.endpoint, call, error) from error


def _check(call: str, answer: _Answer) -> None:
    if answer.header.code < 0:
        raise PlatformRefused(call, answer.header.code, list(answer.header.messages))
