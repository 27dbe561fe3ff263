"""Deletes what nobody needs any more, and nothing else: an accepted instance without an owner is not among it.

Order: files first, their folder flushed, then their rows. The other way round a power cut could bring back a file
that the index no longer knows, and it would be submitted again.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from clara_dicom_adapter.errors import SpoolUnusable
from clara_dicom_adapter.spool.association import FACTS, GONE, OUTCOME, AssociationFolder, remove_parts
from clara_dicom_adapter.spool.database import Database
from clara_dicom_adapter.spool.durable import sync_folder
from clara_dicom_adapter.spool.models import ReclaimTotals, instance_name, is_association_id
from clara_dicom_adapter.spool.replay import in_segments
from clara_dicom_adapter.spool.sealed import SealedFiles

_INSTANCES_AT_ONCE = 1000
_MOVES_KEPT_NS = 30 * 24 * 3600 * 1_000_000_000
_EMPTY = (
    "NOT EXISTS (SELECT 1 FROM instance WHERE instance.association_id = association.association_id)"
    " AND NOT EXISTS (SELECT 1 FROM batch WHERE batch.association_id = association.association_id AND NOT EXISTS ("
    "SELECT 1 FROM told_end WHERE told_end.association_id = batch.association_id"
    " AND told_end.workflow_id = batch.workflow_id))"
)
"""No instance is left, and everybody who got batches knows that the association is over."""


@dataclass(frozen=True, slots=True)
class _Released:
    association_id: str
    sequence: int
    received_ns: int
    bytes: int


class Reclaimer:
    """The deletions of one spool."""

    def __init__(self, database: Database, associations: Path, sealed: SealedFiles) -> None:
        self._database = database
        self._associations = associations
        self._sealed = sealed

    def reclaim(self) -> ReclaimTotals:
        """Delete all that may be deleted now; safe to repeat, and from several processes at once."""
        instances = size = parts = folders = 0
        for released in self._released_in_turn():
            self._delete(released)
            instances += len(released)
            size += sum(each.bytes for each in released)
        ended: list[Path] = []
        for path in sorted(self._associations.iterdir()):
            if path.name.endswith(GONE):
                shutil.rmtree(path, ignore_errors=True)
            elif is_association_id(path.name) and (path / OUTCOME).exists():
                parts += remove_parts(path)
                ended.append(path)
        empty = [path for path in ended if not any(path.glob("*.dcm"))]
        if empty:  # unless something was answered in it that has no name yet
            left = self._sealed.place().left
            folders += sum(self._remove_empty(path) for path in empty if path.name not in left)
        self._forget_associations()
        return ReclaimTotals(instances, size, parts, folders)

    def remove_unbegun(self) -> None:
        """Remove folders whose facts are not there or torn, and that hold nothing else. Nobody may receive.

        Their receiver died before it took a first instance.
        """
        for path in self._associations.iterdir():
            if is_association_id(path.name) and not self._is_begun(path):
                (path / f"{FACTS}.part").unlink(missing_ok=True)
                (path / FACTS).unlink(missing_ok=True)
                with suppress(OSError):  # anything else in it is not ours to judge
                    path.rmdir()

    @staticmethod
    def _is_begun(path: Path) -> bool:
        try:
            AssociationFolder.read(path, durable=False)
        except FileNotFoundError:
            return False
        except SpoolUnusable:
            return any(each.name not in {FACTS, f"{FACTS}.part"} for each in path.iterdir())
        return True

    # ---- instances ----

    def _released_in_turn(self) -> Iterator[list[_Released]]:
        """All of them, some at a time; without those of which a copy lies in a segment, for a moment yet."""
        last = ("", -1)
        while released := self._released_after(last):
            last = released[-1].association_id, released[-1].sequence
            kept = in_segments(self._associations.parent)  # looked at later than who is released
            yield [each for each in released if (each.association_id, each.sequence) not in kept]

    def _released_after(self, last: tuple[str, int]) -> list[_Released]:
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT association_id, sequence, received_ns, bytes FROM instance"
                " WHERE released AND (association_id, sequence) > (?, ?) ORDER BY association_id, sequence LIMIT ?",
                (*last, _INSTANCES_AT_ONCE),
            )
            return [_Released(*row) for row in rows]

    def _delete(self, released: list[_Released]) -> None:
        for each in released:
            path = self._associations / each.association_id / instance_name(each.sequence, each.received_ns)
            path.unlink(missing_ok=True)
        for association_id in {each.association_id for each in released}:
            with suppress(FileNotFoundError):
                sync_folder(self._associations / association_id)
        with self._database.write() as connection:
            connection.executemany(
                "DELETE FROM instance WHERE association_id = ? AND sequence = ? AND released",
                [(each.association_id, each.sequence) for each in released],
            )

    # ---- associations ----

    def _remove_empty(self, path: Path) -> bool:
        with self._database.write() as connection:
            # under the write lock: nothing of it can be indexed meanwhile, and an ended one gets no new file
            known = connection.execute(
                f"SELECT {_EMPTY} FROM association WHERE association_id = ?",  # noqa: S608
                (path.name,),
            ).fetchone()
            if (known is not None and not known[0]) or any(path.glob("*.dcm")):
                return False
            try:
                path.rename(path.with_name(path.name + GONE))
            except FileNotFoundError:
                return False  # another process was faster
        shutil.rmtree(path.with_name(path.name + GONE), ignore_errors=True)
        return True

    def _forget_associations(self) -> None:
        """Delete the rows of associations whose folder is gone and of which nothing is left."""
        with self._database.write() as connection:
            rows = connection.execute(f"SELECT association_id FROM association WHERE {_EMPTY}")  # noqa: S608
            gone = [(row[0],) for row in rows if not (self._associations / row[0]).exists()]
            for table in ("told_end", "batch", "association"):
                connection.executemany(f"DELETE FROM {table} WHERE association_id = ?", gone)  # noqa: S608
            old = (time.time_ns() - _MOVES_KEPT_NS,)
            connection.execute(
                "DELETE FROM moved WHERE to_owner IN (SELECT owner_id FROM owner WHERE since_ns < ?)", old
            )
            connection.execute(
                "DELETE FROM owner WHERE since_ns < ?"
                " AND owner_id NOT IN (SELECT owner_id FROM batch WHERE owner_id NOT NULL)"
                " AND owner_id NOT IN (SELECT from_owner FROM moved UNION SELECT to_owner FROM moved)",
                old,
            )
