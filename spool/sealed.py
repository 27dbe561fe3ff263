"""Prepared files as the receiver looks through them: which are blank, and which hold an instance without a name."""

import fcntl
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.spool.damaged import set_aside
from clara_dicom_adapter.spool.durable import sync_folder
from clara_dicom_adapter.spool.models import ASSOCIATIONS, instance_name
from clara_dicom_adapter.spool.prepared import PREPARED
from clara_dicom_adapter.spool.replay import Placed, Replay
from clara_dicom_adapter.spool.seal import PREAMBLE_BYTES, Seal

log = structlog.get_logger("clara_dicom_adapter.spool")

MADE_NS: Final = 0
"""Time of the last change of a file that is prepared and was never written since: none that a clock gives."""
_CLOCK_TICK_NS: Final = 1_000_000_000
"""Longer than two changes may have the same time."""


class SealedFiles:
    """Those of one spool. One thread at a time looks through them, for two would keep files from each other."""

    def __init__(self, root: Path, replay: Replay | None = None) -> None:
        self._root = root
        self._replay = replay or Replay(root)
        self._blank: dict[str, int] = {}
        self._lock = threading.Lock()

    def made(self, names: Iterable[str]) -> None:
        """These files have just been made, and have :data:`MADE_NS`: they are blank until that is another time.

        Nobody may conclude that from the time alone: a power cut may bring it back after a flush of the content.
        """
        self._blank.update(dict.fromkeys(names, MADE_NS))

    def place(self) -> Placed:
        """Give every instance its name that no process is about to give one: what is sealed, and what is in segments.

        Of the sealed files those are looked at that have changed since the last time.

        Raises:
            OSError: The names cannot be made durable, or nobody knows of which associations something has none.
        """
        with self._lock:
            sealed = place_sealed(self._root, self._blank)
            copied = self._replay.place()
            return Placed(sealed.named + copied.named, sealed.left | copied.left)


def place_sealed(root: Path, blank: dict[str, int] | None = None) -> Placed:
    """Give each sealed file that no process writes its name in its association.

    Args:
        blank: Names of files that had no seal at an earlier look, with the time of their last change: one is looked at
            again when that is another. Kept up to date here; None: all are looked at.

    What does not agree with its seal is set aside. A file that the disk refuses keeps no other one back.

    Raises:
        OSError: The names cannot be made durable.
    """
    named: set[Path] = set()
    left: set[str] = set()
    count = 0
    for path, seal, is_ours in _sealed(root / PREPARED, {} if blank is None else blank):
        if not is_ours:
            left.add(seal.association_id)
            continue
        try:
            folder = _place(root, path, seal)
        except OSError as error:
            left.add(seal.association_id)
            log.error("sealed_file_not_named", path=str(path), association_id=seal.association_id, error=str(error))
            continue
        if folder is not None:
            named.add(folder)
            count += 1
    for folder in named:
        sync_folder(folder)
    return Placed(count, frozenset(left))


def _place(root: Path, path: Path, seal: Seal) -> Path | None:
    """Name a file; returns the folder that it is in then, None when it has none."""
    with path.open("rb+", buffering=0) as stream:
        if not seal.agrees_with(stream):
            set_aside(root, path, seal)
            return None
        folder = root / ASSOCIATIONS / seal.association_id
        if not folder.is_dir():
            log.error("sealed_file_without_association", path=str(path), association_id=seal.association_id)
            return None
        os.ftruncate(stream.fileno(), seal.size)
        # its listener may have died before its flush; a name says that it is on the disk
        os.fdatasync(stream.fileno())
    path.rename(folder / instance_name(seal.sequence, seal.received_ns))
    return folder


def blank_files(folder: Path) -> Iterator[Path]:
    """Files that hold nothing, each locked until the next is asked for."""
    for path, preamble, is_ours in _look(folder / name for name in _changed_at(folder)):
        if is_ours and Seal.read(preamble) is None:
            yield path


def _sealed(folder: Path, blank: dict[str, int]) -> Iterator[tuple[Path, Seal, bool]]:
    changed_at = _changed_at(folder)
    for name in blank.keys() - changed_at.keys():
        blank.pop(name, None)
    settled_ns = time.time_ns() - _CLOCK_TICK_NS
    for path, preamble, is_ours in _look(folder / name for name, at in changed_at.items() if blank.get(name) != at):
        seal = Seal.read(preamble)
        if seal is not None:
            yield path, seal, is_ours
        elif is_ours and changed_at[path.name] < settled_ns:
            blank[path.name] = changed_at[path.name]


def _look(paths: Iterable[Path]) -> Iterator[tuple[Path, bytes, bool]]:
    """Files with their preambles, and whether they are locked for the caller until the next is asked for."""
    for path in sorted(paths):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            is_ours = _lock(descriptor)
            path.stat()  # it may have become an instance before it was locked
            yield path, os.pread(descriptor, PREAMBLE_BYTES, 0), is_ours
        except FileNotFoundError:
            continue
        except OSError as error:
            log.error("prepared_file_unreadable", path=str(path), error=str(error))
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _changed_at(folder: Path) -> dict[str, int]:
    """Names of files with the time of their last change, in nanoseconds."""
    found: dict[str, int] = {}
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # taken meanwhile
                found[entry.name] = entry.stat().st_mtime_ns
    return found
