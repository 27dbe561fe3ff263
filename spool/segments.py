"""The segments that a listener writes small instances into: durable with one flush for all who wait at the same time.

A copy is enough for 0000. The instance's own file is made behind the reply
(:mod:`~clara_dicom_adapter.spool.settling`); a segment is written anew from its beginning only when the files of all
its copies are durable under their names. Whoever died before left its segment to the receiver, which makes those files
(:mod:`~clara_dicom_adapter.spool.replay`).
"""

import fcntl
import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.errors import SpoolUnusable
from clara_dicom_adapter.spool.open_segment import OpenSegment
from clara_dicom_adapter.spool.segment import Lap, pages, read_lap, segments_in

log = structlog.get_logger("clara_dicom_adapter.spool")

MOST_TAKEN: Final = 3
"""One that is written, one whose files are being made durable, and one for when that takes long."""
_LOOK_AGAIN_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """Room for one copy.

    Attributes:
        at: Where in the segment.
    """

    segment: OpenSegment
    at: int

    @property
    def lap(self) -> Lap:
        return self.segment.lap


class Segments:
    """Those of a spool, as a process takes them that receives. Every method may be called from any thread."""

    def __init__(self, root: Path, *, durable: bool) -> None:
        """Args:
        durable: False: what is written is not flushed.
        """
        self._root = root
        self._durable = durable
        self._lock = threading.Lock()
        self._current: OpenSegment | None = None
        self._full: list[OpenSegment] = []
        self._blank: deque[tuple[Path, int]] = deque()
        self._taken = 0
        self._looked_at = float("-inf")
        self._looked_whether_there_at = float("-inf")
        self._there = False
        self._closed = False

    def take(self, size: int) -> Place | None:
        """Room for a copy of so many bytes; None when no segment has any just now."""
        size = pages(size)
        with self._lock:
            while not self._closed:
                if self._current is not None:
                    at = self._current.take(size)
                    if at is not None:
                        return Place(self._current, at)
                    self._full.append(self._current)
                    self._current = None
                blank = self._blank.popleft() if self._blank else self._look()
                if blank is None:
                    return None
                try:
                    self._current = OpenSegment(*blank, durable=self._durable)
                except OSError as error:
                    self._give_up(*blank, error)
                    return None
            return None

    @property
    def there(self) -> bool:
        """Whether the spool has segments at all: they are made behind the start of a receiver, and not everywhere."""
        now = time.monotonic()
        if not self._there and now - self._looked_whether_there_at >= _LOOK_AGAIN_SECONDS:
            self._looked_whether_there_at = now
            with suppress(OSError):
                self._there = bool(segments_in(self._root))
        return self._there

    def _look(self) -> tuple[Path, int] | None:
        """Lock a blank segment that nobody has."""
        now = time.monotonic()
        if self._taken >= MOST_TAKEN or now - self._looked_at < _LOOK_AGAIN_SECONDS:
            return None
        self._looked_at = now
        with suppress(OSError):
            for path in segments_in(self._root):
                descriptor = lock_blank(path)
                if descriptor is not None:
                    self._taken += 1
                    self._looked_at = float("-inf")
                    return path, descriptor
        return None

    def _give_up(self, path: Path, descriptor: int, why: object) -> None:
        """Let go of a segment: the receiver looks after what is in it."""
        log.error("segment_given_up", path=str(path), reason=str(why))
        os.close(descriptor)
        self._taken -= 1

    def ready(self, idle_seconds: float) -> list[OpenSegment]:
        """Segments that are full, or unused for so long, and all of whose copies have their files."""
        with self._lock:
            current = self._current
            if current is not None and current.begun and time.monotonic() - current.written_at >= idle_seconds:
                self._full.append(current)
                self._current = None
            return [segment for segment in self._full if segment.all_named]

    def leave_all(self) -> None:
        """Somebody else is to look after what is in segments by now, although it may have files."""
        with self._lock:
            for segment in (*self._full, *([self._current] if self._current is not None else [])):
                segment.leave_all()

    def end(self, segment: OpenSegment) -> None:
        """The files of a segment are durable under their names: use it again, or let go of it."""
        with self._lock:
            self._full.remove(segment)
        problem: object = "the disk has refused a part of it, or the files of its copies"
        try:  # without the lock: nobody who stores waits for this flush
            again = segment.end()
        except OSError as error:
            again, problem = False, error
        with self._lock:
            if again:
                self._blank.append((segment.path, segment.descriptor))
            else:
                self._give_up(segment.path, segment.descriptor, problem)

    def close(self) -> None:
        """Take no more; what has no file is left to the receiver.

        Where somebody may still write, the segment stays open until the process ends: its number must not become
        another file's.
        """
        with self._lock:
            self._closed = True
            segments = [*self._full, *([self._current] if self._current is not None else [])]
            settled = [segment.descriptor for segment in segments if segment.all_named]
            for descriptor in [*(descriptor for _, descriptor in self._blank), *settled]:
                os.close(descriptor)
            self._full, self._current = [], None
            self._blank.clear()


def lock_blank(path: Path) -> int | None:
    """A descriptor of a segment, locked; None when it is not blank, or somebody has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # the path may be another file's by now: what is written into this one would go with the process
        if os.path.samestat(os.fstat(descriptor), path.stat()) and read_lap(descriptor) is None:
            return descriptor
    except (OSError, SpoolUnusable):
        pass  # somebody has it, or the receiver is to look at it
    os.close(descriptor)
    return None
