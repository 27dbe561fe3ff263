"""Segments as the receiver looks through them: those whose listener has died hold instances that have no file yet.

Safe to repeat, and harmless where the file is there: after a power cut it may be there and not whole.
"""

import errno
import fcntl
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from clara_dicom_adapter.errors import SpoolUnusable
from clara_dicom_adapter.spool.damaged import DAMAGED, keep_aside
from clara_dicom_adapter.spool.durable import make_folder, sync_folder, write_all
from clara_dicom_adapter.spool.filing import SegmentsInHand
from clara_dicom_adapter.spool.models import ASSOCIATIONS, InstanceKey, instance_name
from clara_dicom_adapter.spool.seal import Seal
from clara_dicom_adapter.spool.segment import Copy, Lap, content, copies, end_lap, read_lap, segments_in

log = structlog.get_logger("clara_dicom_adapter.spool")

_LOOKS: Final = 10
_PART_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class Placed(NamedTuple):
    """What became of instances without a name.

    Attributes:
        named: So many have their name now.
        left: Associations of which one has none yet: somebody else is at it, or the disk refuses.
    """

    named: int
    left: frozenset[str]


class Replay:
    """Looks through the segments of one spool; one thread at a time."""

    def __init__(self, root: Path, looks: int = _LOOKS, in_hand: SegmentsInHand | None = None) -> None:
        """Args:
        looks: After so many in which the disk has refused a part of a segment, that counts as lost.
        in_hand: Shared with whoever makes files for listeners that live; none: nobody does, in here.
        """
        self._in_hand = in_hand or SegmentsInHand()
        self._root = root
        self._looks = looks
        self._refusals: Counter[Path] = Counter()

    def place(self) -> Placed:
        """Give each instance its file that is in a segment which no process has, and make the segment blank.

        What does not agree with its seal is set aside, and so is what belongs to no association, and a segment of which
        the disk does not give back a part, however often it is asked. One that is refused keeps no other one back.

        Raises:
            OSError: Nobody knows of which associations there is something without a file. The others have theirs.
        """
        named = 0
        left: set[str] = set()
        refusal: OSError | None = None
        for path in segments_in(self._root):
            try:
                with _opened(path, os.O_RDWR) as (descriptor, is_ours):
                    done, waiting = self._look_into(path, descriptor, is_ours)
            except FileNotFoundError:
                continue  # given up by its listener meanwhile, and empty
            except OSError as error:
                log.error("segment_not_emptied", path=str(path), error=str(error))
                refusal = refusal or error
                continue
            named += done
            left |= waiting
        if refusal is not None:
            raise refusal
        return Placed(named, frozenset(left))

    def _look_into(self, path: Path, descriptor: int, is_ours: bool) -> tuple[int, set[str]]:
        """How many have their file now, and the associations of those that have none."""
        try:
            lap = read_lap(descriptor)
        except SpoolUnusable as error:
            if is_ours:
                self._set_aside(path, error)
            return 0, set()  # or it is being written: nothing is in it yet
        except OSError as error:
            if not is_ours or not self._is_lost(path):
                raise
            self._set_aside(path, error)
            return 0, set()
        if lap is None:
            return 0, set()
        if not is_ours:
            unreadable: list[OSError] = []
            found = _without_file(self._root, descriptor, lap, unreadable)
            if unreadable and not self._is_lost(path):  # else one bad page would keep everything for ever
                raise unreadable[0]
            return 0, found
        with self._in_hand.of(path.name):
            return self._empty(path, descriptor, lap)

    def _empty(self, path: Path, descriptor: int, lap: Lap) -> tuple[int, set[str]]:
        """As :meth:`_look_into`, of a segment that no process has; nobody else makes files of it meanwhile."""
        unreadable: list[OSError] = []
        named, refused = _place_all(self._root, path, descriptor, lap, unreadable)
        if unreadable:
            if refused or not self._is_lost(path):
                raise unreadable[0]
            self._set_aside(path, unreadable[0])
        elif not refused:
            self._refusals.pop(path, None)
            with suppress(OSError):  # everything in it has its file; it is looked at again
                end_lap(descriptor, lap)
        return named, refused

    def _is_lost(self, path: Path) -> bool:
        """Whether the disk has refused a part of a segment, now once more, so often that it counts as lost."""
        self._refusals[path] += 1
        return self._refusals[path] >= self._looks

    def _set_aside(self, path: Path, why: Exception) -> None:
        """Keep a segment for a person: its head is damaged, as a power cut leaves it, or a part of it is lost."""
        make_folder(self._root / DAMAGED, durable=False)
        kept = self._root / DAMAGED / f"segment-{time.time_ns()}"
        path.rename(kept)
        self._refusals.pop(path, None)  # the next one of this name is another one
        log.error("segment_set_aside", path=str(kept), reason=str(why))


