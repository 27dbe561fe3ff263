"""Gives the instances in segments files of their own, behind the replies.

The files of many are written without a flush, then one ``syncfs`` makes them all durable, then they get their names: a
file with a final name is complete and durable, here as everywhere. The names are durable with the ``syncfs`` after
that, and then a segment has done its duty. It needs Linux 5.8, from which on ``syncfs`` tells when a disk has not taken
something since a descriptor was opened.
"""

import ctypes
import os
import re
import threading
from pathlib import Path
from typing import Final, Protocol

import structlog

from clara_dicom_adapter.spool.segments import Segments

log = structlog.get_logger("clara_dicom_adapter.spool")

_PAUSE_SECONDS: Final = 0.2
"""Between one group and the next, while nobody waits for one."""
_IDLE_SECONDS: Final = 2.0
"""A segment that is not written into for so long is emptied: until then nothing of what it holds is deleted."""
_MOST_BYTES: Final = 8 << 20
"""In a group, before which it is settled anyway."""
_syncfs: Final = ctypes.CDLL(None, use_errno=True).syncfs


class Unsettled(Protocol):
    """An instance whose file is written, and neither durable nor named."""

    bytes: int

    def settle(self, error: OSError | None) -> None:
        """Give it its name, for it is durable; or with an error: it is not."""
        ...


class Settling:
    """The thread of a process that receives. Every method may be called from any other thread."""

    def __init__(self, root: Path, segments: Segments) -> None:
        self._segments = segments
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._changed = threading.Condition()
        self._group: list[Unsettled] = []
        self._bytes = 0
        self._put = self._settled = self._awaited = 0
        self._stopping = self._stopped = False
        self.failures = 0
        """Flushes that have failed. What was written before one is not durable, whatever a later one says: the kernel
        tells of an error once, to whoever flushes next."""
        self._thread = threading.Thread(target=self._run, name="settling", daemon=True)
        self._thread.start()

    def put(self, written: Unsettled) -> None:
        """The file of an instance is written."""
        with self._changed:
            self._group.append(written)
            self._put += 1
            self._bytes += written.bytes
            if len(self._group) == 1 or self._bytes >= _MOST_BYTES:
                self._changed.notify_all()

    def wait(self) -> None:
        """Wait until all that was put before has its name, or was told that it has none."""
        with self._changed:
            mine = self._put
            if self._settled < mine:
                self._awaited = mine
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._settled >= mine or self._stopped)

    def close(self) -> None:
        """Settle what there is, and stop."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        os.close(self._root)

    def _run(self) -> None:
        while True:
            with self._changed:
                # also when nothing was put: a segment may wait whose copies could not be written to files at all
                self._changed.wait_for(self._is_something, _IDLE_SECONDS)
                self._changed.wait_for(self._is_urgent, _PAUSE_SECONDS if self._group else 0)
                group, self._group, self._bytes = self._group, [], 0
                stopping = self._stopping
            self._settle(group, 0 if stopping else _IDLE_SECONDS)
            with self._changed:
                self._settled += len(group)
                self._changed.notify_all()
                if stopping and not group:
                    self._stopped = True
                    return

    def _is_something(self) -> bool:
        return bool(self._group) or self._is_urgent()

    def _is_urgent(self) -> bool:
        return self._stopping or self._awaited > self._settled or self._bytes >= _MOST_BYTES

    def _settle(self, group: list[Unsettled], idle_seconds: float) -> None:
        # found before the flush, which is what makes their names durable
        ready = self._segments.ready(idle_seconds)
        if not group and not ready:
            return
        error = self._flush()
        for each in group:
            try:
                each.settle(error)
            except Exception:  # whoever comes next is settled all the same
                log.exception("settling_failed")
        if error is None:
            for segment in ready:
                self._segments.end(segment)

    def _flush(self) -> OSError | None:
        if _syncfs(self._root) == 0:
            return None
        number = ctypes.get_errno()
        self.failures += 1
        return OSError(number, os.strerror(number))


def is_supported() -> bool:
    """Whether the kernel has what this relies upon."""
    release = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return release is not None and (int(release[1]), int(release[2])) >= (5, 8)
