"""The gRPC service ``Payloads`` (clara-wire, section 5)."""

import itertools
from collections.abc import Iterator

import grpc

from clara_dicom_adapter.clara.embedded.answers import identified, ok, stream, unary
from clara_dicom_adapter.clara.embedded.payloads import BLOCK, Payload, PayloadStore, StoredFile
from clara_dicom_adapter.clara.embedded.refusal import Refusal
from clara_dicom_adapter.clara.wire import clara_platform_pb2 as pb
from clara_dicom_adapter.clara.wire import clara_platform_pb2_grpc as stubs


class PayloadsServicer(stubs.PayloadsServicer):
    """Answers from the payload store."""

    def __init__(self, payloads: PayloadStore) -> None:
        self._payloads = payloads

    @unary(pb.PayloadsCreateResponse)
    def Create(self, request: pb.PayloadsCreateRequest, context: grpc.ServicerContext) -> pb.PayloadsCreateResponse:
        payload_id = self._payloads.create_reusable(request.metadata)
        return pb.PayloadsCreateResponse(header=ok(), payload_id=identified(payload_id), type=pb.PAYLOAD_TYPE_REUSABLE)

    @unary(pb.PayloadsUploadResponse)
    def Upload(
        self, request_iterator: Iterator[pb.PayloadsUploadRequest], context: grpc.ServicerContext
    ) -> pb.PayloadsUploadResponse:
        first = next(request_iterator, None)
        if first is None:
            raise Refusal("an upload needs at least one block, an empty one for an empty file")
        payload = self._payloads.get(first.payload_id.value)
        size = self._payloads.receive(payload, first.details.name, _blocks(first, request_iterator))
        details = pb.PayloadFileDetails(mode=first.details.mode, size=size, name=first.details.name)
        return pb.PayloadsUploadResponse(header=ok(), details=details)

    @stream(pb.PayloadsDownloadResponse)
    def Download(
        self, request: pb.PayloadsDownloadRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.PayloadsDownloadResponse]:
        found = self._payloads.find(self._payloads.get(request.payload_id.value), request.name)
        with found.path.open("rb") as file:
            number = 0
            while (block := file.read(BLOCK)) or number == 0:  # an empty file is one message too
                yield pb.PayloadsDownloadResponse(header=ok(), details=_details(found), data=block)
                number += 1

    @stream(pb.PayloadsDetailsResponse)
    def Details(
        self, request: pb.PayloadsDetailsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.PayloadsDetailsResponse]:
        payload = self._payloads.get(request.payload_id.value)
        empty = True
        for file in self._payloads.files(payload):
            empty = False
            yield _facts(payload, file)
        if empty:  # so that the payload's type and job are told
            yield _facts(payload, None)

    @unary(pb.PayloadsDeleteResponse)
    def Delete(self, request: pb.PayloadsDeleteRequest, context: grpc.ServicerContext) -> pb.PayloadsDeleteResponse:
        self._payloads.delete(request.payload_id.value)
        return pb.PayloadsDeleteResponse(header=ok())

    @unary(pb.PayloadsRemoveResponse)
    def Remove(self, request: pb.PayloadsRemoveRequest, context: grpc.ServicerContext) -> pb.PayloadsRemoveResponse:
        self._payloads.remove(self._payloads.get(request.payload_id.value), request.name)
        return pb.PayloadsRemoveResponse(header=ok())

    @unary(pb.PayloadsAddMetadataResponse)
    def AddMetadata(
        self, request: pb.PayloadsAddMetadataRequest, context: grpc.ServicerContext
    ) -> pb.PayloadsAddMetadataResponse:
        self._payloads.add_metadata(request.payload_id.value, request.metadata)
        return pb.PayloadsAddMetadataResponse(header=ok(), payload_id=request.payload_id, metadata=request.metadata)

    @unary(pb.PayloadsRemoveMetadataResponse)
    def RemoveMetadata(
        self, request: pb.PayloadsRemoveMetadataRequest, context: grpc.ServicerContext
    ) -> pb.PayloadsRemoveMetadataResponse:
        remaining = self._payloads.remove_metadata(request.payload_id.value, request.keys)
        return pb.PayloadsRemoveMetadataResponse(header=ok(), payload_id=request.payload_id, metadata=remaining)


def _blocks(first: pb.PayloadsUploadRequest, rest: Iterator[pb.PayloadsUploadRequest]) -> Iterator[bytes]:
    """The data of an upload; refuses one that ends before the size that it has told.

    A size is that of the file or of one block (clara-wire, section 5: it is ambiguous); with either, less than the
    largest one told is a file cut off, which a client that dies can make look like an ordinary end of the stream.
    """
    received = told = 0
    for request in itertools.chain([first], rest):
        if (request.payload_id.value, request.details.name) != (first.payload_id.value, first.details.name):
            raise Refusal("one upload is one file")
        received += len(request.data)
        told = max(told, request.details.size)
        yield request.data
    if received < told:
        raise Refusal(f"the upload ended after {received} of {told} bytes")


def _details(file: StoredFile) -> pb.PayloadFileDetails:
    return pb.PayloadFileDetails(mode=file.mode, size=file.size, name=file.name)


def _facts(payload: Payload, file: StoredFile | None) -> pb.PayloadsDetailsResponse:
    return pb.PayloadsDetailsResponse(
        header=ok(),
        payload_id=identified(payload.payload_id),
        file=_details(file) if file else None,
        type=pb.PayloadType.ValueType(payload.type.value),
        job_id=identified(payload.job_id) if payload.job_id else None,
        metadata=payload.metadata,
    )
