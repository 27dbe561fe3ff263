"""Copies of what lies in a spool, for a person: nothing in the spool is changed or deleted."""

import errno
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from clara_dicom_adapter.dicom.head import read_head
from clara_dicom_adapter.errors import SpoolUnusable
from clara_dicom_adapter.spool.inventory import Entry, Inventory
from clara_dicom_adapter.spool.unnamed import InstanceFile

_OF_THE_SOURCE: Final = frozenset({errno.ENOENT, errno.EIO, errno.EACCES})
"""Errors that keep one instance from being copied, and not the others."""
_PIECE: Final = 1 << 20


@dataclass
class Exported:
    """What was copied.

    Attributes:
        failed: Files that could not be read, below the spool, with the reason.
        unknown: What was asked for, and nothing of it was found.
    """

    instances: int = 0
    bytes: int = 0
    failed: dict[str, str] = field(default_factory=dict[str, str])
    unknown: list[str] = field(default_factory=list[str])


def export(inventory: Inventory, folder: Path, wanted: Collection[str] | None) -> Exported:
    """Copy instances as ``<association>-<sequence>.dcm``: names that say nothing, and of which no two are the same.

    Args:
        folder: New or empty, and outside of the spool.
        wanted: Ids of associations, and UIDs of SOP instances, series or studies; None: everything.

    Raises:
        SpoolUnusable: The folder is none that can be copied into.
        OSError: It cannot be written.
    """
    if folder.resolve().is_relative_to(inventory.root.resolve()):
        raise SpoolUnusable(f"{folder} is inside the spool")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SpoolUnusable(f"{folder} is not empty")
    done, found = Exported(), set[str]()
    for path in inventory.paths():
        for file, name in _instances(inventory, path, wanted, found, done):
            try:
                with file.open() as stream:
                    done.bytes += _copy(stream, file.bytes, folder, name)
            except OSError as error:
                if error.errno not in _OF_THE_SOURCE:
                    raise
                done.failed[_below(inventory, file.path)] = error.strerror or type(error).__name__
            else:
                done.instances += 1
    done.unknown = sorted(set(wanted or ()) - found)
    return done


def _instances(
    inventory: Inventory, path: Path, wanted: Collection[str] | None, found: set[str], done: Exported
) -> Iterator[tuple[InstanceFile, str]]:
    """The files of an association that are wanted, and what their copies are called."""
    entries = inventory.entries(path.name)
    for sequence, file in inventory.files(path).items():
        if wanted is not None:
            try:
                known = {path.name, *_uids(file, entries.get(sequence), path.name in wanted)}
            except OSError as error:
                done.failed[_below(inventory, file.path)] = error.strerror or type(error).__name__
                continue
            matches = known.intersection(wanted)
            found |= matches
            if not matches:
                continue
        yield file, f"{path.name}-{sequence:08d}.dcm"


def _uids(file: InstanceFile, entry: Entry | None, wanted_anyway: bool) -> tuple[str, ...]:
    """UIDs by which an instance may be asked for; from its head when the index does not know it."""
    if entry is not None:
        return entry.sop_instance_uid, entry.study_instance_uid, entry.series_instance_uid
    if wanted_anyway:
        return ()
    head = read_head(file.source)
    return head.sop_instance_uid, head.study_instance_uid, head.series_instance_uid


def _copy(source: BinaryIO, size: int, folder: Path, name: str) -> int:
    """Copy so many bytes of a file so that its name is there only when all of them are; returns how many there were."""
    partial = folder / f"{name}.part"
    try:
        with partial.open("xb") as writer:
            while piece := source.read(min(_PIECE, size - writer.tell())):
                writer.write(piece)
            size = writer.tell()
        partial.rename(folder / name)
    except BaseException:
        with suppress(FileNotFoundError):
            partial.unlink()
        raise
    return size


def _below(inventory: Inventory, file: Path) -> str:
    return str(file.relative_to(inventory.root))
