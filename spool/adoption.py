"""Taking over the spool of a node that will not come back (``clara dicom spool adopt PATH``).

Associations move with all that is known of them: who owns what stays as it is, and what nobody has claimed is
handed over again. This node answers for the other one's id from then on (:attr:`Spool.node_ids`), so that workflows
that wait for the lost node find their instances here.

How it works: the other spool is marked first, so that nobody can serve it any more. Each association then moves in one
transaction: rows are entered here, the folder is renamed into place, the transaction ends. A crash at any point is
mended by doing it again; only this node may.
"""

import errno
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.errors import SpoolUnusable
from clara_dicom_adapter.spool import node as nodes
from clara_dicom_adapter.spool.association import FACTS, AssociationFolder
from clara_dicom_adapter.spool.database import Database
from clara_dicom_adapter.spool.durable import make_folder, sync_folder, sync_tree
from clara_dicom_adapter.spool.models import ASSOCIATIONS, SpoolRole, is_association_id
from clara_dicom_adapter.spool.replay import Replay
from clara_dicom_adapter.spool.sealed import SealedFiles

log = structlog.get_logger("clara_dicom_adapter.spool")

ADOPTING: Final = "adopting"
_INSTANCE: Final = (
    "association_id, sequence, received_ns, bytes, sop_class_uid, sop_instance_uid, transfer_syntax_uid,"
    " study_instance_uid, series_instance_uid, readable, batch_id, released"
)
_BATCH: Final = "batch_id, association_id, number, workflow_id, receive_input, instances, made_ns"


@dataclass(frozen=True, slots=True)
class Adopted:
    """What was taken over."""

    node_id: str
    associations: int
    instances: int


def adopt(root: Path, database: Database, other_root: Path) -> Adopted:
    """Move everything from another spool into the one at ``root``; safe to repeat after a crash.

    Raises:
        SpoolInUse: The other spool is being served.
        SpoolUnusable: It is no spool, or another node has taken it over.
    """
    own = nodes.read_node(root)
    if own is None or other_root.resolve() == root.resolve():
        raise SpoolUnusable(f"{other_root} is not another spool")
    if not (other_root / nodes.NODE).exists():
        raise SpoolUnusable(f"{other_root} holds no spool")
    locks = nodes.lock_roles(other_root, [SpoolRole.RECEIVER, SpoolRole.WORKER])
    try:
        other = nodes.read_node(other_root)
        if other is None or other.node_id == own.node_id:
            raise SpoolUnusable(f"{other_root} has the same node id: it is a copy of this spool")
        if other.adopted_by not in {None, own.node_id}:
            raise SpoolUnusable(f"{other_root} has been taken over by node {other.adopted_by}")
        nodes.write_node(other_root, other.model_copy(update={"adopted_by": own.node_id}))
        nodes.add_adopted(root, [other.node_id, *other.adopted])
        try:
            left = SealedFiles(other_root, Replay(other_root, looks=1)).place().left
        except OSError as error:
            raise SpoolUnusable(f"{other_root}: instances cannot be named: {error}") from error
        if left:
            raise SpoolUnusable(f"{other_root}: instances of {len(left)} associations cannot be named; see the log")
        totals = _move_all(root, database, other_root, other.node_id)
    finally:
        for lock in locks:
            lock.release()
    log.info("spool_adopted", path=str(other_root), node_id=other.node_id, instances=totals.instances)
    return totals


