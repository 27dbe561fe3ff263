"""Sees to it that the instances in segments get files of their own, behind the replies.

A few are made into files here. Where there are many, the receiver's own process does it, if there is one: a thread of
this process would take its time from those that receive.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import structlog

from clara_dicom_adapter.spool.filing import CopyAt, Filer, FileSystem, MakeFiles, MakerGone
from clara_dicom_adapter.spool.open_segment import OpenSegment
from clara_dicom_adapter.spool.segments import Segments

log = structlog.get_logger("clara_dicom_adapter.spool")

_PAUSE_SECONDS: Final = 0.2
"""Between one group and the next, while nobody waits for one."""
_IDLE_SECONDS: Final = 2.0
"""A segment that is not written into for so long is emptied: until then nothing of what it holds is deleted."""
_MOST_BYTES: Final = 8 << 20
"""In a group, before which it is settled anyway."""
FEW: Final = 8
"""So many files are made sooner than another process is asked for them."""


class Unsettled(Protocol):
    """An instance in a segment, which has no file yet."""

    bytes: int

    @property
    def copy_at(self) -> CopyAt:
        """Where it lies."""
        ...

    def settle(self, refusal: str | None) -> None:
        """It has its file, under its name; or why it has none."""
        ...


class Settling:
    """The thread of a process that receives. Every method may be called from any other thread."""

    def __init__(self, root: Path, segments: Segments, *, durable: bool, elsewhere: MakeFiles | None = None) -> None:
        """Args:
        durable: False: nothing is flushed.
        elsewhere: Has files made by another process; none: all are made here.
        """
        self._segments = segments
        self._filer = Filer(root, durable=durable)
        self._elsewhere = elsewhere or self._filer.make
        self._names = FileSystem(root) if durable else None
        self._changed = threading.Condition()
        self._group: list[Unsettled] = []
        self._bytes = 0
        self._put = self._settled = self._awaited = 0
        self._stopping = self._stopped = False
        self._thread = threading.Thread(target=self._run, name="settling", daemon=True)
        self._thread.start()

    def put(self, unsettled: Unsettled) -> None:
        """An instance is to have its file."""
        with self._changed:
            self._group.append(unsettled)
            self._put += 1
            self._bytes += unsettled.bytes
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
        self._filer.close()
        if self._names is not None:
            self._names.close()

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
        self._end(self._segments.ready(idle_seconds))
        try:
            refused = self._make_files([each.copy_at for each in group])
        except OSError as error:
            refused = dict.fromkeys(range(len(group)), str(error))
        except Exception as error:
            log.exception("settling_failed")
            refused = dict.fromkeys(range(len(group)), type(error).__name__)
        for number, each in enumerate(group):
            try:
                each.settle(refused.get(number))
            except Exception:  # whoever comes next is settled all the same
                log.exception("settling_failed")

    def _make_files(self, wanted: list[CopyAt]) -> Mapping[int, str]:
        if not wanted:
            return {}
        if self._names is not None:
            self._names.watch()  # before the first name is made
        if len(wanted) > FEW:
            try:
                return self._elsewhere(wanted)
            except MakerGone:
                pass
            except Exception:  # it may have been asked all the same
                log.exception("asking_for_files_failed")
            # somebody may still be at it: until the receiver has looked nothing of these segments may be deleted
            self._segments.leave_all()
        return self._filer.make(wanted)

    def _end(self, ready: list[OpenSegment]) -> None:
        """Let segments be used again whose copies have their files."""
        if not ready:
            return
        try:
            if self._names is not None:
                self._names.flush()
        except OSError:  # a second flush may say that all is well when nothing is, also of names in other segments
            self._segments.leave_all()
        for segment in ready:
            self._segments.end(segment)
