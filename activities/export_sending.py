"""One pass of a task's objects to one destination, over one association or several, turn by turn.

A long export gives its associations up between two objects when others have waited for long enough, and queues again.
"""

import asyncio
import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from clara_dicom_adapter.activities.export_ledger import Ledger, Notes
from clara_dicom_adapter.activities.export_turns import Turns
from clara_dicom_adapter.activities.to_the_end import ended, in_thread
from clara_dicom_adapter.dicom import stow
from clara_dicom_adapter.dicom.delivery import ObjectResult, SendSettings, Trouble, UnderWay, Verdict, lost_then
from clara_dicom_adapter.dicom.sender import Peer, send
from clara_dicom_adapter.dicom.stow_service import WebPeer

TURN_SECONDS: Final = 20.0
"""An association may be kept for this long while others wait for it; then it ends behind the object, or the request,
that is under way."""
WORTH_AN_ASSOCIATION: Final = 20
"""Objects; fewer are sent sooner than another association is negotiated."""


@dataclass(frozen=True)
class Route:
    """How one destination is sent to.

    Attributes:
        key: Its name without case.
        associations: How many it may have at once; another export gets each as soon as it has ended.
        time_limit: Seconds for the whole pass, without the time spent in the queue; then the object or the request
            under way is broken off.
    """

    key: str
    peer: Peer | WebPeer
    settings: SendSettings
    associations: int
    time_limit: float


class _Lane:
    """The share of one association in a turn."""

    def __init__(
        self,
        objects: Mapping[int, Path],
        part: Sequence[int],
        route: Route,
        left: float,
        *,
        notes: Notes,
        trouble: Trouble | None,
    ) -> None:
        self._trouble = trouble
        self._name = uuid.uuid4().hex[:8]
        self._files = [objects[index] for index in part]
        self._part = part
        self._route = route
        self._left = left
        self._notes = notes
        self._begun = False
        self.reached = False
        """Whether anything was sent."""
        self.pause = 0.0
        """Seconds after which the rest is to be tried again."""
        self.given_up: list[ObjectResult] = []
        self.lost: dict[int, str] = {}
        """Objects that were sent, and whose responses were lost; they may be sent again."""

    def send(self, turn_is_over: Callable[[Route, float], bool]) -> None:
        begun = time.monotonic()

        def take(result: ObjectResult) -> None:
            if result.given_up:
                self.given_up.append(result)
                if result.verdict is Verdict.UNKNOWN:
                    self.lost[self._part[result.index]] = result.reason
            else:
                self._notes.result(self._part[result.index], result)
                self.reached = True

        def under_way(way: UnderWay) -> None:
            order = [self._part[index] for index in way.order]
            lost = {self._part[index]: reason for index, reason in way.lost.items()}
            self._begun = self._begun or bool(order)
            self._notes.under_way(self._name, UnderWay(order, way.at_once, lost))

        def over() -> bool:
            # a turn in which nothing was sent does not end for others: else all would only associate
            return turn_is_over(self._route, time.monotonic() - begun if self.reached else 0.0)

        peer, settings, left, trouble = self._route.peer, self._route.settings, self._left, self._trouble
        if isinstance(peer, WebPeer):
            totals = stow.store(
                self._files, peer, settings, take, stop=over, on_way=under_way, seconds=left, trouble=trouble
            )
        else:
            totals = send(self._files, peer, settings, take, stop=over, on_way=under_way, seconds=left, trouble=trouble)
        self.pause = totals.pause
        self.lost |= {self._part[index]: reason for index, reason in totals.unanswered.items()}
        if self._begun:
            self._notes.under_way(self._name, UnderWay(lost=self.lost))

    def write_given_up(self) -> None:
        for result in self.given_up:
            self._notes.result(self._part[result.index], result)


