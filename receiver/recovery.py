"""Finds again what is accepted and on nobody's way: at start, and slowly while running.

How it works: (1) instances on disk that the index does not know are indexed and batched; (2) batches and ends that
Temporal has not accepted are posted; (3) whoever owns instances is looked up in Temporal (``owners.py``); (4) what was
released is deleted. Temporal being away delays (2) and (3), never the rest.
"""

import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Final, TypeVar

import structlog

from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.receiver.addressing import Addressing
from clara_dicom_adapter.receiver.hand_over import HandOver
from clara_dicom_adapter.receiver.owners import Found, Owners
from clara_dicom_adapter.spool import AssociationFolder, Spool, StoredInstance, Target
from clara_dicom_adapter.workflows.models import AssociationEnd

log = structlog.get_logger("clara_dicom_adapter.receiver")

T = TypeVar("T")

_STOP_SECONDS: Final = 10.0
_INSTANCES_PER_BATCH: Final = 500
_RECLAIM_SECONDS: Final = 5.0
_SOON_SECONDS: Final = 5.0
"""Pause to the next attempt when Temporal could not be asked."""


class Recovery:
    """Reconciles and reclaims, in two threads of its own."""

    def __init__(
        self,
        spool: Spool,
        addressing: Addressing,
        hand_over: HandOver,
        interval_seconds: float,
        *,
        closed: Callable[[AssociationFolder], None] = lambda folder: None,
        looked: Callable[[], object] = lambda: None,
    ) -> None:
        """Args:
        closed: Hears of associations that were left open, and of ended ones of which something was forgotten.
        looked: Called after each reconciliation.
        """
        self._spool = spool
        self._addressing = addressing
        self._hand_over = hand_over
        self._owners = Owners(spool, hand_over, interval_seconds)
        self._interval_seconds = interval_seconds
        self._closed = closed
        self._looked = looked
        self._stopping = threading.Event()
        self._looking = threading.RLock()
        self.judged = False
        """Whether Temporal could be asked about the owners in the last reconciliation."""
        self._threads = [
            threading.Thread(target=self._reconcile_for_ever, name="reconciler", daemon=True),
            threading.Thread(target=self._reclaim_for_ever, name="reclaimer", daemon=True),
        ]

    def close_abandoned(self) -> list[AssociationFolder]:
        """Associations that were open when their listener went down get their outcome: it was our fault."""
        with self._looking:
            try:
                abandoned = self._spool.end_abandoned()
            except (AdapterError, OSError) as error:  # a full disk must not keep the receiver from telling senders so
                log.warning("outcomes_not_written", error=str(error)[:300])
                return []
        for folder in abandoned:
            log.info("association_was_interrupted", association_id=folder.association_id)
            self._closed(folder)
        return abandoned

    def start(self) -> None:
        """Reconcile now, then slowly for ever."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop as soon as what is being done is done."""
        self._stopping.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_STOP_SECONDS)

    def reconcile(self) -> Found:
        """Look through everything once."""
        with self._looking:  # who ends associations sees to it that they are in the index
            self.close_abandoned()
            found = Found(indexed=self._index_forgotten())
        if not self._stopping.is_set():
            self._hand_over.begin()
        self.judged = self._run(self._owners.judge(found))
        ends = self._pending_ends()
        posted = self._run(self._resume(ends))
        found.batches, found.ends = posted["batches"], posted["ends"]
        if found.anything:
            log.info(
                "reconciled",
                instances=found.indexed,
                batches=found.batches,
                associations=found.ends,
                count=found.disowned + found.restarted,
            )
        return found

    # ---- what is on disk ----

    def _index_forgotten(self) -> int:
        indexed = 0
        for folder in self._spool.associations():
            if self._stopping.is_set() or self._hand_over.follows(folder.association_id):
                continue  # an association that is followed is indexed by who follows it
            try:
                forgotten = self._spool.unindexed(folder)
                for instances in _in_portions(forgotten):
                    self._addressing.make_batches(self._spool, folder, instances)
                    indexed += len(instances)
                # its listener may have told nothing at all; while it tells nothing yet, there may be more to come
                if forgotten and folder.outcome is not None and not self._spool.unindexed(folder):
                    self._closed(folder)
            except (AdapterError, OSError, ValueError) as error:  # the others are not to wait for this one
                log.warning("not_indexed", association_id=folder.association_id, error=str(error)[:300])
        return indexed

    def _pending_ends(self) -> list[tuple[Target, AssociationEnd]]:
        pending = self._spool.ends_to_hand_over()
        wanted = {one.association_id for one in pending}
        folders = {one.association_id: one for one in self._spool.associations() if one.association_id in wanted}
        ends: list[tuple[Target, AssociationEnd]] = []
        for one in pending:
            folder = folders.get(one.association_id)
            record = folder.outcome if folder is not None else None
            if folder is not None and record is not None:
                end = self._addressing.end(self._spool.node_id, folder, record.outcome, one.instances)
                ends.append((one.target, end))
        return ends

    async def _resume(self, ends: list[tuple[Target, AssociationEnd]]) -> Counter[str]:
        pending = await self._hand_over.in_files_thread(self._spool.batches_to_hand_over)
        return self._hand_over.resume(pending, ends)

    # ---- for ever ----

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._hand_over.submit(work).result()

    def _reconcile_for_ever(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            judged = False
            try:
                self.reconcile()
                judged = self.judged
                self._looked()
            except (AdapterError, OSError) as error:
                log.warning("not_reconciled", error=str(error)[:300])
            except Exception:
                log.exception("not_reconciled")
            pause = self._interval_seconds if judged else min(_SOON_SECONDS, self._interval_seconds)

    def _reclaim_for_ever(self) -> None:
        while not self._stopping.wait(_RECLAIM_SECONDS):
            try:
                totals = self._spool.reclaim()
            except (AdapterError, OSError) as error:
                log.warning("not_reclaimed", error=str(error)[:300])
                continue
            except Exception:
                log.exception("not_reclaimed")
                continue
            if totals.instances or totals.parts:
                log.info("reclaimed", instances=totals.instances, bytes=totals.bytes, count=totals.parts)


def _in_portions(instances: Sequence[StoredInstance]) -> Iterator[Sequence[StoredInstance]]:
    for start in range(0, len(instances), _INSTANCES_PER_BATCH):
        yield instances[start : start + _INSTANCES_PER_BATCH]
