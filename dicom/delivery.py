"""What sending by C-STORE and by STOW-RS have in common: settings, results, and one delivery of files as it goes."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.dicom.dataset_log import DatasetLog
from clara_dicom_adapter.dicom.negotiation import Context
from clara_dicom_adapter.dicom.part10 import read_object
from clara_dicom_adapter.dicom.requestor import StoredObject, TimeLimits, WireLog
from clara_dicom_adapter.errors import InvalidInstance

log = structlog.get_logger("clara_dicom_adapter.dicom")

LONGEST_PAUSE_SECONDS: Final = 60.0
"""Between two attempts at a peer; pauses double up to this."""
_THEN: Final = "; then "
_GOLDEN: Final = (5**0.5 - 1) / 2
"""Steps of this size around a circle come nowhere near each other."""


class Verdict(StrEnum):
    """What became of one object."""

    STORED = "stored"
    WARNING = "warning"
    """Stored, with a warning status."""
    REFUSED = "refused"
    """Answered with a failure status."""
    CONTEXT_REFUSED = "context-refused"
    UNREADABLE = "unreadable"
    """Not a part-10 file with a dataset, or not readable to its end."""
    UNKNOWN = "unknown"
    """Sent, but without a response that says what became of it: the peer may have it or not."""
    NOT_SENT = "not-sent"
    """The peer could not be reached (any more)."""


@dataclass(frozen=True, slots=True)
class ObjectResult:
    """The fate of one file of a :func:`send`.

    Attributes:
        index: Its place among the files given.
        status: DIMSE status, when there was a response.
        comment: Error Comment of the peer; may speak of a patient, so it goes into no log and no history.
        reason: Why it was not stored, in our words.
        given_up: Whether the peer was given up before it had said anything of the object. That is no fault of the
            object, so whoever has another association may try that.
    """

    index: int
    path: Path
    verdict: Verdict
    bytes: int = 0
    status: int | None = None
    comment: str = ""
    reason: str = ""
    given_up: bool = False

    @property
    def delivered(self) -> bool:
        """Whether the peer has it."""
        return self.verdict in {Verdict.STORED, Verdict.WARNING}


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What a peer may have without our knowing it, for whoever outlives the sending; replaces what was said before.

    Attributes:
        order: Places of the objects that are sent now, in their order.
        at_once: So many of them at most, the first that have no result, may be on their way at the same time.
        lost: Others that were sent before without being told what became of them, and why that was.
    """

    order: Sequence[int] = ()
    at_once: int = 0
    lost: Mapping[int, str] = field(default_factory=dict[int, str])


@dataclass(frozen=True, slots=True)
class SendSettings:
    """How to send.

    Attributes:
        retries: How often in a row an association may fail, or be lost without an answer to any object, before the
            rest is given up, one that is lost with an object that was lost before not counted (more often, when the
            peer itself breaks them off); and how often in a row the peer may be out of resources (A7xx) before that
            counts.
        retry_delay: Seconds before the first of these attempts; the pause doubles each time.
        warnings_are_failures: Whether an object answered with a warning status counts as not stored.
        hasty: Whether a peer that is out of resources is given up at once, and no object counts as refused for that:
            for one association of several, behind which another one waits.
    """

    calling_ae_title: str
    limits: TimeLimits = field(default_factory=TimeLimits)
    retries: int = 2
    retry_delay: float = 5
    dataset_log: DatasetLog | None = None
    """Logs each dataset before it is sent."""
    warnings_are_failures: bool = False
    hasty: bool = False
    wire_log: WireLog = field(default_factory=WireLog)


@dataclass(slots=True)
class Trouble:
    """What a peer has cost so far; calls that follow on each other share one.

    Attributes:
        failures: In a row without an answer in between: associations that failed, and objects that were lost with
            theirs; or requests without an answer, of which one of several objects is told by what becomes of each.
        refusals: Answers in a row that spoke of a want of resources, and were waited after.
        losses: How often an object was lost, by its file.
    """

    failures: int = 0
    refusals: int = 0
    losses: Counter[Path] = field(default_factory=Counter)


@dataclass(slots=True)
class SendTotals:
    """Sums over one :func:`send`."""

    sent: int = 0
    failed: int = 0
    bytes: int = 0
    associations: int = 0
    stopped: bool = False
    """Whether ``stop``, the time limit or a pause ended it early; objects without a result were not sent, or are among
    the unanswered."""
    pause: float = 0.0
    """Seconds that are to be waited for before the rest is sent, if it was ended for that."""
    unanswered: dict[int, str] = field(default_factory=dict[int, str])
    """Objects without a result that were sent, by index, and how the response was lost."""
    reasons: Counter[str] = field(default_factory=Counter)
    """Failed objects by what went wrong, for a message that names no object."""

    def add(self, result: ObjectResult) -> None:
        if result.delivered:
            self.sent += 1
            self.bytes += result.bytes
        else:
            self.failed += 1
            self.reasons[result.reason or result.verdict.value] += 1

    @property
    def message(self) -> str:
        """What went wrong and how often; empty when nothing did."""
        return "; ".join(f"{count} x {reason}" for reason, count in self.reasons.most_common(5))


