"""Sends part-10 files to a Storage SCP exactly as they are stored; used by ``clara dicom send`` and by exports.

Each SOP class and transfer syntax found gets a presentation context of its own, with that one transfer syntax: there is
nothing to choose for the peer, so nothing is ever transcoded. More than 128 of them take further associations.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.dicom import dimse
from clara_dicom_adapter.dicom.connecting import Peer
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
from clara_dicom_adapter.dicom.negotiation import MAXIMUM_CONTEXTS, AssociationRejected, Context
from clara_dicom_adapter.dicom.requestor import StorageAssociation, StoredObject, TimeLimits, WireLog
from clara_dicom_adapter.errors import AssociationFailed, InvalidInstance, PresentationContextRefused

__all__ = ["ObjectResult", "Peer", "SendSettings", "SendTotals", "TimeLimits", "Verdict", "WireLog", "send"]

log = structlog.get_logger("clara_dicom_adapter.dicom")

OTHERS_TRIED: Final = 10
"""Objects from all over the files, before a peer is given up that breaks each association off with its first object."""
ATTEMPTS_PER_OBJECT: Final = 2
"""An association lost while an object is sent may be that object's doing; after this often the others go on without."""


def send(
    files: Sequence[Path],
    peer: Peer,
    settings: SendSettings,
    on_result: Callable[[ObjectResult], None],
    *,
    stop: Callable[[], bool] = lambda: False,
    on_way: Callable[[UnderWay], None] = lambda _: None,
    seconds: float = math.inf,
    trouble: Trouble | None = None,
) -> SendTotals:
    """Send files one after the other.

    Args:
        on_result: Called once for each file as soon as its fate is known, and before the next object is begun.
        stop: Asked between objects; when it says True the association is released and the rest is left.
        on_way: Called before objects are sent, once for each association, and when there is a pause.
        seconds: For all of it; then the object under way is broken off as well, and is among the unanswered.
        trouble: What the peer has cost before. With it the call ends where there is to be a pause, which is in the
            totals; the next one, with the same trouble, goes on behind it.

    What the peer does never raises; it is in the results. An object whose response was lost is sent once more while
    there are retries left.
    """
    started = time.monotonic()
    delivery = _Delivery(peer, settings, on_result, stop=stop, on_way=on_way, seconds=seconds, trouble=trouble)
    objects = [stored for index, path in enumerate(files) if (stored := delivery.read(index, path))]
    for part in by_association(objects):
        delivery.deliver(deque(part))
    totals = delivery.totals
    log.info(
        "objects_sent",
        called_ae_title=peer.ae_title,
        calling_ae_title=settings.calling_ae_title,
        associations=totals.associations,
        sent=totals.sent,
        failed=totals.failed,
        bytes=totals.bytes,
        reason=totals.message,
        seconds=round(time.monotonic() - started, 3),
    )
    return totals


