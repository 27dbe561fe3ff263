"""Connecting to a Temporal server, wherever it is."""

import asyncio
import time
from pathlib import Path
from typing import Protocol

import structlog
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, TLSConfig

from clara_dicom_adapter.errors import TemporalUnavailable

log = structlog.get_logger("clara_dicom_adapter.temporal")

PATIENCE_SECONDS = 30.0
"""How long :func:`connect` tries, for those who have someone to answer to."""
REMINDER_SECONDS = 30.0


class ConnectionSettings(Protocol):
    """What is needed of ``configuration.settings.TemporalSettings``, which stands above this room."""

    @property
    def address(self) -> str | None: ...
    @property
    def namespace(self) -> str: ...
    @property
    def tls(self) -> bool: ...
    @property
    def tls_ca_file(self) -> Path | None: ...
    @property
    def tls_certificate_file(self) -> Path | None: ...
    @property
    def tls_key_file(self) -> Path | None: ...
    @property
    def tls_server_name(self) -> str | None: ...
    @property
    def api_key(self) -> str | None: ...


async def connect(
    settings: ConnectionSettings,
    address: str | None = None,
    *,
    lazy: bool = False,
    patience_seconds: float = PATIENCE_SECONDS,
    identity: str | None = None,
) -> Client:
    """Connect, with our data converter, and try again while the server is not there.

    Args:
        address: ``host:port``; none: the configured one.
        patience_seconds: ``math.inf`` for a part, which is of no use to anybody until the server is back.
        lazy: Return at once; the first call connects. For those who must work without Temporal.
        identity: Shown in histories as who did something; none: process id and host.

    Raises:
        TemporalUnavailable: No server answered in time, or a TLS file cannot be read.
    """
    target = address or settings.address
    if target is None:
        raise TemporalUnavailable("no Temporal address is configured, and no embedded server has been started")
    tls = _tls(settings)
    deadline = time.monotonic() + patience_seconds
    remind_at = 0.0
    while True:
        try:
            return await Client.connect(
                target,
                namespace=settings.namespace,
                api_key=settings.api_key,
                tls=tls,
                data_converter=pydantic_data_converter,
                identity=identity,
                lazy=lazy,
            )
        except (RuntimeError, RPCError) as error:  # the SDK reports a refused connection as RuntimeError
            if time.monotonic() >= deadline:
                raise TemporalUnavailable(f"Temporal at {target} cannot be reached: {error}") from error
            if time.monotonic() >= remind_at:
                remind_at = time.monotonic() + REMINDER_SECONDS
                log.warning("waiting_for_temporal", address=target, reason=str(error))
        await asyncio.sleep(0.2)


def _tls(settings: ConnectionSettings) -> TLSConfig | bool:
    """TLS when asked for, when a file for it is named, or with an API key, which must never travel in clear."""
    files = (settings.tls_ca_file, settings.tls_certificate_file, settings.tls_key_file)
    if not (settings.tls or settings.api_key or any(files)):
        return False
    ca, certificate, key = (_content(file) for file in files)
    return TLSConfig(
        server_root_ca_cert=ca, client_cert=certificate, client_private_key=key, domain=settings.tls_server_name
    )


def _content(file: Path | None) -> bytes | None:
    try:
        return file.read_bytes() if file else None
    except OSError as error:
        raise TemporalUnavailable(f"cannot read the TLS file {file}: {error.strerror}") from error
