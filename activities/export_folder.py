"""An export's objects on one node's disk, and where the journals of its destinations are.

Layout below ``<storage.temporary>/exports/``, opaque names only::

    <32 hex of SHA-256 of the task id>/task.json           whose objects these are, for the sweep, and of which uris
                                       0000.dcm ...        by place in the task's list of uris
                                       sent-<16 hex>.log   a journal for each destination (``export_journal``)
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from clara_dicom_adapter.activities.export_journal import Journal
from clara_dicom_adapter.errors import DownloadsLost

_TOLD: Final = "task.json"


class ExportFolder:
    """The folder of one task."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        return self._path

    def create(self, task_id: str, agent: str, uris: Sequence[str]) -> None:
        """Make it; one that was left of an offer of other files is emptied, for all in it goes by their places."""
        digest = hashlib.sha256(json.dumps(list(uris)).encode()).hexdigest()
        told = {"format": 1, "task_id": task_id, "agent": agent, "uris": digest}
        if self._told() == told:
            return
        self.remove()
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._path / _TOLD).write_text(json.dumps(told))

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
        told = self._told()
        try:
            return str(told["agent"]), str(told["task_id"])
        except KeyError:
            return None

    def _told(self) -> dict[str, Any]:
        try:
            value = json.loads((self._path / _TOLD).read_text())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}


class ExportFolders:
    """All folders of exports on this node."""

    def __init__(self, temporary: Path) -> None:
        self.root = temporary / "exports"

    def of(self, task_id: str) -> ExportFolder:
        return ExportFolder(self.root / hashlib.sha256(task_id.encode()).hexdigest()[:32])

    def all(self) -> Iterator[ExportFolder]:
        if self.root.is_dir():
            yield from (ExportFolder(path) for path in sorted(self.root.iterdir()) if path.is_dir())
