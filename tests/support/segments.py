"""Segments of a spool, and small instances in them, for tests."""

import ctypes
import errno
import os
from pathlib import Path
from typing import NoReturn

from clara_dicom_adapter.spool import AssociationFolder
from clara_dicom_adapter.spool.in_segment import InSegment
from clara_dicom_adapter.spool.sealed import SealedFiles
from clara_dicom_adapter.spool.segment import (
    PAGE,
    SEGMENT_BYTES,
    SEGMENTS,
)
from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, STUDY, let_go


def make_segments(root: Path, count: int, size: int = SEGMENT_BYTES) -> None:
    (root / SEGMENTS).mkdir(exist_ok=True)
    for number in range(count):
        (root / SEGMENTS / f"{number:02d}").write_bytes(bytes(size))


def begin(folder: AssociationFolder, number: int = 1) -> InSegment:
    incoming = folder.begin_instance(
        sop_class_uid=CT, sop_instance_uid=f"{STUDY}.1.{number}", transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN
    )
    assert isinstance(incoming, InSegment)
    return incoming


def answered(folder: AssociationFolder, data: bytes = b"abc", number: int = 1) -> InSegment:
    incoming = begin(folder, number)
    incoming.write(data)
    incoming.commit()
    return incoming


def die(incoming: InSegment) -> None:
    """Its process lets go of what it has, as the kernel makes it."""
    let_go(incoming._segments)


def settle(incoming: InSegment) -> None:
    """Have it named now."""
    told: list[OSError | None] = []
    incoming.name(told.append)
    incoming._settling.wait()
    assert told == [None]


def fail(error: Exception, *_arguments: object) -> NoReturn:
    raise error


def in_use(root: Path) -> list[Path]:
    """Segments that hold something."""
    return [path for path in sorted((root / SEGMENTS).iterdir()) if any(path.read_bytes()[:PAGE])]


def placed(root: Path) -> tuple[int, frozenset[str]]:
    return SealedFiles(root).place()


def refuse_to_flush(_descriptor: int) -> int:
    """``syncfs`` of a disk that refuses."""
    ctypes.set_errno(errno.EIO)
    return -1


def refuse_to_write(_descriptor: int, _data: bytes) -> None:
    """``write_all`` on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
