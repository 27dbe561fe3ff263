"""A task's objects from the platform to this node's disk, with nothing left there of downloads that failed."""

import errno
import shutil
import threading
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.activities.export_folder import ExportFolder
from clara_dicom_adapter.activities.export_needs import Downloads, Space
from clara_dicom_adapter.dicom import uids
from clara_dicom_adapter.dicom.head import read_head
from clara_dicom_adapter.dicom.part10 import read_object
from clara_dicom_adapter.errors import InvalidInstance, PlatformRefused, StorageFull
from clara_dicom_adapter.records.exports import ResultObject
from clara_dicom_adapter.workflows.models import SendProgress

log = structlog.get_logger("clara_dicom_adapter.activities.export")

DOWNLOADS_AT_ONCE: Final = 8
"""Tasks; one of them is downloaded object by object."""
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_THIS_PROCESS: Final = uuid.uuid4().hex
"""Part of the name of all that this process downloads; what bears another one was left by a process that is gone."""


class Download:
    """One task's objects on their way to a folder.

    Args:
        needless: Places of what is not needed, because every destination has it.
    """

    def __init__(self, folder: ExportFolder, payload_id: str, uris: Sequence[str], needless: frozenset[int]) -> None:
        self._folder = folder
        self._payload_id = payload_id
        self._uris = uris
        self._needless = needless
        self._done = 0
        self.failed = 0
        self.objects: list[ResultObject] = []
        """What is in the folder."""

    def run(self, platform: Downloads, space: Space, stop: threading.Event) -> int:
        """Get what is not there yet; return how many objects need no (further) download.

        Raises:
            PlatformUnreachable: The platform does not answer.
            StorageFull: The disk is short, or has no room at all.
            Stopped: Between two objects, after ``stop``.
        """
        try:
            self._remove_leftovers()
            for index, uri in enumerate(self._uris):
                if stop.is_set():
                    raise Stopped
                self._take(index, uri, platform, space)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StorageFull(str(self._folder.path), shutil.disk_usage(self._folder.path).free, 0) from error
            raise
        return self._done

    @property
    def progress(self) -> SendProgress:
        return SendProgress(done=self._done, failed=self.failed, total=len(self._uris))

    def _take(self, index: int, uri: str, platform: Downloads, space: Space) -> None:
        if index not in self._needless:
            target = self._folder.object(index)
            if not target.exists():
                space.check()
                if not self._get(uri, target, platform):
                    self.failed += 1
                    return
            self.objects.append(_identified(index, target))
        self._done += 1

    def _get(self, uri: str, target: Path, platform: Downloads) -> bool:
        """Get an object to ``target``, which appears only when it is complete; False when there is no such object."""
        # a name of its own, because an attempt that nobody waits for any more may still be writing
        part = target.with_suffix(f".{_THIS_PROCESS}.{uuid.uuid4().hex}.part")
        try:
            platform.download(self._payload_id, uri, part)
            read_object(part)
            part.rename(target)
        except (PlatformRefused, InvalidInstance) as error:
            log.warning("export_object_unusable", payload_id=self._payload_id, kind=type(error).__name__)
            return False
        finally:
            part.unlink(missing_ok=True)
        return True

    def _remove_leftovers(self) -> None:
        """Delete what processes that were killed had begun to download; what an attempt of this one writes is kept."""
        for path in self._folder.path.glob("*.part"):
            if _THIS_PROCESS not in path.name:
                path.unlink(missing_ok=True)


class Stopped(Exception):
    """The download was told to stop."""


def _identified(number: int, path: Path) -> ResultObject:
    """Which object a file is, by its dataset; what is no UID is left out."""
    head = read_head(path)
    sop_instance, study, series = (
        uid if uids.is_usable(uid) else ""
        for uid in (head.sop_instance_uid, head.study_instance_uid, head.series_instance_uid)
    )
    return ResultObject(number, sop_instance, study, series)
