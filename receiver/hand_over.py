"""From durable instances to ReceiveWorkflows: off the reply path, in one thread with an event loop of its own.

How it works: each association that stores leaves a trail: how far its instances are batched. A trail is followed to
its end at least every second while instances arrive, and at once when the association ends: new instances are looked
up in its folder, their heads read, divided by the workflow they belong to, batches made durable in the spool, and
letters posted. The batch of an end goes before the end. Nothing here ever makes receiving wait; the spool is the
buffer, and what is lost from this thread's memory is found again by the reconciler.
"""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.receiver import grouping
from clara_dicom_adapter.receiver.addressing import Addressing
from clara_dicom_adapter.receiver.delivery import Connect, Delivery
from clara_dicom_adapter.receiver.live import LiveAssociation, LiveAssociations
from clara_dicom_adapter.receiver.metrics import ReceiverMetrics
from clara_dicom_adapter.spool import AssociationFolder, PendingBatch, Spool, Target
from clara_dicom_adapter.workflows.models import AssociationEnd, AssociationOutcome, BatchRef, ReceiveInput
from clara_dicom_adapter.workflows.models import HandOver as HandOverLetter

log = structlog.get_logger("clara_dicom_adapter.receiver")

T = TypeVar("T")

_BATCH_SECONDS: Final = 1.0
_INSTANCES_AT_ONCE: Final = 500
"""So that memory does not grow with an association."""
_KEEP_ALIVE_TICK_SECONDS: Final = 0.25
_HELD_BACK_SECONDS: Final = 30.0
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0


@dataclass
class _Trail:
    """How far the instances of an association are batched.

    Attributes:
        batched: Sequences that need no more looking at. Not all up to one of them: names are not made in order, and a
            folder is not read at one moment.
        posted: Batches that are on their way to Temporal, or have got there.
        told: Instances of batches that Temporal has accepted.
        broken: Its listener has died; others wait for it.
        failed: Instances answered A700, once it has ended.
    """

    folder: AssociationFolder
    batched: set[int] = field(default_factory=set[int])
    posted: set[str] = field(default_factory=set[str])
    told: int = 0
    scheduled: bool = False
    outcome: AssociationOutcome | None = None
    broken: bool = False
    failed: int = 0
    addressed: set[str] = field(default_factory=set[str])
    kept_alive_at: float = 0.0
    emptying: asyncio.Lock = field(default_factory=asyncio.Lock)