def in_segments(root: Path) -> set[InstanceKey]:
    """Instances of which a copy lies in a segment: if one were deleted now, it might come back from there.

    Raises:
        OSError: The disk refuses, so that nobody knows.
        SpoolUnusable: The head of a segment is damaged, or is being written.
    """
    found: set[InstanceKey] = set()
    for path in segments_in(root):
        with suppress(FileNotFoundError), _opened(path, os.O_RDONLY, lock=False) as (descriptor, _):
            lap = read_lap(descriptor)
            if lap is not None:
                found.update(copy.instance for copy in copies(descriptor, lap, _refuse))
            os.fdatasync(descriptor)  # a head that says blank may have been seen before it was flushed
    return found


def _refuse(error: OSError) -> None:
    raise error


def copies_without_file(root: Path) -> Iterator[tuple[Path, Copy]]:
    """Every whole instance in a segment that has no file under its name yet; nothing is locked or changed.

    What the disk refuses is left out: the receiver sets it aside.
    """
    for path in segments_in(root):
        with suppress(OSError, SpoolUnusable), _opened(path, os.O_RDONLY, lock=False) as (descriptor, _):
            lap = read_lap(descriptor)
            for copy in copies(descriptor, lap, lambda _: None) if lap is not None else ():
                if not _file(root, copy.seal).exists() and _is_whole(descriptor, copy):
                    yield path, copy


def _is_whole(descriptor: int, copy: Copy) -> bool:
    try:
        return copy.agrees_with(content(descriptor, copy))
    except OSError:
        return False


def read_copy(path: Path, copy: Copy) -> bytes:
    """An instance as its own file holds it; FileNotFoundError when its segment is used for something else by now."""
    with _opened(path, os.O_RDONLY, lock=False) as (descriptor, _):
        instance = content(descriptor, copy)
    if not copy.agrees_with(instance):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return instance


@contextmanager
def _opened(path: Path, flags: int, *, lock: bool = True) -> Iterator[tuple[int, bool]]:
    """A segment, and whether it is locked for the caller."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        is_ours = False
        if lock:
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_ours = True
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        yield descriptor, is_ours
    finally:
        os.close(descriptor)


def _without_file(root: Path, descriptor: int, lap: Lap, unreadable: list[OSError]) -> set[str]:
    found = copies(descriptor, lap, unreadable.append)
    return {copy.seal.association_id for copy in found if not _file(root, copy.seal).exists()}


def _file(root: Path, seal: Seal) -> Path:
    return root / ASSOCIATIONS / seal.association_id / instance_name(seal.sequence, seal.received_ns)


def _place_all(root: Path, path: Path, descriptor: int, lap: Lap, unreadable: list[OSError]) -> tuple[int, set[str]]:
    """How many have their file now, and the associations of those that have none; the files are durable."""
    named, refused = 0, set[str]()
    folders: set[Path] = set()
    for copy in copies(descriptor, lap, unreadable.append):
        seal = copy.seal
        try:
            instance = content(descriptor, copy)
        except OSError as error:
            unreadable.append(error)
            continue
        try:
            file = _file(root, seal)
            if not copy.agrees_with(instance):
                keep_aside(root, instance, seal)
            elif not file.parent.is_dir():
                log.error("copy_without_association", path=str(path), association_id=seal.association_id)
                keep_aside(root, instance, seal)
            else:
                named += _place(file, instance)
                folders.add(file.parent)
        except OSError as error:
            refused.add(seal.association_id)
            log.error("copy_not_named", path=str(path), association_id=seal.association_id, error=str(error))
    for folder in folders:
        sync_folder(folder)
    return named, refused


def _place(file: Path, instance: bytes) -> bool:
    """Make the file of an instance durable, unless it is; whether it had to be written."""
    with suppress(FileNotFoundError), file.open("rb", buffering=0) as stream:
        if stream.read(len(instance) + 1) == instance:
            os.fdatasync(stream.fileno())
            return False
    part = file.with_suffix(".part")
    descriptor = os.open(part, _PART_FLAGS, 0o640)
    try:
        write_all(descriptor, instance)
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(file)
    return True
