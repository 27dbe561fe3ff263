"""An export's objects on one node's disk, and the journal of what each destination has confirmed.

Layout below ``<storage.temporary>/exports/``, opaque names only::

    <32 hex of SHA-256 of the task id>/task.json           whose objects these are, for the sweep, and of which uris
                                       0000.dcm ...        by place in the task's list of uris
                                       sent-<16 hex>.log   one line of JSON per result, per destination

The journal gets one write per result before the next object is begun, so that a killed worker repeats nothing that was
confirmed to it. It is not flushed to the device: a power cut may cost what the records (which are a few seconds
behind) do not have, and those objects are sent twice.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from clara_dicom_adapter.dicom.delivery import ObjectResult, Verdict
from clara_dicom_adapter.errors import DownloadsLost
from clara_dicom_adapter.records.upsert import bounded

_TOLD: Final = "task.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One journalled result.

    Attributes:
        send: Which pass it belongs to, ``<offer>.<round>``.
        index: Place in the task's list of uris.
        comment: The peer's words; may speak of a patient.
    """

    send: str
    index: int
    verdict: Verdict
    status: int | None = None
    comment: str = ""
    reason: str = ""

    @classmethod
    def of(cls, send: str, index: int, result: ObjectResult) -> Self:
        return cls(send, index, result.verdict, result.status, bounded(result.comment), bounded(result.reason))

    @property
    def delivered(self) -> bool:
        return self.verdict in {Verdict.STORED, Verdict.WARNING}


class Journal:
    """Results for one destination; one process writes it at a time, because one activity does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Outcome]:
        """Everything confirmed so far; a line that a crash or a power cut left unreadable does not count."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return []
        return [outcome for line in lines[:-1] if (outcome := _outcome(line))]

    @contextmanager
    def writer(self) -> Iterator[Callable[[Outcome], None]]:
        """Append outcomes, each with one write."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                os.write(descriptor, b"\n")  # ends what a crash cut short
            yield lambda outcome: _append(descriptor, outcome)
        finally:
            os.close(descriptor)


def _append(descriptor: int, outcome: Outcome) -> None:
    line = json.dumps(
        {
            "send": outcome.send,
            "index": outcome.index,
            "verdict": outcome.verdict.value,
            "status": outcome.status,
            "comment": outcome.comment,
            "reason": outcome.reason,
        }
    )
    data = line.encode() + b"\n"
    if os.write(descriptor, data) != len(data):
        raise OSError("the journal could not take a whole line")


def _outcome(line: bytes) -> Outcome | None:
    """None when this is not a whole line of ours; part of one may end in a brace too."""
    try:
        value = json.loads(line)
        index = value["index"]
        if not isinstance(index, int):
            return None
        return Outcome(
            value["send"], index, Verdict(value["verdict"]), value["status"], value["comment"], value["reason"]
        )
    except (ValueError, KeyError, TypeError):
        return None


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