class HandOver:
    """Follows the associations and tells Temporal."""

    def __init__(
        self, spool: Spool, addressing: Addressing, connect: Connect, live: LiveAssociations, metrics: ReceiverMetrics
    ) -> None:
        self._spool = spool
        self._addressing = addressing
        self._live = live
        self._trails: dict[str, _Trail] = {}
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._files = ThreadPoolExecutor(max_workers=2, thread_name_prefix="hand-over-files")
        self.delivery = Delivery(connect, self._accepted, metrics)
        self._thread = threading.Thread(target=self._run, name="hand-over", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = False
        self._held_back = 1
        self._going = asyncio.Event()

    # ---- called when a listener reports, from the threads that listen to them ----

    def stored(self, association_id: str) -> None:
        """An association has stored something, or something is arriving."""
        trail = self._trail(association_id)
        if trail is not None and not trail.scheduled:
            trail.scheduled = True
            self._soon(self._schedule, trail)

    def ended(self, association_id: str, outcome: AssociationOutcome, failed: int) -> None:
        """An association is over.

        Args:
            failed: Its instances that were answered A700.
        """
        trail = self._trail(association_id)
        if trail is not None:
            trail.failed = failed
            trail.outcome = outcome
            self._soon(self._begin_emptying, trail)

    def broken_off(self, ended: Iterable[tuple[str, AssociationOutcome, int]]) -> None:
        """Associations whose listener has died: id, outcome, failed instances. In the index when this returns."""
        emptied: list[Future[None]] = []
        for association_id, outcome, failed in ended:
            trail = self._trail(association_id)
            if trail is not None:
                trail.failed, trail.outcome, trail.broken = failed, outcome, True
                with suppress(RuntimeError):  # closed already
                    emptied.append(self.submit(self._follow(trail)))
        wait(emptied, _HELD_BACK_SECONDS)

    # ---- called by the service and the reconciler ----

    def start(self) -> None:
        """Start the thread; nothing is handed over before :meth:`begin`."""
        self._thread.start()

    def begin(self) -> None:
        """What an earlier run left behind is in the index; only the first call counts."""
        if not self._begun:
            self._begun = True
            self.go_on()

    def hold_back(self) -> None:
        """Some association has broken off and is not in the index yet: nothing goes on before :meth:`go_on`.

        The other way round, its sender's next association could be submitted before anybody knew of the broken one.
        """
        self._change_held_back(1)

    def go_on(self) -> None:
        """What was held back for is in the index, so that what comes now may follow it."""
        self._change_held_back(-1)

    def _change_held_back(self, change: int) -> None:
        def apply() -> None:
            self._held_back += change
            (self._going.clear if self._held_back else self._going.set)()

        with suppress(RuntimeError):  # closed already
            self._loop.call_soon_threadsafe(apply)

    def stop(self, timeout: float) -> bool:
        """Hand over what can be handed over in time, then end; False when something is left to the next start."""
        told = False
        with suppress(TimeoutError):
            told = self.submit(self._drain(timeout)).result(timeout + 1)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._files.shutdown(wait=False, cancel_futures=True)
        return told

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Run something in the event loop of the hand-over."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def follows(self, association_id: str) -> bool:
        """Whether an association's instances are still on their way through this thread."""
        return association_id in self._trails

    def queued(self, live: LiveAssociation) -> int:
        """Instances of an open association that Temporal has not been told of."""
        trail = self._trails.get(live.association_id)
        return max(live.instances - (trail.told if trail else 0), 0)

    async def in_files_thread(self, call: Callable[..., T], *arguments: object) -> T:
        """Run blocking work on the spool beside the event loop."""
        return await self._loop.run_in_executor(self._files, lambda: call(*arguments))

    def resume(self, pending: Iterable[PendingBatch], ends: Iterable[tuple[Target, AssociationEnd]]) -> Counter[str]:
        """Post what Temporal has not accepted and nobody is about to post; runs in the event loop."""
        posted: Counter[str] = Counter()
        batches_on_their_way, ends_on_their_way = self.delivery.batch_ids(), self.delivery.ends()
        for batch in pending:
            if batch.ref.batch_id not in batches_on_their_way and not self.follows(batch.ref.association_id):
                self._post(batch.target, [batch.ref], None)
                posted["batches"] += 1
        for target, end in ends:
            known = (end.association_id, target.workflow_id) in ends_on_their_way
            if not known and not self.follows(end.association_id):
                self._post(target, [], end)
                posted["ends"] += 1
        return posted

    # ---- in the event loop ----

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._spawn(self._keep_windows_open())
        self._loop.run_forever()
        # what is cut off here lies in the spool as it would after a crash
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    def _trail(self, association_id: str) -> _Trail | None:
        """The trail of an association; None when its folder cannot be read, or is gone: the reconciler sees to it."""
        with self._lock:
            trail = self._trails.get(association_id)
            if trail is None:
                try:
                    trail = _Trail(self._spool.association(association_id))
                except (AdapterError, OSError) as error:
                    log.debug("association_not_followed", association_id=association_id, error=str(error)[:300])
                    return None
                self._trails[association_id] = trail
            return trail

    def _soon(self, call: Callable[[_Trail], object], trail: _Trail) -> None:
        try:
            self._loop.call_soon_threadsafe(call, trail)
        except RuntimeError:
            log.debug("hand_over_closed")  # stopping; the next start finds the instance in the spool

    def _schedule(self, trail: _Trail) -> None:
        timeout = trail.folder.facts.ae.timeout_seconds
        # a window of one second must not close between two batches
        pause = min(_BATCH_SECONDS, timeout / 4) if timeout > 0 else _BATCH_SECONDS
        self._loop.call_later(pause, self._begin_emptying, trail)

    def _begin_emptying(self, trail: _Trail) -> asyncio.Task[None]:
        return self._spawn(self._follow(trail))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # what it left is found by the reconciler; that it happened must not stay unseen
            log.error("hand_over_failed", exc_info=task.exception())

    async def _follow(self, trail: _Trail) -> None:
        """Empty a trail; one that fails after its association's end is followed no more, and left to the reconciler."""
        try:
            await self._empty(trail)
        except Exception:
            log.exception("hand_over_failed", association_id=trail.folder.association_id)
            if trail.outcome is not None:
                with self._lock:
                    self._trails.pop(trail.folder.association_id, None)

    async def _empty(self, trail: _Trail) -> None:
        if not trail.broken:
            await self._until_going()
        async with trail.emptying:
            trail.scheduled = False
            outcome = trail.outcome  # looked at first: what came before the end is then in this batch
            made: list[PendingBatch] = []
            more = True
            while more:
                batches, more = await self._persistently(trail, self._make_batches, trail)
                made += batches
            ends: list[tuple[Target, AssociationEnd]] = []
            over = outcome is not None and self.follows(trail.folder.association_id)
            if over:
                trail.folder.failed_instances = trail.failed
                made, ends = await self._persistently(trail, self._rest, trail.folder, outcome)
            # all at once, so that the last batch and the end ride in one signal
            for batch in made:
                workflow_id, batch_id = batch.target.workflow_id, batch.ref.batch_id
                trail.addressed.add(workflow_id)
                # the reconciler may have found its instances before they were told of
                if batch_id not in trail.posted and not self.delivery.is_on_its_way(workflow_id, batch_id):
                    trail.posted.add(batch_id)
                    self._post(batch.target, [batch.ref], None)
            for target, end in ends:
                self._post(target, [], end)
            if over:
                with self._lock:
                    self._trails.pop(trail.folder.association_id, None)

    async def _until_going(self) -> None:
        while not self._going.is_set():
            with suppress(TimeoutError):
                # an index that takes for ever delays nobody for ever, once there is one
                await asyncio.wait_for(self._going.wait(), _HELD_BACK_SECONDS)
            if self._begun:
                return

    def _make_batches(self, trail: _Trail) -> tuple[list[PendingBatch], bool]:
        """Batch the next instances; tells whether there are more."""
        try:
            instances = list(islice(trail.folder.stored(trail.batched), _INSTANCES_AT_ONCE))
        except FileNotFoundError:  # it has ended with nothing in it, and is removed
            return [], False
        if not instances:
            return [], False
        made = self._addressing.make_batches(self._spool, trail.folder, instances)
        trail.batched.update(instance.sequence for instance in instances)
        return made, len(instances) == _INSTANCES_AT_ONCE

    async def _persistently(self, trail: _Trail, call: Callable[..., T], *arguments: object) -> T:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self.in_files_thread(call, *arguments)
            except (AdapterError, OSError, ValueError) as error:
                # a full disk, a locked database, a secret that is not there yet; ValueError: batched meanwhile
                association_id = trail.folder.association_id
                log.warning("hand_over_delayed", association_id=association_id, error=str(error)[:300])
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _rest(
        self, folder: AssociationFolder, outcome: AssociationOutcome
    ) -> tuple[list[PendingBatch], list[tuple[Target, AssociationEnd]]]:
        """All that is to be told of an association that is over.

        The batches are those of the index: one that was made by an attempt which then failed goes before the end, too.
        """
        return self._spool.batches_to_hand_over_of(folder.association_id), [
            (pending.target, self._addressing.end(self._spool.node_id, folder, outcome, pending.instances))
            for pending in self._spool.addressed(folder.association_id)
        ]

    def _post(self, target: Target, batches: list[BatchRef], end: AssociationEnd | None) -> None:
        start = ReceiveInput.model_validate_json(target.receive_input)
        self.delivery.post(target.workflow_id, start, batches, end)

    def _accepted(self, workflow_id: str, letter: HandOverLetter) -> None:
        if letter.batches:
            self._spool.handed_over([batch.batch_id for batch in letter.batches])
            with self._lock:
                for batch in letter.batches:
                    trail = self._trails.get(batch.association_id)
                    if trail is not None:
                        trail.told += batch.instances
        if letter.ended is not None:
            self._spool.end_handed_over(letter.ended.association_id, workflow_id)

    async def _drain(self, seconds: float) -> bool:
        if not self._begun:
            return False
        deadline = time.monotonic() + seconds
        emptied = [self._begin_emptying(trail) for trail in list(self._trails.values())]
        if emptied:
            _, unfinished = await asyncio.wait(emptied, timeout=seconds)
            if unfinished:
                return False
        return await self.delivery.wait_until_idle(max(deadline - time.monotonic(), 0.01))

    # ---- windows stay open while a large instance arrives ----

    async def _keep_windows_open(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_ALIVE_TICK_SECONDS)
            for live in self._live.snapshot():
                trail = self._trails.get(live.association_id)
                if trail is None or not grouping.is_windowed(trail.folder.facts.ae):
                    continue
                timeout = trail.folder.facts.ae.timeout_seconds
                every, now = timeout / 3, time.monotonic()
                if live.arriving_for(silent_at_most=timeout) < every or now - trail.kept_alive_at < every:
                    continue
                trail.kept_alive_at = now
                self._spawn(self._keep_alive(trail, live.arriving_in))

    async def _keep_alive(self, trail: _Trail, file: str) -> None:
        try:
            workflow_id = (
                await self.in_files_thread(self._addressing.of_arriving, trail.folder, Path(file)) if file else None
            )
        except (AdapterError, OSError) as error:
            log.debug("keep_alive_failed", error=type(error).__name__)
            return
        for one in {workflow_id} if workflow_id else set(trail.addressed):
            await self.delivery.keep_alive(one)
