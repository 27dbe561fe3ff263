"""Sealed files that do not hold what they were sealed with: set aside, for a person to judge.

A power cut within a flush leaves one, of an instance that was never answered. A disk that has lost what was flushed
leaves one, too, of an instance that was. Nothing tells the two apart: that the machine has started anew since says that
a power cut may have come, not that this file was in it. So nothing is deleted that may have been answered.
"""

from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.spool.durable import make_folder
from clara_dicom_adapter.spool.models import instance_name
from clara_dicom_adapter.spool.seal import Seal

log = structlog.get_logger("clara_dicom_adapter.spool")

DAMAGED: Final = "damaged"
MOST_KEPT: Final = 1024
"""Files that are set aside; the oldest make room. More than one power cut leaves, which is one for each association: an
older one, which may have been answered, does not give way to those."""


def set_aside(root: Path, path: Path, seal: Seal) -> None:
    """Keep a file that does not agree with its seal; raises OSError when the disk refuses that."""
    make_folder(root / DAMAGED, durable=False)
    name = Path(instance_name(seal.sequence, seal.received_ns)).with_suffix(".damaged")
    kept = root / DAMAGED / f"{seal.association_id}-{name}"
    path.rename(kept)
    log.error("sealed_file_set_aside", path=str(kept), association_id=seal.association_id)
    for oldest in that_were_set_aside(root)[:-MOST_KEPT]:
        oldest.unlink()
        log.error("damaged_file_deleted", path=str(oldest), reason=f"there are {MOST_KEPT} later ones")


def keep_aside(root: Path, content: bytes, seal: Seal) -> None:
    """Keep what a segment holds of an instance and does not agree with its seal; raises OSError as above."""
    make_folder(root / DAMAGED, durable=False)
    part = root / DAMAGED / f"{seal.association_id}-{seal.sequence:08d}.part"
    part.write_bytes(content)
    set_aside(root, part, seal)


def that_were_set_aside(root: Path) -> list[Path]:
    """The files, oldest first: the ids of associations sort by time."""
    folder = root / DAMAGED
    return sorted(folder.iterdir()) if folder.is_dir() else []
