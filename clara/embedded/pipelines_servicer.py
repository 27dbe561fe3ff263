"""The gRPC services ``Pipelines`` and ``Clara`` (clara-wire, section 6)."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import TypeVar

import grpc

from clara_dicom_adapter.clara.embedded.answers import identified, ok, stream, unary
from clara_dicom_adapter.clara.embedded.definition import MAX_DEFINITION_BYTES, PAYLOAD, PipelineDefinition
from clara_dicom_adapter.clara.embedded.pipelines import PipelineCatalogue
from clara_dicom_adapter.clara.embedded.refusal import DEFINITION_MALFORMED, Refusal
from clara_dicom_adapter.clara.wire import clara_platform_pb2 as pb
from clara_dicom_adapter.clara.wire import clara_platform_pb2_grpc as stubs

Part = TypeVar("Part", pb.PipelinesCreateRequest, pb.PipelinesUpdateRequest)


class PipelinesServicer(stubs.PipelinesServicer):
    """Answers from the catalogue."""

    def __init__(self, pipelines: PipelineCatalogue) -> None:
        self._pipelines = pipelines

    @unary(pb.PipelinesCreateResponse)
    def Create(
        self, request_iterator: Iterator[pb.PipelinesCreateRequest], context: grpc.ServicerContext
    ) -> pb.PipelinesCreateResponse:
        first, files = _files(request_iterator)
        pipeline_id = self._pipelines.create(files, first.pipeline_id.value, first.metadata)
        return pb.PipelinesCreateResponse(header=ok(), pipeline_id=identified(pipeline_id))

    @unary(pb.PipelinesUpdateResponse)
    def Update(
        self, request_iterator: Iterator[pb.PipelinesUpdateRequest], context: grpc.ServicerContext
    ) -> pb.PipelinesUpdateResponse:
        first, files = _files(request_iterator)
        self._pipelines.update(first.pipeline_id.value, files)
        return pb.PipelinesUpdateResponse(header=ok())

    @unary(pb.PipelinesRemoveResponse)
    def Remove(self, request: pb.PipelinesRemoveRequest, context: grpc.ServicerContext) -> pb.PipelinesRemoveResponse:
        self._pipelines.remove(request.pipeline_id.value)
        return pb.PipelinesRemoveResponse(header=ok())

    @stream(pb.PipelinesListResponse)
    def List(
        self, request: pb.PipelinesListRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.PipelinesListResponse]:
        for pipeline in self._pipelines.all():
            yield pb.PipelinesListResponse(
                header=ok(),
                details=pb.PipelinesListResponse.PipelineDetails(
                    pipeline_id=identified(pipeline.pipeline_id),
                    name=pipeline.definition.name,
                    metadata=self._pipelines.metadata(pipeline.pipeline_id),
                ),
            )

    @stream(pb.PipelinesDetailsResponse)
    def Details(
        self, request: pb.PipelinesDetailsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.PipelinesDetailsResponse]:
        pipeline = self._pipelines.get(request.pipeline_id.value)
        yield pb.PipelinesDetailsResponse(
            header=ok(),
            pipeline_id=identified(pipeline.pipeline_id),
            name=pipeline.definition.name,
            definition=pb.PipelineDefinitionFile(path=pipeline.file.name, content=pipeline.text),
            dag=_dag(pipeline.definition),
            metadata=self._pipelines.metadata(pipeline.pipeline_id),
        )

    @unary(pb.PipelinesAddMetadataResponse)
    def AddMetadata(
        self, request: pb.PipelinesAddMetadataRequest, context: grpc.ServicerContext
    ) -> pb.PipelinesAddMetadataResponse:
        self._pipelines.add_metadata(request.pipeline_id.value, request.metadata)
        return pb.PipelinesAddMetadataResponse(header=ok(), pipeline_id=request.pipeline_id, metadata=request.metadata)

    @unary(pb.PipelinesRemoveMetadataResponse)
    def RemoveMetadata(
        self, request: pb.PipelinesRemoveMetadataRequest, context: grpc.ServicerContext
    ) -> pb.PipelinesRemoveMetadataResponse:
        remaining = self._pipelines.remove_metadata(request.pipeline_id.value, request.keys)
        return pb.PipelinesRemoveMetadataResponse(header=ok(), pipeline_id=request.pipeline_id, metadata=remaining)


class ClaraServicer(stubs.ClaraServicer):
    """The platform itself."""

    @unary(pb.ClaraStopResponse)
    def Stop(self, request: pb.ClaraStopRequest, context: grpc.ServicerContext) -> pb.ClaraStopResponse:
        raise Refusal("the embedded platform is stopped by whoever started it, not over the network")

    @stream(pb.ClaraUtilizationResponse)
    def Utilization(
        self, request: pb.ClaraUtilizationRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ClaraUtilizationResponse]:
        """Nothing: the embedded platform does not manage GPUs."""
        yield from ()

    @unary(pb.ClaraVersionResponse)
    def Version(self, request: pb.ClaraVersionRequest, context: grpc.ServicerContext) -> pb.ClaraVersionResponse:
        numbers = [int(part) for part in version("clara-dicom-adapter").split(".")[:3] if part.isdecimal()]
        major, minor, patch = (*numbers, 0, 0, 0)[:3]
        return pb.ClaraVersionResponse(
            header=ok(), version=pb.Version(major=major, minor=minor, patch=patch, label="embedded")
        )


def _files(parts: Iterator[Part]) -> tuple[Part, dict[str, str]]:
    """The first message, and the files; parts with one path belong together (clara-wire, section 6)."""
    first: Part | None = None
    files: dict[str, str] = {}
    size = 0
    for part in parts:
        first = first or part
        if part.HasField("definition"):
            size += len(part.definition.content.encode())
            if size > MAX_DEFINITION_BYTES:
                raise Refusal(f"a definition has at most {MAX_DEFINITION_BYTES} bytes", DEFINITION_MALFORMED)
            files[part.definition.path] = files.get(part.definition.path, "") + part.definition.content
    if first is None or not files:
        raise Refusal("the request holds no definition", DEFINITION_MALFORMED)
    return first, files


def _dag(definition: PipelineDefinition) -> Iterator[pb.PipelinesDetailsResponse.PipelineDagNode]:
    """Operators, each with those that read its output."""
    for operator in definition.operators:
        readers = [other.name for other in definition.operators if operator.name == other.input != PAYLOAD]
        yield pb.PipelinesDetailsResponse.PipelineDagNode(
            name=operator.name, next=[pb.PipelinesDetailsResponse.PipelineDagNode(name=name) for name in readers]
        )
