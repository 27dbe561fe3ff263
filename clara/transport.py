"""How the platform client's gRPC calls are carried, and what their failures mean."""

import threading
from collections.abc import Iterator
from typing import Any, Final, Self, TypeVar

import grpc

from clara_dicom_adapter.errors import PlatformRefused, PlatformUnreachable

Block = TypeVar("Block")

OPTIONS: Final = (
    ("grpc.enable_http_proxy", 0),  # the platform is in the cluster, never behind the proxy of the environment
    ("grpc.use_local_subchannel_pool", 1),  # two clients must not share one connection's back-off
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2000),  # a platform that came back is found within seconds, not two minutes
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
)
_NOT_AN_ANSWER: Final = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.INTERNAL,  # also how a connection torn down in the middle of a reply looks
        grpc.StatusCode.UNKNOWN,
    }
)
NOT_OF_A_FILE: Final = frozenset(
    -status.value[0]
    for status in (
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    )
)
"""Codes of refusals by which something before the platform may speak, such as a gateway: they are no word of a file."""


def translated(endpoint: str, call: str, error: grpc.RpcError) -> PlatformUnreachable | PlatformRefused:
    """What a gRPC status stands for: no answer, or an answer that trying again does not change."""
    if not isinstance(error, grpc.Call):
        return PlatformUnreachable(endpoint, f"{call}: {type(error).__name__}")
    status, details = error.code(), error.details() or ""
    crashed = status is grpc.StatusCode.UNKNOWN and details.startswith("Exception calling application")
    if status in _NOT_AN_ANSWER and not crashed:
        return PlatformUnreachable(endpoint, f"{call}: {status.name}: {details}")
    return PlatformRefused(call, -status.value[0], [f"gRPC status {status.name}: {details}"])


class StandstillGuard:
    """Cancels a stream from which nothing has come for too long; a deadline would also hit a long but moving one."""

    def __init__(self, stream: Any, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._moved = threading.Event()
        self._over = False

    def moved(self) -> None:
        self._moved.set()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="clara-stream-guard", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._moved.set()
        self._stream.cancel()  # without effect on one that has ended; ends one that the caller left

    def _watch(self) -> None:
        while self._moved.wait(self._seconds) and not self._over:
            self._moved.clear()
        if not self._over:
            self._stream.cancel()


def noting(blocks: Iterator[Block], trouble: list[OSError]) -> Iterator[Block]:
    """Remember why reading failed: gRPC only tells that the stream broke."""
    try:
        yield from blocks
    except OSError as error:
        trouble.append(error)
        raise
