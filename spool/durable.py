"""Writing small files and folders so that a power cut leaves the old state or the new one, never half of it."""

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Flush the files of a folder without sub-folders, then the folder."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte; a short write is what a nearly full disk does before it fails."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def pwrite_all(descriptor: int, data: bytes, at: int) -> None:
    """Write every byte at a place of a file."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def write_file(path: Path, data: bytes, *, durable: bool, mode: int = 0o640) -> None:
    """Create or replace a file in one step; the folder is flushed as well."""
    part = path.with_name(path.name + ".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    part.rename(path)
    if durable:
        sync_folder(path.parent)


def make_folder(path: Path, *, durable: bool) -> None:
    """Create a folder whose parent exists, if need be."""
    try:
        path.mkdir(mode=0o750)
    except FileExistsError:
        return
    if durable:
        sync_folder(path.parent)
