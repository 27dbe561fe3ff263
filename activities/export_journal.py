"""What is written down of the sending of one task to one destination, on the node's disk, while it goes on.

Lines of JSON of two kinds, each written whole:

* the result of an object, before the next object is begun;
* what a lane (one association, or the requests of one connection) has under way: when an association begins, before a
  request, when there is a pause, and when the lane ends. It replaces what the lane said before. A pass begins with such
  a line for all lanes there were.

So an object costs one write, and a killed worker leaves behind which objects it had sent without knowing what became of
them. Nothing is flushed to the device: a power cut may cost what the records (which are a few seconds behind) do not
have, and those objects are sent twice.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from clara_dicom_adapter.dicom.delivery import ObjectResult, UnderWay, Verdict, first_lost
from clara_dicom_adapter.records.texts import bounded

ALL_LANES: Final = ""
"""The name under which a new pass says what all lanes before it have left."""
KILLED: Final = "on its way when the worker ended"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One journalled result.

    Attributes:
        send: Which pass it belongs to, ``<offer>.<round>``.
        index: Place in the task's list of uris.
        comment: The peer's words; may speak of a patient.
    """

    send: str
    index: int
    verdict: Verdict
    status: int | None = None
    comment: str = ""
    reason: str = ""

    @classmethod
    def of(cls, send: str, index: int, result: ObjectResult) -> Self:
        return cls(send, index, result.verdict, result.status, bounded(result.comment), bounded(result.reason))

    @property
    def delivered(self) -> bool:
        return self.verdict in {Verdict.STORED, Verdict.WARNING}


@dataclass
class History:
    """What a journal tells.

    Attributes:
        outcomes: Results, in the order they came.
        unknown: Objects whose newest result is that they were lost, and how.
    """

    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    unknown: dict[int, str] = field(default_factory=dict[int, str])
    _lanes: "dict[str, _Lane]" = field(default_factory=dict[str, "_Lane"])

    @property
    def lost(self) -> Mapping[int, str]:
        """Objects that were sent after their newest result, if they have one, and how what became of them was lost."""
        found: dict[int, str] = {}
        for lane in self._lanes.values():
            found |= dict.fromkeys(islice(lane.order, lane.at_once), KILLED)
        for lane in self._lanes.values():
            found |= lane.lost
        return found

    def add(self, line: Mapping[str, Any]) -> None:
        """Take in one line, or nothing of it: raises ``ValueError``, ``TypeError`` or ``LookupError``."""
        if "lane" not in line:
            self._result(_outcome(line))
            return
        lost = {int(index): str(reason) for index, reason in dict(line["lost"]).items()}
        lane = _Lane(dict.fromkeys(int(index) for index in line["order"]), int(line["at_once"]), lost)
        if line["lane"] == ALL_LANES:
            self._lanes.clear()
        self._lanes[line["lane"]] = lane

    def _result(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        if outcome.verdict is Verdict.UNKNOWN:
            self.unknown[outcome.index] = first_lost(outcome.reason)
        else:
            self.unknown.pop(outcome.index, None)
        for lane in self._lanes.values():
            lane.order.pop(outcome.index, None)
            lane.lost.pop(outcome.index, None)


@dataclass(slots=True)
class _Lane:
    order: dict[int, None]
    """What has no result yet; a dictionary keeps the order, and quickly gives up any of them."""
    at_once: int
    lost: dict[int, str]


class Lines:
    """Writes lines, each with one write; threads may share it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def result(self, outcome: Outcome) -> None:
        self._append(
            {
                "send": outcome.send,
                "index": outcome.index,
                "verdict": outcome.verdict.value,
                "status": outcome.status,
                "comment": outcome.comment,
                "reason": outcome.reason,
            }
        )

    def under_way(self, lane: str, way: UnderWay) -> None:
        self._append({"lane": lane, "order": list(way.order), "at_once": way.at_once, "lost": dict(way.lost)})

    def _append(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        if os.write(self._descriptor, data) != len(data):
            raise OSError("the journal could not take a whole line")


class Journal:
    """One file; one process writes it at a time, because one activity does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> History:
        """Everything so far; a line that a crash or a power cut left unreadable does not count."""
        history = History()
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return history
        for line in lines[:-1]:
            with suppress(ValueError, TypeError, LookupError):
                history.add(json.loads(line))
        return history

    @contextmanager
    def writer(self) -> Iterator[Lines]:
        """Append to it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                os.write(descriptor, b"\n")  # ends what a crash cut short
            yield Lines(descriptor)
        finally:
            os.close(descriptor)


def _outcome(value: Mapping[str, Any]) -> Outcome:
    index = value["index"]
    if not isinstance(index, int):
        raise TypeError("the place of an object is a number")
    return Outcome(
        value["send"],
        index,
        Verdict(value["verdict"]),
        value["status"],
        value["comment"],
        value["reason"],
    )
