"""A spool as a person looks at it: what lies there, whether it is whole, and where to copy it from.

Nothing here changes anything: unlike :class:`~clara_dicom_adapter.spool.Spool` it neither makes nor mends
``ownership.db``, takes no role, and serves a spool whose index is damaged, or that another node has taken over.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from clara_dicom_adapter.errors import SpoolUnusable
from clara_dicom_adapter.spool.association import FACTS, AssociationFolder
from clara_dicom_adapter.spool.damaged import that_were_set_aside
from clara_dicom_adapter.spool.database import DATABASE
from clara_dicom_adapter.spool.models import ASSOCIATIONS, is_association_id
from clara_dicom_adapter.spool.node import FileLock, read_node
from clara_dicom_adapter.spool.schema import MIGRATIONS
from clara_dicom_adapter.spool.unnamed import InstanceFile, Unnamed

_BUSY_SECONDS: Final = 30.0
_OF_ASSOCIATION: Final = """
    SELECT sequence, bytes, sop_instance_uid, study_instance_uid, series_instance_uid, released,
        handed_over_ns IS NOT NULL, owner.workflow_id
    FROM instance LEFT JOIN batch USING (batch_id) LEFT JOIN owner USING (owner_id)
    WHERE instance.association_id = ?
"""


class Stage(StrEnum):
    """How far an instance, or an association, has come."""

    ARRIVING = "arriving"
    """Of an association: it is open."""
    WAITING_TO_BE_TOLD = "waiting to be told"
    """Temporal has not been told of it."""
    WAITING_FOR_WORKFLOW = "waiting for a workflow"
    """Temporal has been told, and no workflow has claimed it."""
    OWNED = "owned"
    RELEASED = "released"
    """Nobody needs it; it is about to be deleted."""
    EMPTY = "empty"
    """Of an association: nothing of it lies here (any more)."""
    UNUSABLE = "unusable"
    """Of an association: its ``association.json`` is missing or damaged."""


@dataclass(frozen=True)
class Entry:
    """An instance in the index.

    Attributes:
        bytes: Size of its file.
        owner: Workflow that owns it; empty while none does.
    """

    bytes: int
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    released: bool
    handed_over: bool
    owner: str

    @property
    def stage(self) -> Stage:
        if self.released:
            return Stage.RELEASED
        if self.owner:
            return Stage.OWNED
        return Stage.WAITING_FOR_WORKFLOW if self.handed_over else Stage.WAITING_TO_BE_TOLD


@dataclass(frozen=True)
class ListedAssociation:
    """An association and what lies here of it.

    Attributes:
        calling_ae_title: Empty, like what follows, when the association is unusable.
        outcome: How it ended; empty while it is open.
        bytes: Size of its files.
        stages: Instances by how far they have come.
        owners: Instances by the workflow that owns them.
    """

    association_id: str
    calling_ae_title: str = ""
    called_ae_title: str = ""
    peer: str = ""
    started_at: datetime | None = None
    outcome: str = ""
    stage: Stage = Stage.UNUSABLE
    instances: int = 0
    bytes: int = 0
    stages: Mapping[str, int] = field(default_factory=dict[str, int])
    owners: Mapping[str, int] = field(default_factory=dict[str, int])


class Inventory:
    """A spool that is only read, by any number of processes, whether the adapter runs or not."""

    def __init__(self, root: Path) -> None:
        """Raises SpoolUnusable when there is no spool, or one that only a newer version knows."""
        self.root = root
        if read_node(root) is None:
            raise SpoolUnusable(f"{root} holds no spool; nothing was ever received here")
        self.index_problem = ""
        """Why the index cannot be read; empty when it can."""
        self._lock = FileLock(root / "ownership.lock")
        self._lock.take(shared=True, wait=True)  # whoever has it for themselves is making or mending the database
        self._database = self._connect()
        self.unnamed = Unnamed(root)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        if self._database is not None:
            self._database.close()
        self._lock.release()

    def _connect(self) -> sqlite3.Connection | None:
        path = self.root / DATABASE
        if not path.exists():
            self.index_problem = f"{DATABASE} is missing"
            return None
        database = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
        try:
            version = database.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            self.index_problem = f"{DATABASE} cannot be read: {error}"
        else:
            if version == len(MIGRATIONS):
                return database
            self.index_problem = f"{DATABASE} has version {version}; this one reads {len(MIGRATIONS)}"
        database.close()
        return None

    def check_index(self) -> None:
        """Look through the whole index; what is wrong is in :attr:`index_problem` then."""
        try:
            found = self._database.execute("PRAGMA quick_check(1)").fetchone()[0] if self._database else "ok"
        except sqlite3.DatabaseError as error:
            found = str(error)
        if found != "ok":
            self.index_problem = f"{DATABASE} is damaged: {found}"

    def paths(self) -> Iterator[Path]:
        """The folders of associations, oldest first; one without facts and instances has not begun."""
        folder = self.root / ASSOCIATIONS
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if is_association_id(path.name) and ((path / FACTS).exists() or self.files(path)):
                yield path

    def set_aside(self) -> list[Path]:
        """Files that did not agree with their seals, oldest first."""
        return that_were_set_aside(self.root)

    def files(self, folder: Path) -> Mapping[int, InstanceFile]:
        """Every instance of an association by its sequence; none when the folder is gone."""
        try:
            return self.unnamed.with_named(folder)
        except FileNotFoundError:
            return {}

    def entries(self, association_id: str) -> dict[int, Entry]:
        """What the index knows of an association, by sequence; nothing when it cannot be read."""
        if self._database is None:
            return {}
        try:
            rows = self._database.execute(_OF_ASSOCIATION, (association_id,)).fetchall()
        except sqlite3.DatabaseError as error:
            self.index_problem = f"{DATABASE} cannot be read: {error}"
            return {}
        return {
            sequence: Entry(size, sop, study, series, bool(released), bool(handed_over), owner or "")
            for sequence, size, sop, study, series, released, handed_over, owner in rows
        }

    def associations(self) -> Iterator[ListedAssociation]:
        """Every association, oldest first."""
        for path in self.paths():
            try:
                yield self._listed(path)
            except FileNotFoundError:
                continue  # reclaimed meanwhile

    def _listed(self, path: Path) -> ListedAssociation:
        try:
            folder = AssociationFolder.read(path, durable=False)
        except (SpoolUnusable, FileNotFoundError):
            sizes = [file.bytes for file in self.files(path).values()]
            return ListedAssociation(path.name, instances=len(sizes), bytes=sum(sizes))
        outcome = folder.outcome
        files = self.files(path)
        entries = self.entries(path.name)
        stages: Counter[str] = Counter()
        owners: Counter[str] = Counter()
        size = 0
        for sequence, file in files.items():
            try:
                size += file.bytes
            except FileNotFoundError:
                continue  # reclaimed meanwhile
            entry = entries.get(sequence)
            stage = entry.stage if entry else Stage.WAITING_TO_BE_TOLD
            stages[stage] += 1
            if entry and stage is Stage.OWNED:
                owners[entry.owner] += 1
        facts = folder.facts
        return ListedAssociation(
            association_id=path.name,
            calling_ae_title=facts.calling_ae_title,
            called_ae_title=facts.called_ae_title,
            peer=facts.peer,
            started_at=facts.started_at,
            outcome=outcome.outcome.value if outcome else "",
            stage=Stage.ARRIVING if outcome is None and folder.receiving else _least(stages),
            instances=stages.total(),
            bytes=size,
            stages=dict(stages),
            owners=dict(owners),
        )


def _least(stages: Mapping[str, int]) -> Stage:
    """How far the hindmost instance has come."""
    order = (Stage.WAITING_TO_BE_TOLD, Stage.WAITING_FOR_WORKFLOW, Stage.OWNED, Stage.RELEASED)
    return next((stage for stage in order if stages.get(stage)), Stage.EMPTY)