def pause_before(attempt: int, settings: SendSettings) -> float:
    """Seconds before an attempt at a peer, the first being the one after a failure."""
    return min(settings.retry_delay * 2.0 ** (attempt - 1), LONGEST_PAUSE_SECONDS)


def apart(objects: Iterable[StoredObject]) -> list[StoredObject]:
    """Objects in an order in which those that are neighbours among the files come far from each other."""
    return sorted(objects, key=lambda stored: stored.index * _GOLDEN % 1)


def lost_then(lost: str | None, reason: str) -> str:
    """Words for an object that may have been lost on its way, and of which nothing more is known for a reason."""
    return f"{lost}{_THEN}{reason}" if lost and lost != reason else reason


def first_lost(reason: str) -> str:
    """How an object was lost, from words for one of which nothing more was known later on."""
    return reason.partition(_THEN)[0]


class Delivery:
    """What one call has done so far, and whether it is to go on; for those who send to inherit from."""

    def __init__(
        self,
        called: dict[str, str],
        settings: SendSettings,
        on_result: Callable[[ObjectResult], None],
        *,
        stop: Callable[[], bool],
        on_way: Callable[[UnderWay], None],
        seconds: float,
        trouble: Trouble | None,
    ) -> None:
        """Begin; ``called`` is what log lines call the peer."""
        self._trouble = trouble or Trouble()
        self._leaves_to_wait = trouble is not None
        self._until = time.monotonic() + seconds
        self.totals = SendTotals()
        self._called = called
        self._settings = settings
        self._on_result = on_result
        self._stop = stop
        self._on_way = on_way
        self._lost: dict[int, str] = {}
        """Objects that were sent without being told what became of them, by index, and why that was."""

    def read(self, index: int, path: Path) -> StoredObject | None:
        """What sending the file needs to know; when that cannot be had, the file has its result."""
        try:
            meta, dataset_bytes = read_object(path)
            return StoredObject(
                index=index,
                path=path,
                context=Context(meta.sop_class_uid, meta.transfer_syntax_uid),
                sop_instance_uid=meta.sop_instance_uid,
                dataset_offset=meta.dataset_offset,
                dataset_bytes=dataset_bytes,
            )
        except (InvalidInstance, OSError):
            self._tell(ObjectResult(index, path, Verdict.UNREADABLE, reason="not a DICOM part 10 file with a dataset"))
            return None

    def _object(
        self, stored: StoredObject, verdict: Verdict, reason: str = "", status: int | None = None, comment: str = ""
    ) -> None:
        self._tell(ObjectResult(stored.index, stored.path, verdict, stored.dataset_bytes, status, comment, reason))

    def _give_up(self, stored: StoredObject, reason: str) -> None:
        lost = self._lost.get(stored.index)
        verdict = Verdict.UNKNOWN if lost else Verdict.NOT_SENT
        reason = lost_then(lost, reason)
        self._tell(ObjectResult(stored.index, stored.path, verdict, stored.dataset_bytes, reason=reason, given_up=True))

    def _leave(self, objects: Iterable[StoredObject]) -> None:
        """They get no result, because ``stop`` or the end of the time came first."""
        for stored in objects:
            if lost := self._lost.get(stored.index):
                self.totals.unanswered[stored.index] = lost

    def _tell(self, result: ObjectResult) -> None:
        self._on_result(result)
        self.totals.add(result)
        self._lost.pop(result.index, None)

    def _tell_under_way(self, objects: Iterable[StoredObject], *, at_once: int) -> None:
        """To be called before they are sent; results take them out of it again."""
        order = [stored.index for stored in objects]
        now = frozenset(order)
        lost = {index: reason for index, reason in self._lost.items() if index not in now}
        self._on_way(UnderWay(order, at_once, lost))

    def _pause(self, attempt: int, reason: str, at_least: float = 0) -> None:
        seconds = max(pause_before(attempt, self._settings), min(at_least, LONGEST_PAUSE_SECONDS))
        self._tell_under_way((), at_once=0)
        log.warning("peer_tried_again", **self._called, reason=reason, attempt=attempt, seconds=seconds)
        if self._leaves_to_wait:
            self.totals.pause = seconds
            return
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopped():
            time.sleep(min(left, 0.2))

    def _stopped(self) -> bool:
        self.totals.stopped = self.totals.stopped or self.totals.pause > 0 or self._time_is_over() or self._stop()
        return self.totals.stopped

    def _time_is_over(self) -> bool:
        return self._left() <= 0

    def _left(self) -> float:
        """Seconds until the end of the time."""
        return self._until - time.monotonic()
