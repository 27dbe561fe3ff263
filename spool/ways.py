"""The ways in which an instance can become durable, and which one is taken for the next."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from clara_dicom_adapter.spool.filing import MakeFiles, is_supported
from clara_dicom_adapter.spool.in_place import InPlace
from clara_dicom_adapter.spool.in_segment import InSegment
from clara_dicom_adapter.spool.incoming import Arriving, IncomingInstance, NewFile
from clara_dicom_adapter.spool.models import StoredInstance
from clara_dicom_adapter.spool.prepared import PreparedFiles
from clara_dicom_adapter.spool.segment import MOST_BYTES
from clara_dicom_adapter.spool.segments import Segments
from clara_dicom_adapter.spool.settling import Settling

_MOST_CLASSES: Final = 1000
"""SOP classes that are remembered: they are a peer's to name."""


class Ways:
    """Those of one process that receives. Every method may be called from any thread."""

    def __init__(self, root: Path, *, durable: bool, elsewhere: MakeFiles | None = None) -> None:
        """Args:
        durable: False: nothing is flushed.
        elsewhere: Has the files of small instances made by another process; none: all are made in this one.
        """
        self._durable = durable
        self._prepared = PreparedFiles(root)
        self._last_sizes: dict[str, int] = {}
        self._root = root
        self._lock = threading.Lock()
        self._small: tuple[Segments, Settling] | None = None
        self._elsewhere = elsewhere
        self._for_small = is_supported()

    def begin(self, arriving: Arriving, stored: Callable[[StoredInstance], None]) -> IncomingInstance:
        """Begin an instance in the way that suits the last one of its SOP class.

        Args:
            stored: Called when it is durable.
        """
        stored = partial(self._learn, stored)
        last = self._last_sizes.get(arriving.sop_class_uid)
        small = self._open_segments() if last is None or last <= MOST_BYTES else None
        if small is None:
            return self._in_file(arriving, stored, last)
        return InSegment(arriving, *small, larger=lambda size: self._in_file(arriving, stored, size), stored=stored)

    def _open_segments(self) -> tuple[Segments, Settling] | None:
        if not self._for_small:
            return None
        with self._lock:  # not before there is something for them: most processes that open a spool do not receive
            if self._small is None and self._for_small:
                segments = Segments(self._root, durable=self._durable)
                self._small = (
                    segments,
                    Settling(self._root, segments, durable=self._durable, elsewhere=self._elsewhere),
                )
            return self._small if self._small is not None and self._small[0].there else None

    def _in_file(
        self, arriving: Arriving, stored: Callable[[StoredInstance], None], last: int | None
    ) -> IncomingInstance:
        taken = self._prepared.take(last)
        if taken is None:
            return NewFile(arriving, durable=self._durable, stored=stored)
        return InPlace(arriving, taken, self._prepared, durable=self._durable, stored=stored)

    def _learn(self, stored: Callable[[StoredInstance], None], instance: StoredInstance) -> None:
        if len(self._last_sizes) > _MOST_CLASSES:
            self._last_sizes.clear()
        self._last_sizes[instance.sop_class_uid] = instance.bytes
        stored(instance)

    def settle(self) -> None:
        """Wait until what is durable and was to be named has its name, or was told that it has none."""
        if self._small is not None:
            self._small[1].wait()

    def close(self) -> None:
        """Take no more; what has no name gets it when the receiver looks through its spool."""
        with self._lock:
            self._for_small = False
            if self._small is not None:
                segments, settling = self._small
                settling.close()
                segments.close()
                self._small = None
        self._prepared.close()