class Sending:
    """Sends what a ledger does not have, and writes each result to it."""

    def __init__(self, objects: Mapping[int, Path], ledger: Ledger, turns: Turns, threads: Executor) -> None:
        self._objects = objects
        self._ledger = ledger
        self._turns = turns
        self._threads = threads
        self._stopped = threading.Event()
        self._alone = False
        """Whether further associations were refused; from then on there is one."""
        self._trouble = Trouble()
        self._lost = dict(ledger.lost)
        """Objects that were sent in an earlier turn or pass, and how their responses were lost."""

    async def to(self, route: Route) -> None:
        """Until every object has a result; when cancelled, after the objects under way."""
        open_journal = ExitStack()
        # both ends may write to a database, which must not keep the event loop waiting
        try:
            notes = await in_thread(open_journal.enter_context, self._ledger.writer())
            await self._all(route, replace(notes, result=self._remembering(notes)))
        finally:
            await in_thread(open_journal.close)

    async def _all(self, route: Route, notes: Notes) -> None:
        left, pause = route.time_limit, 0.0
        while todo := [index for index in self._objects if self._ledger.is_to_be_sent(index)]:
            if left <= 0:
                await in_thread(self._give_up, todo, route, notes)
                return
            if pause:  # without an association, which others can use meanwhile
                await asyncio.sleep(min(pause, left))
                left, pause = left - pause, 0.0
                continue
            wanted = 1 if self._alone else math.ceil(len(todo) / WORTH_AN_ASSOCIATION)
            count = await self._turns.take(route.key, route.associations, wanted)
            begun = time.monotonic()
            pause = await self._turn([todo[number::count] for number in range(count)], route, left, notes)
            left -= time.monotonic() - begun

    async def _turn(self, parts: Sequence[Sequence[int]], route: Route, left: float, notes: Notes) -> float:
        """Send each part over an association that has been granted; each is given back as soon as it has ended.

        Returns:
            Seconds to wait for before the next turn.
        """
        # only the first tries again: if the peer wants one association at a time, the others had better be gone by then
        hasty = replace(route, settings=replace(route.settings, retries=0, hasty=True))
        lanes = [
            _Lane(self._objects, part, hasty, left, notes=notes, trouble=None)
            if number
            else _Lane(self._objects, part, route, left, notes=notes, trouble=self._trouble)
            for number, part in enumerate(parts)
        ]
        running = self._started(lanes, route)
        try:
            await asyncio.wait(running, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            # one that has failed, or a cancellation, ends the others between two objects
            if not all(each.done() for each in running):
                self._stopped.set()
                await ended(running)
        for each in running:
            each.result()
        for lane in lanes:
            self._lost |= lane.lost
        pause = lanes[0].pause
        if len(lanes) > 1 and (pause or any(lane.reached for lane in lanes)):
            # the peer is there, or may be later; it may only not want so many associations at once
            self._alone = self._alone or any(lane.given_up for lane in lanes)
            if lanes[0].given_up:
                self._trouble.failures = 0
            return pause
        for lane in lanes:
            await in_thread(lane.write_given_up)
        return pause

    def _started(self, lanes: Sequence[_Lane], route: Route) -> list[asyncio.Future[None]]:
        loop = asyncio.get_running_loop()
        running: list[asyncio.Future[None]] = []
        try:
            for lane in lanes:
                running.append(loop.run_in_executor(self._threads, lane.send, self._is_over))
                running[-1].add_done_callback(lambda _: self._turns.give_back(route.key, 1))
        finally:
            self._turns.give_back(route.key, len(lanes) - len(running))
        return running

    def _is_over(self, route: Route, passed: float) -> bool:
        return self._stopped.is_set() or (passed > TURN_SECONDS and self._turns.awaited(route.key))

    def _remembering(self, notes: Notes) -> Callable[[int, ObjectResult], None]:
        """What was not sent in this turn may have been in an earlier one."""

        def remembering(index: int, result: ObjectResult) -> None:
            if result.verdict is Verdict.NOT_SENT and (lost := self._lost.get(index)):
                result = replace(result, verdict=Verdict.UNKNOWN, reason=lost_then(lost, result.reason))
            notes.result(index, result)

        return remembering

    def _give_up(self, todo: Sequence[int], route: Route, notes: Notes) -> None:
        reason = f"not sent within {route.time_limit:g} s"
        for index in todo:
            notes.result(index, ObjectResult(index, self._objects[index], Verdict.NOT_SENT, reason=reason))
