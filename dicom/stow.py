"""Sends part-10 files to a DICOMweb service with STOW-RS (PS3.18 section 10.5), exactly as they are stored.

The files of a batch are streamed from the disk into one request, and the answer is read object by object. What it does
not speak of, what had no answer, and a batch that is refused as a whole, is sent again one by one: one bad object costs
only itself.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import httpx
import structlog

from clara_dicom_adapter.dicom import dimse, stow_answer, stow_status
from clara_dicom_adapter.dicom.delivery import (
    Delivery,
    ObjectResult,
    SendSettings,
    SendTotals,
    Trouble,
    UnderWay,
    Verdict,
    apart,
)
from clara_dicom_adapter.dicom.requestor import StoredObject
from clara_dicom_adapter.dicom.stow_body import Unreadable
from clara_dicom_adapter.dicom.stow_service import NoAnswer, Service, WebPeer
from clara_dicom_adapter.dicom.tls import TlsUnusable
from clara_dicom_adapter.errors import AuthenticationUnusable

log = structlog.get_logger("clara_dicom_adapter.dicom")

MOST_OBJECTS: Final = 50
MOST_BYTES: Final = 64_000_000
"""Of one request; a larger object goes alone."""
_LOST_WITH_OTHERS, _LOST_ALONE = 1, 2


class _GivenUp(Exception):
    """Nothing more can be sent to this service."""


def store(
    files: Sequence[Path],
    peer: WebPeer,
    settings: SendSettings,
    on_result: Callable[[ObjectResult], None],
    *,
    stop: Callable[[], bool] = lambda: False,
    on_way: Callable[[UnderWay], None] = lambda _: None,
    seconds: float = math.inf,
    trouble: Trouble | None = None,
) -> SendTotals:
    """Send files in batches; arguments and results are those of ``dicom.sender.send``, ``stop`` is asked per batch."""
    started = time.monotonic()
    delivery = _Delivery(peer, settings, on_result, stop=stop, on_way=on_way, seconds=seconds, trouble=trouble)
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
        *,
        stop: Callable[[], bool],
        on_way: Callable[[UnderWay], None],
        seconds: float,
        trouble: Trouble | None,
    ) -> None:
        super().__init__(
            {"destination": peer.name},
            settings,
            on_result,
            stop=stop,
            on_way=on_way,
            seconds=seconds,
            trouble=trouble,
        )
        self._peer = peer

    def deliver(self, objects: Sequence[StoredObject]) -> None:
        """Give every object its result."""
        waiting = self._arranged(objects)
        try:
            with Service(self._peer, self._settings.limits, self._left()) as service:
                while waiting and not self._stopped():
                    self._next(service, waiting)
        except (_GivenUp, TlsUnusable, AuthenticationUnusable) as problem:
            log.warning("peer_given_up", **self._called, reason=str(problem))
            for stored in chain.from_iterable(waiting):
                self._give_up(stored, f"{self._peer.name}: {problem}")
            return
        self._leave(chain.from_iterable(waiting))

    def _arranged(self, objects: Sequence[StoredObject]) -> deque[list[StoredObject]]:
        """In batches, but for what was lost before: that goes alone, behind the others when it was alone already."""
        losses = self._trouble.losses
        with_others = [[stored] for stored in apart(objects) if losses[stored.path] == _LOST_WITH_OTHERS]
        alone = [[stored] for stored in objects if losses[stored.path] > _LOST_WITH_OTHERS]
        return deque([*with_others, *batches([stored for stored in objects if not losses[stored.path]]), *alone])

    def _next(self, service: Service, waiting: deque[list[StoredObject]]) -> None:
        """Deal with the first batch; it leaves the queue when each object has a result or a batch of its own."""
        batch = waiting[0]
        self._tell_under_way(batch, at_once=len(batch))
        try:
            answer = service.post(batch)
        except Unreadable as problem:
            self._note_lost(problem.before, "broken off, because another object could not be read")
            self._object(problem.stored, Verdict.UNREADABLE, "cannot be read to its end")
            batch.remove(problem.stored)
            if not batch:
                waiting.popleft()
            return
        except NoAnswer as loss:
            self._unanswered(loss, waiting)
            return
        if hint := stow_status.hopeless(answer.status_code):
            raise _GivenUp(f"HTTP status {answer.status_code} (see {hint})")
        self._trouble.failures = 0
        self._answered(answer, waiting)

    def _answered(self, answer: httpx.Response, waiting: deque[list[StoredObject]]) -> None:
        batch = waiting.popleft()
        told = stow_answer.read(answer.content)
        later = self._wants_room(batch, told)
        alone: list[StoredObject] = []
        if len(batch) > 1 and told is not None:
            alone = [each for each in batch if each.sop_instance_uid not in {*told.stored, *told.failed}]
            if not stow_status.refuses(answer.status_code):
                self._note_lost(alone, "no word of the object")
        elif len(batch) > 1 and not answer.is_success:
            alone = batch
        waiting.extendleft([stored] for stored in reversed(alone))
        for stored in batch:
            if stored not in alone and stored not in later:
                self._judge(stored, answer, told)
        if later:
            waiting.appendleft(later)
            if self._settings.hasty:
                raise _GivenUp("out of resources")
            self._pause(self._trouble.refusals, "out of resources")

    def _unanswered(self, loss: NoAnswer, waiting: deque[list[StoredObject]]) -> None:
        """Wait before the next request, or give up; what the service may have is sent again one by one.

        Raises:
            _GivenUp: There were too many of these in a row.
        """
        self._note_lost(loss.perhaps, str(loss))
        if self._time_is_over():
            return
        batch = waiting[0]
        divisible = len(batch) > 1 and bool(loss.perhaps)
        if not divisible or self._settings.retries == 0:
            self._trouble.failures += 1  # else it may be the doing of one of them, and the next requests tell
        if self._trouble.failures > self._settings.retries:
            raise _GivenUp(str(loss)) from loss
        for stored in loss.perhaps:
            self._trouble.losses[stored.path] += _LOST_WITH_OTHERS if len(batch) > 1 else _LOST_ALONE
        if loss.perhaps:
            waiting.popleft()
            if len(batch) == 1:
                waiting.append(batch)  # it may be its own doing; the others go first
            else:
                if rest := [each for each in batch if each not in loss.perhaps]:
                    waiting.appendleft(rest)
                waiting.extendleft([stored] for stored in reversed(apart(loss.perhaps)))
        self._pause(max(self._trouble.failures, 1), str(loss), at_least=loss.wait)

    def _wants_room(self, batch: Sequence[StoredObject], told: stow_answer.StowAnswer | None) -> list[StoredObject]:
        """What is sent once more because the service has no room (A7xx) for now; so often without anything stored."""
        if told is None:
            return []
        if told.stored:
            self._trouble.refusals = 0
        later = [each for each in batch if dimse.is_out_of_resources(told.failed.get(each.sop_instance_uid) or 0)]
        if self._settings.hasty:
            return later
        if not later or self._trouble.refusals >= self._settings.retries:
            return []
        self._trouble.refusals += 1
        return later

    def _note_lost(self, batch: Sequence[StoredObject], reason: str) -> None:
        self._lost |= dict.fromkeys((stored.index for stored in batch), f"{self._peer.name}: {reason}")

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
        elif uid not in told.stored and stow_status.refuses(http_status):
            # Orthanc lists what it has stored of the request, and leaves out what it has refused
            self._object(stored, Verdict.REFUSED, f"HTTP status {http_status}")
        elif uid not in told.stored:
            self._object(stored, Verdict.UNKNOWN, f"HTTP status {http_status}, and no word of the object")
        elif (warning := told.stored[uid]) is None:
            self._object(stored, Verdict.STORED, status=0x0000)
        elif self._settings.warnings_are_failures:
            self._object(stored, Verdict.REFUSED, f"{_reason(warning)}, and warnings count as failures", warning)
        else:
            self._object(stored, Verdict.WARNING, _reason(warning), warning)


def _reason(status: int | None, otherwise: str = "") -> str:
    return otherwise if status is None else f"status {status:04X}"
