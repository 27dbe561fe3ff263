"""A small instance on its way into a segment: the hot path of those.

It is kept in memory until it is complete, for only then it is known how long it is. One that turns out to be larger or
slow, or for which no segment has room, goes the way of the larger ones: who asks which study it is of, so that a window
stays open for it, looks into its file.
"""

import time
from collections.abc import Callable
from typing import Final

from clara_dicom_adapter.spool.filing import CopyAt
from clara_dicom_adapter.spool.incoming import Arriving, IncomingInstance, Named
from clara_dicom_adapter.spool.models import StoredInstance
from clara_dicom_adapter.spool.seal import PREAMBLE_BYTES, ContentHash, Seal
from clara_dicom_adapter.spool.segment import MOST_BYTES, PAGE
from clara_dicom_adapter.spool.segments import Place, Segments
from clara_dicom_adapter.spool.settling import Settling

_SLOW_SECONDS: Final = 0.3


class InSegment(IncomingInstance):
    """An instance in a segment; or, from the moment when that is out of the question, in a file."""

    def __init__(
        self,
        arriving: Arriving,
        segments: Segments,
        settling: Settling,
        *,
        larger: Callable[[int | None], IncomingInstance],
        stored: Callable[[StoredInstance], None],
    ) -> None:
        """Args:
        larger: Begins the same instance in a file, given its bytes where they are known.
        stored: Called when it is durable.
        """
        self._arriving = arriving
        self.path = None
        self._segments = segments
        self._settling = settling
        self._larger = larger
        self._stored = stored
        self._header = arriving.header()
        self._dataset = bytearray()
        self.bytes = len(self._header)
        self._begun = time.monotonic()
        self._other: IncomingInstance | None = None
        self._place: Place | None = None
        self._committed: StoredInstance | None = None
        self._done: Named | None = None

    def write(self, *fragments: bytes | memoryview) -> None:
        if self._other is not None:
            self._other.write(*fragments)
            return
        self.bytes += sum(map(len, fragments))
        if self.bytes > MOST_BYTES or time.monotonic() - self._begun > _SLOW_SECONDS:
            self._spill(None, *fragments)
        else:
            for fragment in fragments:
                self._dataset += fragment

    def _spill(self, size: int | None, *fragments: bytes | memoryview) -> IncomingInstance:
        self._other = other = self._larger(size)
        self.path, self.waits_for_the_journal = other.path, other.waits_for_the_journal
        dataset, self._dataset = self._dataset, bytearray()
        if dataset or fragments:
            other.write(bytes(dataset), *fragments)
        return other

    def commit(self) -> StoredInstance:
        if self._other is None:
            self._place = self._segments.take(self.bytes)
        if self._place is None:
            return self._commit_larger(self._other or self._spill(self.bytes))
        place = self._place
        try:
            return self._write(place)
        except BaseException:
            self._place = None
            place.segment.settled()
            raise

    def _write(self, place: Place) -> StoredInstance:
        arriving = self._arriving
        # not before the lap, should the clock have been set back
        instance = arriving.stored(max(time.time_ns(), place.lap.begun_ns), self.bytes)
        content = b"".join((self._header[PREAMBLE_BYTES:], self._dataset))
        seal = Seal(
            arriving.association_id,
            arriving.sequence,
            instance.received_ns,
            instance.bytes,
            ContentHash(content).intdigest(),
        )
        before = time.perf_counter()
        place.segment.write([seal.preamble(place.lap.key), content, bytes(-self.bytes % PAGE)], place.at)
        if place.segment.durable:
            self.flush_seconds = time.perf_counter() - before
        self._dataset = bytearray()
        self._committed = instance
        self._stored(instance)
        return instance

    def _commit_larger(self, other: IncomingInstance) -> StoredInstance:
        instance = other.commit()
        self.flush_seconds = other.flush_seconds
        return instance

    def name(self, done: Named) -> None:
        if self._other is not None:
            self._other.name(done)
        elif self._place is not None and self._committed is not None:
            self._done = done
            self._settling.put(self)

    @property
    def copy_at(self) -> CopyAt:
        place = self._place
        if place is None:
            raise RuntimeError("an instance that is in no segment")
        return CopyAt(place.segment.path.name, place.lap.key, place.at)

    def settle(self, refusal: str | None) -> None:
        done, self._done = self._done, None
        if done is None:
            return
        if refusal is None and self._place is not None:
            self._let_go(self._place.segment.settled)
        done(OSError(refusal) if refusal is not None else None)

    def discard(self) -> None:
        if self._other is not None:
            self._other.discard()
        elif self._place is not None and self._committed is not None:
            self._let_go(self._place.segment.leave)
        self._dataset.clear()

    def _let_go(self, how: Callable[[], None]) -> None:
        self._place = None
        how()