def _move_all(root: Path, database: Database, other_root: Path, node_id: str) -> Adopted:
    theirs, ours, staging = other_root / ASSOCIATIONS, root / ASSOCIATIONS, root / ADOPTING
    make_folder(staging, durable=True)
    associations = instances = 0
    with closing(Database(other_root, durable=True)) as other_database:
        for association_id in _association_ids(theirs, ours, staging, other_database):
            try:
                _stage(theirs / association_id, staging, ours)
            except SpoolUnusable as error:
                log.error("association_unusable", path=str(theirs / association_id), error=str(error))
                continue  # it stays where it is, for a person to look at
            with other_database.read() as source, database.write() as connection:
                _enter(connection, source, association_id)
                if (staging / association_id).exists():
                    # under our write lock, so that nobody here indexes the files before the rows are there
                    (staging / association_id).rename(ours / association_id)
                    sync_folder(ours)
                    associations += 1
                    instances += sum(1 for _ in (ours / association_id).glob("*.dcm"))
            with other_database.write() as source:
                _delete(source, association_id)
            if (theirs / association_id).exists():
                shutil.rmtree(theirs / association_id)
    return Adopted(node_id, associations, instances)


def _association_ids(theirs: Path, ours: Path, staging: Path, other_database: Database) -> list[str]:
    """What is still to be moved, or was being moved when an earlier attempt ended."""
    with other_database.read() as source:
        rows = {str(row[0]) for row in source.execute("SELECT association_id FROM association")}
    names = {path.name for folder in (theirs, staging) for path in folder.glob("*") if (path / FACTS).exists()}
    return sorted(each for each in names | {row for row in rows if (ours / row).exists()} if is_association_id(each))


def _stage(folder: Path, staging: Path, ours: Path) -> None:
    """Bring a folder onto our file system, complete and flushed."""
    staged = staging / folder.name
    if not folder.exists() or staged.exists() or (ours / folder.name).exists():
        return
    found = AssociationFolder.read(folder, durable=True)
    if found.outcome is None:
        found.end_abandoned()  # nobody receives there any more: its receiver's lock is ours
    try:
        folder.rename(staged)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part = staging / f"{folder.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(folder, part)
        sync_tree(part)
        part.rename(staged)
    sync_folder(staging)


def _enter(connection: sqlite3.Connection, source: sqlite3.Connection, association_id: str) -> None:
    """Copy the rows of an association, unless they are here; batches that nobody owns are to be handed over again."""
    this = (association_id,)
    if connection.execute("SELECT 1 FROM instance WHERE association_id = ?", this).fetchone():
        return
    for row in source.execute("SELECT association_id, batches FROM association WHERE association_id = ?", this):
        connection.execute("INSERT OR REPLACE INTO association VALUES (?, ?)", row)
    for *batch, owner_id in source.execute(f"SELECT {_BATCH}, owner_id FROM batch WHERE association_id = ?", this):  # noqa: S608
        own = _same_owner(connection, source, owner_id)
        connection.execute(
            f"INSERT INTO batch ({_BATCH}, handed_over_ns, owner_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (*batch, time.time_ns() if own is not None else None, own),
        )
    for row in source.execute(f"SELECT {_INSTANCE} FROM instance WHERE association_id = ?", this):  # noqa: S608
        connection.execute(f"INSERT INTO instance ({_INSTANCE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
    for row in source.execute("SELECT association_id, workflow_id FROM told_end WHERE association_id = ?", this):
        connection.execute("INSERT INTO told_end VALUES (?, ?)", row)


def _same_owner(connection: sqlite3.Connection, source: sqlite3.Connection, owner_id: int | None) -> int | None:
    row = source.execute(
        "SELECT workflow_id, run_id, group_number, restart, since_ns FROM owner WHERE owner_id = ?", (owner_id,)
    ).fetchone()
    if row is None:
        return None
    connection.execute(
        "INSERT OR IGNORE INTO owner (workflow_id, run_id, group_number, restart, since_ns) VALUES (?, ?, ?, ?, ?)", row
    )
    found: tuple[int] = connection.execute(
        "SELECT owner_id FROM owner WHERE workflow_id = ? AND run_id = ? AND group_number = ?", row[:3]
    ).fetchone()
    return found[0]


def _delete(source: sqlite3.Connection, association_id: str) -> None:
    for table in ("told_end", "instance", "batch", "association"):
        source.execute(f"DELETE FROM {table} WHERE association_id = ?", (association_id,))  # noqa: S608
