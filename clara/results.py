"""Client of the Results Service, which tells what a pipeline wants sent (clara-wire, section 8)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self
from urllib.parse import quote

import httpx
import structlog

from clara_dicom_adapter.errors import ResultsServiceRefused, ResultsServiceUnreachable

log = structlog.get_logger("clara_dicom_adapter.clara")

_TRY_AGAIN: Final = frozenset({408, 425, 429})
"""Statuses below 500 that ask for another attempt (RFC 9110, RFC 6585, RFC 8470)."""
_SETTLED: Final = frozenset({404, 409, 410})
"""Answers to a report by which the service itself has nothing more to learn: it does not know the task, or has another
result of it. clara-wire names none of them; whatever else is answered may be a gateway's, or may be mended."""
_LOOKED_THROUGH: Final = 100
"""Tasks that are asked for at first when one of them is looked for."""


@dataclass(frozen=True)
class ResultTask:
    """Files of a payload that an agent is asked to deal with."""

    task_id: str
    job_id: str
    pipeline_id: str
    payload_id: str
    parameters: str
    """JSON inside a string; :func:`destinations` reads it."""
    state: str
    agent: str
    retries: int
    uris: tuple[str, ...]
    """Names relative to the payload's root, as ``Payloads.Download`` takes them."""


class ResultsServiceClient:
    """The three calls of the Results Service; every method may be used from any thread.

    Args:
        endpoint: ``http://host:port``.
        timeout: Seconds that one call may take.
    """

    def __init__(self, endpoint: str, timeout: float = 30.0) -> None:
        self.endpoint = endpoint
        # the service is in the cluster, never behind the proxy of the environment
        self._http = httpx.Client(base_url=endpoint, timeout=timeout, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def pending(self, agent: str, size: int = 10) -> list[ResultTask]:
        """Tasks that wait for an agent; asking does not take them."""
        tasks = [_task(entry) for entry in self._pending(agent, size)]
        if None in tasks:
            log.warning("results_task_unusable", agent=agent, count=tasks.count(None))
        return [task for task in tasks if task]

    def offers(self, agent: str, task_id: str) -> bool:
        """Whether a task waits for an agent, however many others do; raises ``ResultsServiceUnreachable``."""
        size = _LOOKED_THROUGH
        while True:
            try:
                entries = self._pending(agent, size)
            except ResultsServiceRefused as refusal:
                raise ResultsServiceUnreachable(self.endpoint, str(refusal)) from refusal
            if any(task.task_id == task_id for task in map(_task, entries) if task):
                return True
            if len(entries) < size:
                return False
            size *= 2

    def _pending(self, agent: str, size: int) -> list[object]:
        answer = self._call("GET", f"/api/tasks/{quote(agent, safe='')}/pending", params={"size": size})
        if not answer.content.strip():
            return []
        try:
            entries = answer.json()
        except ValueError as error:
            raise ResultsServiceUnreachable(self.endpoint, "the list of tasks is not JSON") from error
        if entries is None:
            return []
        if not isinstance(entries, list):
            raise ResultsServiceUnreachable(self.endpoint, "the list of tasks is not an array")
        return entries

    def report_success(self, task_id: str) -> None:
        """Tell that a task is done; raises as :meth:`report_failure` does."""
        self._report(f"/api/tasks/success/{quote(task_id, safe='')}")

    def report_failure(self, task_id: str, *, retry_later: bool) -> None:
        """Tell that a task failed, and whether it shall be offered again.

        Raises:
            ResultsServiceRefused: The task is gone, or settled otherwise, if it is the service that says so and no
                gateway: then :meth:`offers` tells the same.
            ResultsServiceUnreachable: Nothing says that the service has the report, or will never take it.
        """
        self._report(f"/api/tasks/failure/{quote(task_id, safe='')}", json={"RetryLater": retry_later})

    def _report(self, path: str, **parts: Any) -> None:
        try:
            self._call("PUT", path, **parts)
        except ResultsServiceRefused as refusal:
            if refusal.status in _SETTLED:
                raise
            raise ResultsServiceUnreachable(
                self.endpoint,
                f"PUT {path} was answered with HTTP status {refusal.status}; the service, or a gateway before it, has "
                f"to let reports through",
            ) from refusal

    def _call(self, method: str, path: str, **parts: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **parts)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ResultsServiceUnreachable(self.endpoint, f"{type(error).__name__}: {error}") from error
        if answer.is_success:
            return answer
        if answer.status_code in _TRY_AGAIN or answer.status_code >= 500:
            raise ResultsServiceUnreachable(self.endpoint, f"HTTP status {answer.status_code}")
        raise ResultsServiceRefused(f"{method} {path}", answer.status_code)


def destinations(parameters: str) -> tuple[str, ...]:
    """Destination names in a task's parameters: a JSON string, a JSON array of them, or nothing.

    Whatever else stands there is taken as a name, so that looking it up tells what is wrong with it.
    """
    text = parameters.strip()
    if not text:
        return ()
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    values = value if isinstance(value, list) else [value]
    names = (entry.strip() if isinstance(entry, str) else json.dumps(entry) for entry in values if entry is not None)
    return tuple(dict.fromkeys(name for name in names if name))


def _task(entry: object) -> ResultTask | None:
    """A task, whatever the case of its keys; None when it has no id and so could never be reported."""
    if not isinstance(entry, Mapping):
        return None
    fields = {str(key).lower(): value for key, value in entry.items() if value is not None}
    if not fields.get("taskid"):
        return None
    retries, uris = fields.get("retries", 0), fields.get("uris") or []
    if not isinstance(uris, list):
        uris = [uris]  # never none at all: that would be a task with nothing to do
    parameters = fields.get("parameters", "")
    return ResultTask(
        task_id=str(fields["taskid"]),
        job_id=str(fields.get("jobid", "")),
        pipeline_id=str(fields.get("pipelineid", "")),
        payload_id=str(fields.get("payloadid", "")),
        parameters=parameters if isinstance(parameters, str) else json.dumps(parameters),
        state=str(fields.get("state", "")),
        agent=str(fields.get("agent", "")),
        retries=retries if isinstance(retries, int) else 0,
        uris=tuple(uri if isinstance(uri, str) else json.dumps(uri) for uri in uris),
    )
