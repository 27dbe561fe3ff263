"""Sends part-10 files to a DICOMweb service with STOW-RS (PS3.18 section 10.5), exactly as they are stored.

The files of a batch are streamed from the disk into one request, and the answer is read object by object. What it does
not speak of, and a batch that is refused as a whole, is sent again one by one: one bad object costs only itself.
"""

import math
import ssl
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import httpx
import structlog

from clara_dicom_adapter.dicom import dimse, stow_answer, tls
from clara_dicom_adapter.dicom.delivery import Delivery, ObjectResult, SendSettings, SendTotals, Verdict
from clara_dicom_adapter.dicom.requestor import TIME_IS_OVER, StoredObject
from clara_dicom_adapter.dicom.stow_body import Body, Unreadable
from clara_dicom_adapter.dicom.tls import TlsClient, TlsUnusable
from clara_dicom_adapter.dicom.web_authentication import Authentication, in_token_tls
from clara_dicom_adapter.dicom.web_time_limit import TimeLimit
from clara_dicom_adapter.errors import AuthenticationUnusable

log = structlog.get_logger("clara_dicom_adapter.dicom")

MOST_OBJECTS: Final = 50
MOST_BYTES: Final = 64_000_000
"""Of one request; a larger object goes alone."""
ACCEPTED: Final = "application/dicom+json"
"""What is asked for; not XML as well, because some services give that to whoever takes both."""
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
"""Statuses that ask for another attempt (RFC 9110, RFC 6585, RFC 8470, RFC 4918)."""
_FROM_A_GATEWAY: Final = frozenset({502, 504})
"""Statuses of one who had passed the request on, and lost the answer (RFC 9110, 15.6.3 and 15.6.5)."""
_HOPELESS: Final = frozenset({401, 403, 404, 405})
"""Statuses that every other request would get as well."""


@dataclass(frozen=True, slots=True)
class WebPeer:
    """A DICOMweb service.

    Attributes:
        url: Its base, to which ``/studies`` is added.
        tls: Whom to trust and what to show; None: as for any other https.
    """

    name: str
    url: str
    authentication: Authentication | None = None
    tls: TlsClient | None = None


