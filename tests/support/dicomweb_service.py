"""A DICOMweb service of a few lines that takes STOW-RS, misbehaves on request, and gives tokens."""

import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any

from clara_dicom_adapter.dicom.part10 import read_meta_of
from clara_dicom_adapter.dicom.stow_service import WebPeer

Answer = tuple[int, bytes] | tuple[int, bytes, dict[str, str]]
"""HTTP status, body, and headers of its own if any."""


def told(stored: list[str], failed: dict[str, int] | None = None, warned: dict[str, int] | None = None) -> bytes:
    def item(instance: str, tag: str, reasons: dict[str, int]) -> dict[str, Any]:
        reason = {tag: {"vr": "US", "Value": [reasons[instance]]}} if instance in reasons else {}
        return {"00081155": {"vr": "UI", "Value": [instance]}, **reason}

    dataset = {
        "00081199": {"vr": "SQ", "Value": [item(each, "00081196", warned or {}) for each in stored]},
        "00081198": {"vr": "SQ", "Value": [item(each, "00081197", failed or {}) for each in failed or {}]},
    }
    return json.dumps(dataset).encode()


@dataclass
class Service:
    """A DICOMweb service; ``answer`` gets the SOP instance UIDs of a request and its number, from 1."""

    answer: Callable[[list[str], int], Answer | None]
    url: str = ""
    requests: list[list[str]] = field(default_factory=list[list[str]])
    bodies: list[bytes] = field(default_factory=list[bytes])
    authorizations: list[str] = field(default_factory=list[str])
    tokens: list[bytes] = field(default_factory=list[bytes])
    issued: str = "T"
    """How the tokens that it gives begin; their number follows."""

    def take(self, headers: Any, body: bytes) -> Answer | None:
        message = message_from_bytes(f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body)
        parts = [part.get_payload(decode=True) for part in message.get_payload()]  # type: ignore[union-attr]
        self.bodies += [part for part in parts if isinstance(part, bytes)]
        self.authorizations.append(headers.get("Authorization", ""))
        self.requests.append([_uid_in(part) for part in self.bodies[len(self.bodies) - len(parts) :]])
        return self.answer(self.requests[-1], len(self.requests))

    @property
    def peer(self) -> WebPeer:
        return WebPeer("WEB", self.url)


def _uid_in(part: bytes) -> str:
    return read_meta_of(BytesIO(part)).sop_instance_uid


@contextmanager
def serving(answer: Callable[[list[str], int], Answer | None], certificate: Any = None) -> Iterator[Service]:
    """One that runs; over TLS it takes no certificate of its clients, so that one that shows any is cut off."""
    service = Service(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/token":
                service.tokens.append(body + b" " + self.headers["Authorization"].encode())
                token = f"{service.issued}{len(service.tokens)}"
                said: Answer | None = (200, json.dumps({"access_token": token, "expires_in": 3600}).encode())
            elif self.path == "/dicom-web/studies":
                said = service.take(self.headers, body)
            else:
                said = (404, b"")
            if said is None:
                self.close_connection = True
                return
            self.send_response(said[0])
            for name, value in said[2].items() if len(said) == 3 else ():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said[1])))
            self.end_headers()
            self.wfile.write(said[1])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.certificate, certificate.key)
        context.verify_mode = ssl.CERT_OPTIONAL
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    service.url = f"{scheme}://127.0.0.1:{server.server_port}/dicom-web/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def breaking_off(after: int) -> Iterator[WebPeer]:
    """A service that reads so many bytes of a request, and resets the connection."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)  # what is sent does not go far unread
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        left = after
                        while left > 0 and (piece := connection.recv(min(left, 1 << 16))):
                            left -= len(piece)
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield WebPeer("WEB", f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def everything(uids: list[str], _number: int) -> Answer:
    return 200, told(uids)
