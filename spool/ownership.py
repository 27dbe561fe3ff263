"""Index, batches and ownership: whose every instance is. Each method is one transaction, durable when it returns.

How it works: instances are indexed and put into batches; a batch is addressed to a workflow and claimed as a whole, by
the first who asks. From then on ownership moves from owner to owner until instances are released. Everything may be
asked again with the same answer, because activities and hand-overs are repeated after a crash.
"""

import sqlite3
import time
import uuid
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Final

from clara_dicom_adapter.spool.database import Database
from clara_dicom_adapter.spool.models import (
    InstanceHead,
    InstanceKey,
    OwnerSummary,
    PendingBatch,
    SpooledInstance,
    SpoolUsage,
    Target,
    Totals,
    instance_name,
)
from clara_dicom_adapter.workflows.models import BatchRef, ClaimResult, Owner

PARKED_SECONDS: Final = 3600
_COLUMNS: Final = (
    "instance.association_id, sequence, received_ns, bytes, sop_class_uid, sop_instance_uid, transfer_syntax_uid, "
    "study_instance_uid, series_instance_uid, readable"
)
_PENDING: Final = """
    SELECT batch.batch_id, batch.association_id, number, workflow_id, receive_input, COUNT(*), SUM(instance.bytes)
    FROM batch JOIN instance USING (batch_id)
    WHERE owner_id IS NULL AND NOT released AND {condition}
    GROUP BY batch.batch_id ORDER BY made_ns, batch.association_id, number LIMIT ?
"""