def by_association(objects: Sequence[StoredObject]) -> Iterator[list[StoredObject]]:
    """Divide objects so that the contexts of each part fit into one association; the order within a part is kept."""
    association: dict[Context, int] = {}
    parts: dict[int, list[StoredObject]] = {}
    for stored in objects:
        number = association.setdefault(stored.context, len(association) // MAXIMUM_CONTEXTS)
        parts.setdefault(number, []).append(stored)
    return iter(parts.values())


class _Delivery(Delivery):
    """One call of :func:`send`: what it has done so far, and whether it still hopes."""

    def __init__(
        self,
        peer: Peer,
        settings: SendSettings,
        on_result: Callable[[ObjectResult], None],
        *,
        stop: Callable[[], bool],
        on_way: Callable[[UnderWay], None],
        seconds: float,
        trouble: Trouble | None,
    ) -> None:
        super().__init__(
            {"called_ae_title": peer.ae_title},
            settings,
            on_result,
            stop=stop,
            on_way=on_way,
            seconds=seconds,
            trouble=trouble,
        )
        self._peer = peer
        self._given_up = ""
        self._progress = False
        """Whether the association has got an answer; then it may be lost, and the next one follows at once."""

    def deliver(self, objects: deque[StoredObject]) -> None:
        """Give every object its result, over as many associations as that takes.

        An object with which an association is lost before any answer goes behind all others, and those are taken in an
        order in which neighbours come apart: many bad ones in a row do not cost the good ones behind them.
        """
        contexts = list(dict.fromkeys(stored.context for stored in objects))
        losses = self._trouble.losses
        suspects = deque(stored for stored in objects if losses[stored.path])
        if suspects:
            objects = deque(apart(stored for stored in objects if not losses[stored.path]))
        while (objects or suspects) and not self._given_up and not self._stopped():
            queue = objects or suspects
            try:
                association = StorageAssociation.request(
                    self._settings.calling_ae_title,
                    self._peer,
                    contexts,
                    self._settings.limits,
                    self._settings.wire_log,
                    until=self._until,
                )
                self.totals.associations += 1
            except AssociationFailed as failure:
                if not self._time_is_over():
                    self._failed(failure)
                continue
            self._progress = False
            try:
                self._send_all(association, queue)
            except InvalidInstance:
                self._object(queue.popleft(), Verdict.UNREADABLE, "cannot be read to its end")
            except AssociationFailed as failure:
                self._lost_with(queue, suspects, failure)
            except BaseException:
                association.abort()
                raise
        rest = [*objects, *suspects]
        if not self._given_up:
            self._leave(rest)
            return
        for stored in rest:
            self._give_up(stored, self._given_up)

    def _lost_with(self, queue: deque[StoredObject], suspects: deque[StoredObject], failure: AssociationFailed) -> None:
        """An association was lost with the first object of a queue."""
        stored = queue[0]
        self._trouble.losses[stored.path] += 1
        self._lost[stored.index] = str(failure)
        if self._time_is_over():
            return
        if self._trouble.losses[stored.path] >= ATTEMPTS_PER_OBJECT:
            self._object(queue.popleft(), Verdict.UNKNOWN, str(failure))
        elif not self._progress:
            suspects.append(queue.popleft())
        if not self._progress:
            self._failed(failure, again=queue is suspects)
            rest = apart(queue)
            queue.clear()
            queue.extend(rest)

    def _send_all(self, association: StorageAssociation, objects: deque[StoredObject]) -> None:
        """Send until all are done or ``stop`` says so; an object leaves the queue with its result."""
        self._tell_under_way(objects, at_once=1)
        while objects and not self._stopped():
            stored = objects[0]
            if stored.context not in association.accepted:
                refused = PresentationContextRefused(
                    self._peer.ae_title, stored.context.sop_class_uid, stored.context.transfer_syntax_uid
                )
                self._object(objects.popleft(), Verdict.CONTEXT_REFUSED, str(refused))
                continue
            if self._settings.dataset_log is not None:
                self._settings.dataset_log.sending(self._peer.ae_title, stored)
            response = association.store(stored)
            self._trouble.failures = 0
            self._progress = True
            if dimse.is_out_of_resources(response.status):
                if self._settings.hasty:
                    self._given_up = f"{self._peer.ae_title}: out of resources, status {response.status:04X}"
                    break
                if self._trouble.refusals < self._settings.retries:
                    self._trouble.refusals += 1
                    association.release()
                    self._pause(self._trouble.refusals, f"status {response.status:04X}")
                    return
            else:
                self._trouble.refusals = 0
            objects.popleft()
            verdict, reason = _judged(response.status, self._settings)
            self._object(stored, verdict, reason, response.status, response.comment)
        association.release()

    def _failed(self, failure: AssociationFailed, *, again: bool = False) -> None:
        """Wait before the next association, or give up; not before others were tried when the peer itself broke it off.

        Args:
            again: Whether it was lost with an object that had failed one before: that may be the object's doing, and
                says nothing new of the peer.
        """
        self._trouble.failures += not again
        permanent = isinstance(failure, AssociationRejected) and failure.permanent
        retries = self._settings.retries
        bound = max(retries, OTHERS_TRIED) if failure.broken_off and retries else retries
        if permanent or self._trouble.failures > bound:
            log.warning("peer_given_up", **self._called, reason=failure.reason)
            self._given_up = str(failure)
        elif self._trouble.failures <= retries:
            self._pause(max(self._trouble.failures, 1), failure.reason)


def _judged(status: int, settings: SendSettings) -> tuple[Verdict, str]:
    if status == 0x0000:
        return Verdict.STORED, ""
    reason = f"status {status:04X}"
    if not dimse.is_warning(status):
        return Verdict.REFUSED, reason
    if settings.warnings_are_failures:
        return Verdict.REFUSED, f"{reason}, and warnings count as failures"
    return Verdict.WARNING, reason
