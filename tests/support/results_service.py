"""A Results Service of a few lines that keeps count of what it is told."""

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


class FakeResultsService:
    """Speaks the HTTP of clara-wire, section 8."""

    def __init__(self) -> None:
        self.pending: dict[str, dict[str, Any]] = {}
        self.reports: list[tuple[str, str, bool | None]] = []
        """(task id, ``success`` or ``failure``, RetryLater)"""
        self.sizes: list[int] = []
        self.down = False
        self.forgotten: set[str] = set()
        """Tasks whose report is answered with 404."""
        self.gateway = 0
        """With what a gateway answers reports, while questions get through; 0: there is none."""
        self.answering = threading.Event()
        """Cleared, reports get no answer."""
        self.answering.set()
        self.standing = threading.Semaphore(0)
        """Counts reports that get none."""
        self.changed = threading.Condition()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if service.down:
                    self._answer(503, b"")
                    return
                size = int(parse_qs(urlsplit(self.path).query)["size"][0])
                with service.changed:
                    service.sizes.append(size)
                    service.changed.notify_all()
                    body = json.dumps(list(service.pending.values())[:size]).encode()
                self._answer(200, body)

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outcome, task_id = urlsplit(self.path).path.split("/")[-2:]
                self._answer(service._report(outcome, task_id, body), b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> "FakeResultsService":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, task_id: str, uris: list[str], parameters: str, *, retries: int = 0, payload_id: str = "p") -> None:
        with self.changed:
            self.pending[task_id] = {
                "taskId": task_id,
                "jobId": "a" * 32,
                "pipelineId": "b" * 32,
                "payloadId": payload_id,
                "parameters": parameters,
                "state": "Pending",
                "agent": "ClaraSCU",
                "retries": retries,
                "uris": uris,
            }

    def _report(self, outcome: str, task_id: str, body: bytes) -> int:
        if not self.answering.is_set():
            self.standing.release()
            self.answering.wait(60)
        with self.changed:
            if self.down:
                return 503
            if self.gateway:
                return self.gateway
            if task_id in self.forgotten:
                self.pending.pop(task_id, None)
                return 404
            retry_later = json.loads(body)["RetryLater"] if outcome == "failure" else None
            self.reports.append((task_id, outcome, retry_later))
            if retry_later:
                self.pending[task_id]["retries"] += 1
            else:
                self.pending.pop(task_id, None)
            self.changed.notify_all()
            return 200