class Ownership:
    """The transactions on ``ownership.db``."""

    def __init__(self, database: Database, associations: Path, node_id: str) -> None:
        self._database = database
        self._associations = associations
        self._node_id = node_id

    # ---- index and batches ----

    def index(self, association_id: str, heads: Iterable[InstanceHead]) -> list[SpooledInstance]:
        """Enter instances; returns those of the association that are in no batch yet."""
        rows = [
            (
                association_id,
                head.stored.sequence,
                head.stored.received_ns,
                head.stored.bytes,
                head.stored.sop_class_uid,
                head.stored.sop_instance_uid,
                head.stored.transfer_syntax_uid,
                head.study_instance_uid,
                head.series_instance_uid,
                head.readable,
            )
            for head in heads
        ]
        with self._database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO association (association_id) VALUES (?)", (association_id,))
            connection.executemany(
                "INSERT OR IGNORE INTO instance (association_id, sequence, received_ns, bytes, sop_class_uid,"
                " sop_instance_uid, transfer_syntax_uid, study_instance_uid, series_instance_uid, readable)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            return self._select(connection, "association_id = ? AND batch_id IS NULL", (association_id,))

    def indexed(self, association_id: str) -> frozenset[int]:
        """The sequences of an association that the index knows."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT sequence FROM instance WHERE association_id = ?", (association_id,))
            return frozenset(row[0] for row in rows)

    def unbatched(self) -> list[SpooledInstance]:
        """Instances that are in no batch: their hand-over was cut off between the index and the batch."""
        with self._database.read() as connection:
            return self._select(connection, "batch_id IS NULL AND NOT released", ())

    def make_batch(self, association_id: str, target: Target, keys: Sequence[InstanceKey]) -> BatchRef:
        """Put instances of one association into a new batch; raises ValueError when one is in a batch already."""
        batch_id = uuid.uuid4().hex
        with self._database.write() as connection:
            (number,) = connection.execute(
                "UPDATE association SET batches = batches + 1 WHERE association_id = ? RETURNING batches",
                (association_id,),
            ).fetchone() or (0,)
            if not number or not keys:
                raise ValueError("a batch holds indexed instances")
            connection.execute(
                "INSERT INTO batch (batch_id, association_id, number, workflow_id, receive_input, instances, made_ns)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    batch_id,
                    association_id,
                    number,
                    target.workflow_id,
                    target.receive_input,
                    len(keys),
                    time.time_ns(),
                ),
            )
            changed = connection.executemany(
                "UPDATE instance SET batch_id = ? WHERE association_id = ? AND sequence = ? AND batch_id IS NULL",
                [(batch_id, association_id, key.sequence) for key in keys],
            ).rowcount
            if changed != len(keys):
                raise ValueError("an instance of the batch is not indexed, or is in a batch already")
            size = connection.execute("SELECT SUM(bytes) FROM instance WHERE batch_id = ?", (batch_id,)).fetchone()[0]
        return BatchRef(
            batch_id=batch_id,
            node_id=self._node_id,
            association_id=association_id,
            number=number,
            instances=len(keys),
            bytes=size,
        )

    def batches_to_hand_over(self, limit: int) -> list[PendingBatch]:
        """Batches that Temporal has not accepted, oldest first."""
        return self._pending("handed_over_ns IS NULL", (limit,))

    def unclaimed(self, older_than_seconds: float, limit: int) -> list[PendingBatch]:
        """Batches that Temporal accepted so long ago that somebody should have claimed them."""
        before = time.time_ns() - int(older_than_seconds * 1e9)
        return self._pending("handed_over_ns < ?", (before, limit))

    def handed_over(self, batch_ids: Collection[str]) -> None:
        """Temporal has accepted the signals for these batches."""
        with self._database.write() as connection:
            connection.executemany(
                "UPDATE batch SET handed_over_ns = COALESCE(handed_over_ns, ?) WHERE batch_id = ?",
                [(time.time_ns(), batch_id) for batch_id in batch_ids],
            )

    def hand_over_again(self, batch_ids: Collection[str]) -> int:
        """Batches whose signal Temporal has forgotten go back to be handed over, unless somebody has claimed them."""
        with self._database.write() as connection:
            changed = 0
            for batch_id in batch_ids:
                changed += connection.execute(
                    "UPDATE batch SET handed_over_ns = NULL WHERE batch_id = ? AND owner_id IS NULL", (batch_id,)
                ).rowcount
                self._forget_end(connection, "batch_id = ?", (batch_id,))
            return changed

    # ---- ownership ----

    def claim(self, owner: Owner, batch_ids: Sequence[str]) -> ClaimResult:
        """Make batches the owner's, unless they are someone else's or gone.

        What the owner has transferred to its own submission is granted once more: the workflow that did so may have
        lost its memory of it, and has to come to the same submission again.
        """
        instances = size = refused = 0
        with self._database.write() as connection:
            owner_id = self._owner_id(connection, owner) if batch_ids else self._known_owner_id(connection, owner)
            for batch_id in dict.fromkeys(batch_ids):
                granted = connection.execute(
                    "UPDATE batch SET owner_id = COALESCE(owner_id, ?1),"  # noqa: S608
                    " handed_over_ns = COALESCE(handed_over_ns, ?2)"
                    f" WHERE batch_id = ?3 AND (owner_id IS NULL OR {_ITS_OR_ITS_SUBMISSION_S})",
                    (owner_id, time.time_ns(), batch_id),
                ).rowcount
                totals = _totals(connection, "batch_id = ?", (batch_id,)) if granted else Totals()
                instances += totals.instances
                size += totals.bytes
                refused += not totals.instances
            mine = f"batch_id IN (SELECT batch_id FROM batch WHERE {_ITS_OR_ITS_SUBMISSION_S})"  # noqa: S608
            owned = _totals(connection, mine, (owner_id,))
            outstanding = _totals(connection, _OUTSTANDING, (owner.workflow_id,)).instances
        return ClaimResult(
            instances=instances,
            bytes=size,
            refused=refused,
            outstanding=outstanding,
            owned_instances=owned.instances,
            owned_bytes=owned.bytes,
        )

    def outstanding(self, workflow_id: str) -> int:
        """Instances addressed to a workflow that nobody has claimed."""
        with self._database.read() as connection:
            return _totals(connection, _OUTSTANDING, (workflow_id,)).instances

    def transfer(self, owner: Owner, new_owner: Owner, restart: str | None) -> Totals:
        """Give all that ``owner`` owns to ``new_owner``; the totals include what an earlier attempt moved."""
        if owner == new_owner:
            raise ValueError("an owner cannot transfer to itself")
        with self._database.write() as connection:
            old, new = self._owner_id(connection, owner), self._owner_id(connection, new_owner, restart)
            moving = _totals(connection, f"batch_id IN ({_BATCHES_OF})", _name(owner))
            connection.execute("UPDATE batch SET owner_id = ? WHERE owner_id = ?", (new, old))
            connection.execute(
                "INSERT INTO moved VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
                " SET instances = instances + excluded.instances, bytes = bytes + excluded.bytes",
                (old, new, moving.instances, moving.bytes),
            )
            row = connection.execute(
                "SELECT instances, bytes FROM moved WHERE from_owner = ? AND to_owner = ?", (old, new)
            ).fetchone()
        return Totals(*row)

    def instances_in(self, batch_ids: Collection[str]) -> list[SpooledInstance]:
        """What some batches hold that is not released, in the order received."""
        with self._database.read() as connection:
            found = [self._select(connection, "batch_id = ? AND NOT released", (each,)) for each in batch_ids]
        return sorted((one for batch in found for one in batch), key=lambda one: one.order)

    def instances_of(self, owner: Owner) -> list[SpooledInstance]:
        """What an owner owns and has not released, in the order received."""
        with self._database.read() as connection:
            return self._select(connection, f"batch_id IN ({_BATCHES_OF}) AND NOT released", _name(owner))

    def of_sender(self, owner: Owner, sender_key: str) -> list[tuple[str, Owner | None]]:
        """Other associations of a sender with a study of the owner's, that belong to their own workflow or nobody.

        Only those of AE titles without a window, for only they are addressed with a sender's key. Returns each
        association's id and its owner.
        """
        with self._database.read() as connection:
            rows = connection.execute(_OF_SENDER, (*_name(owner), sender_key, owner.workflow_id))
            return [
                (association_id, Owner(workflow_id=name[0], run_id=name[1], group=name[2]) if name[0] else None)
                for association_id, *name in rows
            ]

    def came_again(self, owner: Owner, association_id: str) -> bool:
        """Whether the last instance of an association is in the owner's group, too."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT 1 FROM instance WHERE sop_instance_uid = (SELECT sop_instance_uid FROM instance"  # noqa: S608
                " WHERE association_id = ? ORDER BY sequence DESC LIMIT 1)"
                f" AND batch_id IN ({_BATCHES_OF}) LIMIT 1",
                (association_id, *_name(owner)),
            ).fetchone()
            return row is not None

    def release(self, owner: Owner, only: Collection[InstanceKey] | None) -> int:
        """Let the reclaimer delete what an owner owns, or some of it; returns how many were not released before."""
        statement = f"UPDATE instance SET released = 1 WHERE batch_id IN ({_BATCHES_OF}) AND NOT released"  # noqa: S608
        with self._database.write() as connection:
            if only is None:
                return connection.execute(statement, _name(owner)).rowcount
            narrowed = statement + " AND association_id = ? AND sequence = ?"
            return connection.executemany(narrowed, [(*_name(owner), *key) for key in only]).rowcount

    def owners(self) -> list[OwnerSummary]:
        """Everybody who owns something that is not released."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT owner.workflow_id, run_id, group_number, restart, COUNT(*), SUM(instance.bytes)"
                " FROM owner JOIN batch USING (owner_id) JOIN instance USING (batch_id)"
                " WHERE NOT released GROUP BY owner_id ORDER BY owner_id"
            )
            return [
                OwnerSummary(
                    owner=Owner(workflow_id=workflow_id, run_id=run_id, group=group),
                    instances=instances,
                    bytes=size,
                    restart=restart,
                )
                for workflow_id, run_id, group, restart, instances, size in rows
            ]

    def disown(self, owner: Owner) -> int:
        """Put what an owner has not released back to be handed over, as if nobody had ever claimed it."""
        with self._database.write() as connection:
            count = _totals(connection, f"batch_id IN ({_BATCHES_OF})", _name(owner)).instances
            self._forget_end(connection, f"batch_id IN ({_BATCHES_OF})", _name(owner))
            connection.execute(
                f"UPDATE batch SET owner_id = NULL, handed_over_ns = NULL WHERE batch_id IN ({_BATCHES_OF})"  # noqa: S608
                " AND EXISTS (SELECT 1 FROM instance WHERE instance.batch_id = batch.batch_id AND NOT released)",
                _name(owner),
            )
            return count

    # ---- the ends of associations ----

    def addressed(self, association_id: str | None) -> list[tuple[str, Target, int]]:
        """Who got batches of an association (None: of any) and has not been told that it has ended."""
        with self._database.read() as connection:
            rows = connection.execute(
                "SELECT association_id, workflow_id, receive_input, SUM(instances) FROM batch"
                " WHERE (?1 IS NULL OR association_id = ?1) AND NOT EXISTS (SELECT 1 FROM told_end"
                " WHERE told_end.association_id = batch.association_id AND told_end.workflow_id = batch.workflow_id)"
                " GROUP BY association_id, workflow_id ORDER BY MIN(made_ns)",
                (association_id,),
            )
            return [(each, Target(workflow_id, json), count) for each, workflow_id, json, count in rows]

    def end_handed_over(self, association_id: str, workflow_id: str) -> None:
        """A workflow has been told that an association is over; nothing to note when all of it is gone already."""
        with self._database.write() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO told_end SELECT association_id, ? FROM association WHERE association_id = ?",
                (workflow_id, association_id),
            )

    def forget_end(self, association_id: str, workflow_id: str) -> None:
        """A workflow has to be told once more that an association is over."""
        with self._database.write() as connection:
            connection.execute(
                "DELETE FROM told_end WHERE association_id = ? AND workflow_id = ?", (association_id, workflow_id)
            )

    # ---- figures ----

    def usage(self) -> SpoolUsage:
        """The index in figures."""
        now = time.time_ns()
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT COUNT(*), COALESCE(SUM(bytes), 0), MIN(received_ns),"
                " COALESCE(SUM(handed_over_ns IS NULL), 0), COALESCE(SUM(owner_id IS NULL), 0),"
                " COALESCE(SUM(since_ns < ?1), 0), COALESCE(SUM(bytes * (since_ns < ?1)), 0)"
                " FROM instance LEFT JOIN batch USING (batch_id) LEFT JOIN owner USING (owner_id) WHERE NOT released",
                (now - PARKED_SECONDS * 1_000_000_000,),
            ).fetchone()
        count, size, oldest, unhanded, unclaimed, parked, parked_bytes = row
        age = max((now - oldest) / 1e9, 0.0) if oldest else 0.0
        return SpoolUsage(count, size, age, unhanded, unclaimed, parked, parked_bytes)

    # ---- parts ----

    def _pending(self, condition: str, values: tuple[int, ...]) -> list[PendingBatch]:
        with self._database.read() as connection:
            rows = connection.execute(_PENDING.format(condition=condition), values)
            return [
                PendingBatch(
                    BatchRef(
                        batch_id=batch_id,
                        node_id=self._node_id,
                        association_id=association_id,
                        number=number,
                        instances=instances,
                        bytes=size,
                    ),
                    Target(workflow_id, receive_input),
                )
                for batch_id, association_id, number, workflow_id, receive_input, instances, size in rows
            ]

    def _select(self, connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> list[SpooledInstance]:
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM instance WHERE {where} ORDER BY received_ns, association_id, sequence",  # noqa: S608
            values,
        )
        return [self._instance(row) for row in rows]

    def _instance(self, row: tuple[str, int, int, int, str, str, str, str, str, int]) -> SpooledInstance:
        association_id, sequence, received_ns = row[:3]
        return SpooledInstance(
            association_id=association_id,
            sequence=sequence,
            received_ns=received_ns,
            bytes=row[3],
            path=self._associations / association_id / instance_name(sequence, received_ns),
            sop_class_uid=row[4],
            sop_instance_uid=row[5],
            transfer_syntax_uid=row[6],
            study_instance_uid=row[7],
            series_instance_uid=row[8],
            readable=bool(row[9]),
            node_id=self._node_id,
        )

    @staticmethod
    def _known_owner_id(connection: sqlite3.Connection, owner: Owner) -> int | None:
        row: tuple[int] | None = connection.execute(
            "SELECT owner_id FROM owner WHERE workflow_id = ? AND run_id = ? AND group_number = ?", _name(owner)
        ).fetchone()
        return row and row[0]

    @staticmethod
    def _owner_id(connection: sqlite3.Connection, owner: Owner, restart: str | None = None) -> int:
        connection.execute(
            "INSERT INTO owner (workflow_id, run_id, group_number, restart, since_ns) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET restart = COALESCE(excluded.restart, restart)",
            (*_name(owner), restart, time.time_ns()),
        )
        row: tuple[int] = connection.execute(
            "SELECT owner_id FROM owner WHERE workflow_id = ? AND run_id = ? AND group_number = ?", _name(owner)
        ).fetchone()
        return row[0]

    @staticmethod
    def _forget_end(connection: sqlite3.Connection, batches: str, values: tuple[object, ...]) -> None:
        """Whoever gets a batch again needs to hear again that its association is over."""
        connection.execute(
            "DELETE FROM told_end WHERE (association_id, workflow_id) IN"  # noqa: S608
            f" (SELECT association_id, workflow_id FROM batch WHERE {batches})",
            values,
        )


_BATCHES_OF: Final = (
    "SELECT batch_id FROM batch JOIN owner USING (owner_id)"
    " WHERE owner.workflow_id = ? AND run_id = ? AND group_number = ?"
)
_ITS_OR_ITS_SUBMISSION_S: Final = (
    "(owner_id = ?1 OR owner_id IN (SELECT to_owner FROM moved JOIN owner AS submission"
    " ON submission.owner_id = to_owner WHERE from_owner = ?1 AND submission.run_id = ''))"
)
"""Of a batch; only submissions own without a run id."""
_OF_SENDER: Final = f"""
    WITH mine AS (SELECT DISTINCT study_instance_uid FROM instance WHERE batch_id IN ({_BATCHES_OF}))
    SELECT DISTINCT batch.association_id, owner.workflow_id, owner.run_id, owner.group_number
    FROM batch LEFT JOIN owner USING (owner_id)
    WHERE json_extract(receive_input, '$.sender_key') = ? AND batch.workflow_id <> ?
        AND (owner_id IS NULL OR owner.workflow_id = batch.workflow_id)
        AND EXISTS (SELECT 1 FROM instance WHERE instance.batch_id = batch.batch_id AND NOT released
            AND study_instance_uid <> '' AND study_instance_uid IN (SELECT study_instance_uid FROM mine))
"""  # noqa: S608
_OUTSTANDING: Final = "batch_id IN (SELECT batch_id FROM batch WHERE workflow_id = ? AND owner_id IS NULL)"


def _name(owner: Owner) -> tuple[str, str, int]:
    return owner.workflow_id, owner.run_id, owner.group


def _totals(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> Totals:
    """Over instances that are not released."""
    row = connection.execute(
        f"SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM instance WHERE {where} AND NOT released",  # noqa: S608
        values,
    ).fetchone()
    return Totals(*row)
