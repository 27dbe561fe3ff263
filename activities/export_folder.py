"""An export's objects on one node's disk, and where the journals of its destinations are.

Layout below ``<storage.temporary>/exports/``, opaque names only::

    <32 hex of SHA-256 of the task id>/task.json           whose objects these are, for the sweep
                                       0000.dcm ...        by place in the task's list of uris
                                       sent-<16 hex>.log   a journal for each destination (``export_journal``)
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from clara_dicom_adapter.activities.export_journal import Journal
from clara_dicom_adapter.errors import DownloadsLost


class ExportFolder:
    """The folder of one task."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, task_id: str, agent: str) -> None:
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._path / "task.json").write_text(json.dumps({"format": 1, "task_id": task_id, "agent": agent}))

    def object(self, index: int) -> Path:
        """Where the object at this place of the task's uris lies, or will lie."""
        return self._path / f"{index:04d}.dcm"

    def objects(self) -> dict[int, Path]:
        """What has been downloaded, by place; raises :class:`DownloadsLost` when the folder is gone."""
        if not self._path.is_dir():
            raise DownloadsLost("this node does not have the objects of the export")
        return {int(path.stem): path for path in sorted(self._path.glob("*.dcm"))}

    def journal(self, destination: str) -> Journal:
        digest = hashlib.sha256(destination.casefold().encode()).hexdigest()[:16]
        return Journal(self._path / f"sent-{digest}.log")

    def remove(self) -> int:
        """Delete it with all it holds, and return how many objects that were; safe to repeat."""
        if not self._path.exists():
            return 0
        count = sum(1 for _ in self._path.glob("*.dcm"))
        shutil.rmtree(self._path)
        return count

    @property
    def whose(self) -> tuple[str, str] | None:
        """Agent and task id; None when that cannot be read."""
        try:
            value = json.loads((self._path / "task.json").read_text())
            return str(value["agent"]), str(value["task_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


class ExportFolders:
    """All folders of exports on this node."""

    def __init__(self, temporary: Path) -> None:
        self.root = temporary / "exports"

    def of(self, task_id: str) -> ExportFolder:
        return ExportFolder(self.root / hashlib.sha256(task_id.encode()).hexdigest()[:32])

    def all(self) -> Iterator[ExportFolder]:
        if self.root.is_dir():
            yield from (ExportFolder(path) for path in sorted(self.root.iterdir()) if path.is_dir())
