"""How the servicers answer: headers, refusals, times and ids."""

import errno
import functools
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar, cast

import grpc
import structlog

from clara_dicom_adapter.clara.embedded.refusal import Refusal
from clara_dicom_adapter.clara.model import to_timestamp
from clara_dicom_adapter.clara.wire import clara_platform_pb2 as pb

log = structlog.get_logger("clara_dicom_adapter.clara")

Method = TypeVar("Method", bound=Callable[..., Any])


def unary(response: Callable[..., Any]) -> Callable[[Method], Method]:
    """Turn a refusal into the header of the response; what is our own trouble becomes a gRPC status."""

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def answered(self: object, request: object, context: grpc.ServicerContext) -> object:
            try:
                return method(self, request, context)
            except Refusal as refusal:
                return response(header=refused(refusal))
            except (OSError, sqlite3.Error) as error:
                _fail(context, error)

        return cast("Method", answered)

    return decorate


def stream(response: Callable[..., Any]) -> Callable[[Method], Method]:
    """The same for a method that yields its answers."""

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def answered(self: object, request: object, context: grpc.ServicerContext) -> Iterator[object]:
            try:
                yield from method(self, request, context)
            except Refusal as refusal:
                yield response(header=refused(refusal))
            except (OSError, sqlite3.Error) as error:
                _fail(context, error)

        return cast("Method", answered)

    return decorate


def ok() -> pb.ResponseHeader:
    """The header of success."""
    return pb.ResponseHeader(code=0)


def refused(refusal: Refusal) -> pb.ResponseHeader:
    return pb.ResponseHeader(code=refusal.code, messages=[refusal.message])


def identified(value: str) -> pb.Identifier:
    return pb.Identifier(value=value)


def timestamp(seconds: float | None) -> pb.Timestamp | None:
    """A time of the database as a message; None leaves the field unset."""
    return None if seconds is None else pb.Timestamp(value=to_timestamp(datetime.fromtimestamp(seconds, UTC)))


def _fail(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    log.error("platform_call_failed", error=f"{type(error).__name__}: {error}")
    status = grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.INTERNAL
    context.abort(status, "the platform's disk is full" if full else f"the platform failed: {type(error).__name__}")
    raise AssertionError  # abort does not return
