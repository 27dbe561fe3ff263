"""Serving the application over HTTP or HTTPS until told to stop."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

import structlog
import uvicorn
from fastapi import FastAPI

from clara_dicom_adapter.configuration.settings import ApiSettings
from clara_dicom_adapter.errors import ConfigurationInvalid

log = structlog.get_logger("clara_dicom_adapter.api")

_LINGER_SECONDS = 5
"""How long requests in progress may take when the part stops."""
_RENEWAL_SECONDS: Final = 60.0
"""Pause between two looks at the certificate's files."""


class _Server(uvicorn.Server):
    """Leaves signals to whoever runs it."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()


class Certificate:
    """The server's certificate and key; taken anew when their files change, as they do when it is renewed."""

    def __init__(self, file: Path, key: Path) -> None:
        """Load them; raises ConfigurationInvalid."""
        self.context = _context()
        self._file = file
        self._key = key
        self._loaded = self._times()
        try:
            self.context.load_cert_chain(file, key)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigurationInvalid(
                [f"api>tlsCertificateFile {file} and tlsKeyFile {key} cannot be used: {error.strerror or error}"]
            ) from error

    async def keep_renewed(self) -> None:
        """Look after the files for ever; a pair that does not fit is taken when it does."""
        while True:
            await asyncio.sleep(_RENEWAL_SECONDS)
            self.renew()

    def renew(self) -> None:
        """Take changed files for the connections to come."""
        times = self._times()
        if times == self._loaded or None in times:
            return
        try:
            # first into another one: a pair that does not fit would leave half of itself behind
            _context().load_cert_chain(self._file, self._key)
            self.context.load_cert_chain(self._file, self._key)
        except OSError as error:
            log.warning("certificate_not_renewed", path=str(self._file), error=type(error).__name__)
            return
        self._loaded = times
        log.info("certificate_renewed", path=str(self._file))

    def _times(self) -> tuple[int | None, int | None]:
        return _changed(self._file), _changed(self._key)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _changed(file: Path) -> int | None:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return None


async def serve(app: FastAPI, settings: ApiSettings, ready: Callable[[int], None], stop: asyncio.Event) -> None:
    """Listen, tell the port, and serve until the event is set.

    Raises:
        OSError: The address is in use.
        ConfigurationInvalid: The certificate cannot be used.
    """
    certificate = None
    if settings.tls_certificate_file is not None and settings.tls_key_file is not None:
        certificate = Certificate(settings.tls_certificate_file, settings.tls_key_file)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
        port = int(listener.getsockname()[1])
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_LINGER_SECONDS,
        )
        config.load()
        config.ssl = certificate.context if certificate else None
        server = _Server(config, lambda: ready(port))
        serving = asyncio.create_task(server.serve([listener]))
        stopping = asyncio.create_task(stop.wait())
        renewing = asyncio.create_task(certificate.keep_renewed()) if certificate else None
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if renewing is not None:
            renewing.cancel()
        server.should_exit = True
        await serving
