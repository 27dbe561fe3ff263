"""Is there room on a disk? The watermark rule, the same for receiving, downloading and retrieving."""

import os
from dataclasses import dataclass
from pathlib import Path

from clara_dicom_adapter.configuration.settings import StorageSettings
from clara_dicom_adapter.errors import StorageFull


@dataclass(frozen=True, slots=True)
class Space:
    """A disk in figures."""

    total_bytes: int
    free_bytes: int
    reserved_bytes: int

    @property
    def available(self) -> bool:
        """Whether anything may be written."""
        return self.room_bytes > 0

    @property
    def room_bytes(self) -> int:
        """What may be written until nothing may be written any more."""
        return self.free_bytes - self.reserved_bytes


def reserved_bytes(total_bytes: int, settings: StorageSettings) -> int:
    """What must stay free: what lies beyond the watermark, or the reserve, whichever is more."""
    beyond = total_bytes * (100 - settings.watermark_percent) / 100
    return int(max(beyond, settings.reserve_space_gb * 1e9))


class StorageSpace:
    """The rule for the disk that holds a folder."""

    def __init__(self, folder: Path, settings: StorageSettings) -> None:
        self._folder = folder
        self._settings = settings

    def measure(self) -> Space:
        """Ask the disk; raises OSError when it does not answer."""
        disk = os.statvfs(self._folder)
        total = disk.f_blocks * disk.f_frsize
        # f_bavail: what the file system keeps for the superuser is not free
        return Space(total, disk.f_bavail * disk.f_frsize, reserved_bytes(total, self._settings))

    def check(self) -> None:
        """Raise :class:`StorageFull` unless something may be written there."""
        space = self.measure()
        if not space.available:
            raise StorageFull(str(self._folder), space.free_bytes, space.reserved_bytes)