class _Lost(Exception):
    """No answer, or one that asks for another attempt; ``sent``: the service may have got the batch."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class _GivenUp(Exception):
    """Nothing more can be sent to this service."""


def store(
    files: Sequence[Path],
    peer: WebPeer,
    settings: SendSettings,
    on_result: Callable[[ObjectResult], None],
    *,
    stop: Callable[[], bool] = lambda: False,
    seconds: float = math.inf,
) -> SendTotals:
    """Send files in batches; arguments and results are those of ``dicom.sender.send``, ``stop`` is asked per batch."""
    started = time.monotonic()
    delivery = _Delivery(peer, settings, on_result, stop, seconds)
    delivery.deliver([stored for index, path in enumerate(files) if (stored := delivery.read(index, path))])
    totals = delivery.totals
    log.info(
        "objects_stored",
        destination=peer.name,
        sent=totals.sent,
        failed=totals.failed,
        bytes=totals.bytes,
        reason=totals.message,
        seconds=round(time.monotonic() - started, 3),
    )
    return totals


def batches(objects: Sequence[StoredObject]) -> Iterator[list[StoredObject]]:
    """Divide objects, in their order, by count and bytes."""
    batch: list[StoredObject] = []
    for stored in objects:
        if batch and (
            len(batch) == MOST_OBJECTS or sum(each.file_bytes for each in batch) + stored.file_bytes > MOST_BYTES
        ):
            yield batch
            batch = []
        batch.append(stored)
    if batch:
        yield batch


class _Delivery(Delivery):
    """One call of :func:`store`."""

    def __init__(
        self,
        peer: WebPeer,
        settings: SendSettings,
        on_result: Callable[[ObjectResult], None],
        stop: Callable[[], bool],
        seconds: float,
    ) -> None:
        super().__init__({"destination": peer.name}, settings, on_result, stop, seconds)
        self._peer = peer
        self._limit = TimeLimit(seconds)
        self._login = peer.authentication.login() if peer.authentication else None
        self._refusals = 0
        """Answers in a row that spoke of a want of resources, and were waited after."""

    def deliver(self, objects: Sequence[StoredObject]) -> None:
        """Give every object its result."""
        waiting = deque(batches(objects))
        try:
            with self._client() as client, self._limit:
                while waiting and not self._stopped():
                    self._next(client, waiting)
        except (_GivenUp, TlsUnusable, AuthenticationUnusable) as problem:
            log.warning("peer_given_up", **self._called, reason=str(problem))
            for stored in chain.from_iterable(waiting):
                self._give_up(stored, f"{self._peer.name}: {problem}")
            return
        self._leave(chain.from_iterable(waiting))

    def _next(self, client: httpx.Client, waiting: deque[list[StoredObject]]) -> None:
        """Deal with the first batch; it leaves the queue when each object has a result or a batch of its own."""
        batch = waiting[0]
        try:
            answer = self._answer(client, batch)
        except Unreadable as problem:
            self._object(problem.stored, Verdict.UNREADABLE, "cannot be read to its end")
            batch.remove(problem.stored)
            if not batch:
                waiting.popleft()
            return
        if answer is None:
            return
        told = stow_answer.read(answer.content)
        waiting.popleft()
        later = self._wants_room(batch, told)
        alone: list[StoredObject] = []
        if len(batch) > 1 and told is not None:
            alone = [each for each in batch if each.sop_instance_uid not in {*told.stored, *told.failed}]
            if answer.is_success:
                self._note_lost(alone, "no word of the object")
        elif len(batch) > 1 and not answer.is_success:
            alone = batch
        waiting.extendleft([stored] for stored in reversed(alone))
        for stored in batch:
            if stored not in alone and stored not in later:
                self._judge(stored, answer, told)
        if later:
            waiting.appendleft(later)
            self._pause(self._refusals, "out of resources")

    def _wants_room(self, batch: Sequence[StoredObject], told: stow_answer.StowAnswer | None) -> list[StoredObject]:
        """What is sent once more because the service has no room (A7xx) for now; so often without anything stored."""
        if told is None:
            return []
        if told.stored:
            self._refusals = 0
        later = [each for each in batch if dimse.is_out_of_resources(told.failed.get(each.sop_instance_uid) or 0)]
        if not later or self._refusals >= self._settings.retries:
            return []
        self._refusals += 1
        return later

    def _client(self) -> httpx.Client:
        return httpx.Client(
            auth=self._login,
            verify=tls.context(self._peer.tls or TlsClient()),
            trust_env=False,  # the service is in the hospital, never behind the proxy of the environment
        )

    def _answer(self, client: httpx.Client, batch: Sequence[StoredObject]) -> httpx.Response | None:
        """Send a batch until there is an answer; None when ``stop`` or the end of the time came first.

        Raises:
            _GivenUp: The service does not answer, or refuses us.
            Unreadable: An object of the batch cannot be read.
        """
        attempt = 0
        said_again = False
        while True:
            try:
                answer = self._post(client, batch)
                if answer.status_code != httpx.codes.UNAUTHORIZED or said_again or not self._renewed():
                    break
                said_again = True
            except _Lost as loss:
                attempt += 1
                if loss.sent:
                    self._note_lost(batch, str(loss))
                if self._time_is_over():
                    return None
                if attempt > self._settings.retries:
                    raise _GivenUp(str(loss)) from loss
                self._pause(attempt, str(loss))
                if self._stopped():
                    return None
        if answer.status_code in _HOPELESS:
            hint = "its authentication" if answer.status_code in {401, 403} else "its url"
            raise _GivenUp(f"HTTP status {answer.status_code} (see {hint})")
        return answer

    def _note_lost(self, batch: Sequence[StoredObject], reason: str) -> None:
        self._lost |= dict.fromkeys((stored.index for stored in batch), f"{self._peer.name}: {reason}")

    def _renewed(self) -> bool:
        return self._login is not None and self._login.renewed()

    def _post(self, client: httpx.Client, batch: Sequence[StoredObject]) -> httpx.Response:
        boundary = uuid.uuid4().hex
        server_name = self._peer.tls.server_name if self._peer.tls else None
        limits = self._settings.limits
        body = Body(batch, boundary)
        try:
            answer = client.post(
                f"{self._peer.url.rstrip('/')}/studies",
                content=iter(body),
                headers={
                    "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                    "Content-Length": str(body.length),
                    "Accept": ACCEPTED,
                },
                timeout=httpx.Timeout(limits.response, connect=max(min(limits.connect, self._left()), 0.001)),
                extensions={"trace": self._limit.trace} | ({"sni_hostname": server_name} if server_name else {}),
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _Lost(self._told_by_whom(f"cannot connect: {_words(error)}"), sent=False) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = TIME_IS_OVER if self._time_is_over() else self._told_by_whom(_words(error))
            raise _Lost(reason, sent=body.begun) from error
        if answer.status_code in _TRANSIENT:
            raise _Lost(f"HTTP status {answer.status_code}", sent=answer.status_code in _FROM_A_GATEWAY)
        return answer

    def _told_by_whom(self, words: str) -> str:
        """The words of an error, with who failed when that is not the service itself."""
        asked = self._login.asked if self._login is not None else ""
        return f"{asked}: {in_token_tls(words)}" if asked else words

    def _judge(self, stored: StoredObject, answer: httpx.Response, told: stow_answer.StowAnswer | None) -> None:
        uid, http_status = stored.sop_instance_uid, answer.status_code
        if told is None:
            if http_status == httpx.codes.OK and not answer.content.strip():
                # PS3.18 table 10.5.3-1: all of them; some services leave out the dataset that says so
                self._object(stored, Verdict.STORED)
            elif answer.is_success:  # who answers with a page of its own may be no DICOMweb service at all
                self._object(stored, Verdict.UNKNOWN, f"HTTP status {http_status}, and an answer that cannot be read")
            else:
                self._object(stored, Verdict.REFUSED, f"HTTP status {http_status}")
        elif uid in told.failed:
            status = told.failed[uid]
            self._object(stored, Verdict.REFUSED, _reason(status, f"HTTP status {http_status}"), status)
        elif uid not in told.stored and answer.is_success:
            self._object(stored, Verdict.UNKNOWN, f"HTTP status {http_status}, and no word of the object")
        elif uid not in told.stored:
            self._object(stored, Verdict.REFUSED, f"HTTP status {http_status}")
        elif (warning := told.stored[uid]) is None:
            self._object(stored, Verdict.STORED, status=0x0000)
        elif self._settings.warnings_are_failures:
            self._object(stored, Verdict.REFUSED, f"{_reason(warning)}, and warnings count as failures", warning)
        else:
            self._object(stored, Verdict.WARNING, _reason(warning), warning)


def _reason(status: int | None, otherwise: str = "") -> str:
    return otherwise if status is None else f"status {status:04X}"


def _words(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return tls.words(cause)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__
