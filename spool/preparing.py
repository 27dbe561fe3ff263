"""Makes prepared files, for the receiver."""

import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.spool.durable import make_folder, sync_folder, write_all
from clara_dicom_adapter.spool.filing import is_supported
from clara_dicom_adapter.spool.prepared import PREPARED, SIZES, size_of
from clara_dicom_adapter.spool.sealed import MADE_NS, SealedFiles, blank_files
from clara_dicom_adapter.spool.segment import SEGMENT_BYTES, SEGMENTS
from clara_dicom_adapter.spool.segments import MOST_TAKEN, lock_blank

log = structlog.get_logger("clara_dicom_adapter.spool")

_SHARES: Final = (1 / 4, 5 / 8, 1 / 8)
"""Of the space, by size."""
_FOR_SEGMENTS: Final = 1 / 2
"""Of the space, at most."""
_ROOM: Final = 4
"""Nothing is prepared unless so many times its space is there: on a nearly full disk it would come and go."""
_IN_THE_MAKING: Final = ".new"
_AT_ONCE: Final = 16
_FEW: Final = 8
_BUSY_PER_SECOND: Final = 100
_ZEROS: Final = memoryview(bytes(max(SIZES)))
_MOUNTS: Final = Path("/proc/self/mountinfo")
_SUPPORTED: Final = frozenset({"ext4", "xfs"})
"""File systems that overwrite in place, and whose journal keeps renames and truncations in their order."""


class Preparer:
    """Keeps files prepared in a spool."""

    def __init__(
        self,
        root: Path,
        most_bytes: int,
        sealed: SealedFiles | None = None,
        *,
        room: Callable[[], int],
        listeners: int = 1,
    ) -> None:
        """Args:
        most_bytes: That prepared files may take of the disk; 0: none are prepared.
        sealed: Told of files that are made, for nobody need look into these before they are written.
        room: Bytes that the storage rule leaves. When it leaves none, what is prepared makes room.
        listeners: Processes that receive.
        """
        self._sealed = sealed
        self._path = root / PREPARED
        self._room = room
        self._needed = most_bytes * _ROOM
        if most_bytes and file_system(root) not in _SUPPORTED:
            log.info(
                "files_not_prepared", path=str(root), reason=f"the file system is {file_system(root) or 'unknown'}"
            )
            most_bytes = 0
        # a process that receives has no use for more; a small space is for prepared files
        count = min(MOST_TAKEN * listeners, int(most_bytes * _FOR_SEGMENTS) // SEGMENT_BYTES)
        count = count if is_supported() else 0
        self._segments = [self._path.parent / SEGMENTS / f"{number:02d}" for number in range(count)]
        most_bytes -= count * SEGMENT_BYTES
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="preparing")
        self._last_count = 0
        self._last_counted = time.monotonic()
        self._complete_at = 0  # when the folder was last changed, if nothing was missing then
        self._wanted = {size: int(most_bytes * share) // size for size, share in zip(SIZES, _SHARES, strict=True)}

    def start(self) -> None:
        """Remove what an earlier run was making, and what is not wanted any more; nobody may receive yet."""
        make_folder(self._path, durable=True)
        make_folder(self._path.parent / SEGMENTS, durable=True)
        for path in (self._path.parent / SEGMENTS).iterdir():
            if path not in self._segments:
                self._remove_segment(path)
        too_many = self._count()
        for path in blank_files(self._path):
            size = size_of(path.name)
            if size is None or too_many[size] > self._wanted[size] or path.stat().st_size != size:
                path.unlink()
            if size is not None:
                too_many[size] -= 1

    def step(self) -> bool:
        """Prepare a few of what is missing, unless listeners take many just now; whether there is more to do at once.

        Raises:
            OSError: The disk does not take them.
        """
        room = self._room()
        if room <= 0:
            for path in blank_files(self._path):
                path.unlink()
        if room < self._needed:
            return False
        for path in self._segments:
            if not path.exists():
                self._make_segment(path)
                return True
        changed_at = self._path.stat().st_mtime_ns
        if changed_at == self._complete_at:
            return False
        there = self._count()
        if self._busy(sum(there.values())):
            return False
        missing = {size: self._wanted[size] - count for size, count in there.items() if self._wanted[size] > count}
        if not missing:
            self._complete_at = changed_at
            return False
        size = max(missing, key=lambda each: missing[each] / self._wanted[each])
        some = min(missing[size], _AT_ONCE)
        self._prepare(size, some)
        self._last_count += some
        return True

    def _busy(self, count: int) -> bool:
        """Whether a burst is on: what is prepared is there for it, and preparing more would only slow it down."""
        now = time.monotonic()
        taken, seconds = self._last_count - count, now - self._last_counted
        self._last_count, self._last_counted = count, now
        return taken > max(_BUSY_PER_SECOND * seconds, _FEW)

    def _count(self) -> dict[int, int]:
        there = dict.fromkeys(SIZES, 0)
        for name in os.listdir(self._path):  # noqa: PTH208 - thousands of names
            size = size_of(name)
            if size is not None:
                there[size] += 1
        return there

    @staticmethod
    def _remove_segment(path: Path) -> None:
        """One that is not wanted any more, or was being made; not one that holds something."""
        descriptor = lock_blank(path)
        if descriptor is not None:
            path.unlink()
            os.close(descriptor)

    @staticmethod
    def _make_segment(path: Path) -> None:
        new = path.with_suffix(_IN_THE_MAKING)
        new.unlink(missing_ok=True)
        _make(new, SEGMENT_BYTES)
        new.rename(path)
        sync_folder(path.parent)

    def _prepare(self, size: int, count: int) -> None:
        new = [self._path / f"{size}-{secrets.token_hex(8)}{_IN_THE_MAKING}" for _ in range(count)]
        # the journal takes what is flushed at the same time in one commit
        making = [self._threads.submit(_make, path, size) for path in new]
        wait(making)
        try:
            for made in making:
                made.result()
            sync_folder(self._path)
            if self._sealed is not None:
                self._sealed.made([path.stem for path in new])
            for path in new:  # a power cut may take this back: a file under its first name may be sealed too
                path.rename(path.with_suffix(""))
        except OSError:
            for path in new:
                with suppress(OSError):  # the others are removed all the same
                    path.unlink()
            raise


def _make(path: Path, size: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    try:
        # written and not only reserved: to write into reserved blocks is a change for the journal
        for at in range(0, size, len(_ZEROS)):
            write_all(descriptor, _ZEROS[: size - at])
        os.utime(descriptor, ns=(MADE_NS, MADE_NS))
        os.fdatasync(descriptor)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


def file_system(path: Path) -> str:
    """The type of the file system that a path is on; empty when it is not known."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError):
        for line in _MOUNTS.read_text().splitlines():
            mount, _, source = line.partition(" - ")
            if mount.split()[2] == number:
                return source.split()[0]
    return ""
