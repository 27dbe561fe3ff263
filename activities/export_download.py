"""Gets one object of a task from the platform, and leaves nothing on the disk of a download that failed."""

import uuid
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.activities.export_needs import Downloads
from clara_dicom_adapter.dicom.part10 import read_object
from clara_dicom_adapter.errors import InvalidInstance, PlatformRefused

log = structlog.get_logger("clara_dicom_adapter.activities.export")

_THIS_PROCESS: Final = uuid.uuid4().hex
"""Part of the name of all that this process downloads; what bears another one was left by a process that is gone."""


def download(downloads: Downloads, payload_id: str, uri: str, target: Path) -> bool:
    """Get an object to ``target``, which appears only when it is complete; False when there is no such object.

    Raises:
        PlatformUnreachable: The platform does not answer.
        OSError: The file cannot be written.
    """
    # a name of its own, because an attempt that nobody waits for any more may still be writing
    part = target.with_suffix(f".{_THIS_PROCESS}.{uuid.uuid4().hex}.part")
    try:
        downloads.download(payload_id, uri, part)
        read_object(part)
        part.rename(target)
    except (PlatformRefused, InvalidInstance) as error:
        log.warning("export_object_unusable", payload_id=payload_id, kind=type(error).__name__)
        return False
    finally:
        part.unlink(missing_ok=True)
    return True


def remove_leftovers(folder: Path) -> None:
    """Delete what processes that were killed had begun to download; what an attempt of this one writes is kept."""
    for path in folder.glob("*.part"):
        if _THIS_PROCESS not in path.name:
            path.unlink(missing_ok=True)
