"""Index, batches and ownership: whose every instance is. Each method is one transaction, durable when it returns.

How it works: instances are indexed in batches; a batch is addressed to a workflow and claimed as a whole, by the first
who asks. From then on ownership moves from owner to owner until instances are released. Everything may be
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
)
from clara_dicom_adapter.spool.rows import (
    BATCHES_OF,
    ITS_OR_ITS_SUBMISSION_S,
    OF_SENDER,
    OUTSTANDING,
    Rows,
    forget_end,
    id_of,
    known_id_of,
    name_of,
    totals_of,
)
from clara_dicom_adapter.workflows.models import BatchRef, ClaimResult, Owner

PARKED_SECONDS: Final = 3600


class Ownership:
    """The transactions on ``ownership.db``."""

    def __init__(self, database: Database, associations: Path, node_id: str) -> None:
        self._database = database
        self._node_id = node_id
        self._rows = Rows(associations, node_id)

    # ---- index and batches ----

    def make_batches(
        self, association_id: str, addressed: Iterable[tuple[Target, Sequence[InstanceHead]]]
    ) -> list[PendingBatch]:
        """Enter instances of one association, in a batch for each target; those that are entered already are left out.

        A target of which all are left out gets no batch.
        """
        made: list[PendingBatch] = []
        with self._database.write() as connection:
            connection.execute("INSERT OR IGNORE INTO association (association_id) VALUES (?)", (association_id,))
            for target, heads in addressed:
                known = _known_among(connection, association_id, heads)
                new = [head for head in heads if head.stored.sequence not in known]
                if new:
                    made.append(PendingBatch(self._enter(connection, association_id, target, new), target))
        return made

    def _enter(
        self, connection: sqlite3.Connection, association_id: str, target: Target, heads: Sequence[InstanceHead]
    ) -> BatchRef:
        batch_id = uuid.uuid4().hex
        (number,) = connection.execute(
            "UPDATE association SET batches = batches + 1 WHERE association_id = ? RETURNING batches",
            (association_id,),
        ).fetchone()
        connection.execute(
            "INSERT INTO batch (batch_id, association_id, number, workflow_id, receive_input, instances, made_ns)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (batch_id, association_id, number, target.workflow_id, target.receive_input, len(heads), time.time_ns()),
        )
        connection.executemany(
            "INSERT INTO instance (association_id, sequence, received_ns, bytes, sop_class_uid, sop_instance_uid,"
            " transfer_syntax_uid, study_instance_uid, series_instance_uid, readable, batch_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
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
                    batch_id,
                )
                for head in heads
            ],
        )
        return BatchRef(
            batch_id=batch_id,
            node_id=self._node_id,
            association_id=association_id,
            number=number,
            instances=len(heads),
            bytes=sum(head.stored.bytes for head in heads),
        )

    def indexed(self, association_id: str) -> frozenset[int]:
        """The sequences of an association that the index knows."""
        with self._database.read() as connection:
            rows = connection.execute("SELECT sequence FROM instance WHERE association_id = ?", (association_id,))
            return frozenset(row[0] for row in rows)

    def batches_to_hand_over(self, limit: int) -> list[PendingBatch]:
        """Batches that Temporal has not accepted, oldest first."""
        with self._database.read() as connection:
            return self._rows.pending(connection, "handed_over_ns IS NULL", (limit,))

    def batches_to_hand_over_of(self, association_id: str) -> list[PendingBatch]:
        """Those of one association."""
        condition = "handed_over_ns IS NULL AND batch.association_id = ?"
        with self._database.read() as connection:
            return self._rows.pending(connection, condition, (association_id, -1))

    def unclaimed(self, older_than_seconds: float, limit: int) -> list[PendingBatch]:
        """Batches that Temporal accepted so long ago that somebody should have claimed them."""
        before = time.time_ns() - int(older_than_seconds * 1e9)
        with self._database.read() as connection:
            return self._rows.pending(connection, "handed_over_ns < ?", (before, limit))

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
                forget_end(connection, "batch_id = ?", (batch_id,))
            return changed

    # ---- ownership ----

    def claim(self, owner: Owner, batch_ids: Sequence[str]) -> ClaimResult:
        """Make batches the owner's, unless they are someone else's or gone.

        What the owner has transferred to its own submission is granted once more: the workflow that did so may have
        lost its memory of it, and has to come to the same submission again.
        """
        instances = size = refused = 0
        with self._database.write() as connection:
            owner_id = id_of(connection, owner) if batch_ids else known_id_of(connection, owner)
            for batch_id in dict.fromkeys(batch_ids):
                granted = connection.execute(
                    "UPDATE batch SET owner_id = COALESCE(owner_id, ?1),"  # noqa: S608
                    " handed_over_ns = COALESCE(handed_over_ns, ?2)"
                    f" WHERE batch_id = ?3 AND (owner_id IS NULL OR {ITS_OR_ITS_SUBMISSION_S})",
                    (owner_id, time.time_ns(), batch_id),
                ).rowcount
                totals = totals_of(connection, "batch_id = ?", (batch_id,)) if granted else Totals()
                instances += totals.instances
                size += totals.bytes
                refused += not totals.instances
            mine = f"batch_id IN (SELECT batch_id FROM batch WHERE {ITS_OR_ITS_SUBMISSION_S})"  # noqa: S608
            owned = totals_of(connection, mine, (owner_id,))
            outstanding = totals_of(connection, OUTSTANDING, (owner.workflow_id,)).instances
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
            return totals_of(connection, OUTSTANDING, (workflow_id,)).instances

    def transfer(self, owner: Owner, new_owner: Owner, restart: str | None) -> Totals:
        """Give all that ``owner`` owns to ``new_owner``; the totals include what an earlier attempt moved."""
        if owner == new_owner:
            raise ValueError("an owner cannot transfer to itself")
        with self._database.write() as connection:
            old, new = id_of(connection, owner), id_of(connection, new_owner, restart)
            moving = totals_of(connection, f"batch_id IN ({BATCHES_OF})", name_of(owner))
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
            found = [self._rows.instances(connection, "batch_id = ? AND NOT released", (each,)) for each in batch_ids]
        return sorted((one for batch in found for one in batch), key=lambda one: one.order)

    def instances_of(self, owner: Owner) -> list[SpooledInstance]:
        """What an owner owns and has not released, in the order received."""
        with self._database.read() as connection:
            return self._rows.instances(connection, f"batch_id IN ({BATCHES_OF}) AND NOT released", name_of(owner))

    def of_sender(self, owner: Owner, sender_key: str) -> list[tuple[str, Owner | None]]:
        """Other associations of a sender with a study of the owner's, that belong to their own workflow or nobody.

        Only those of AE titles without a window, for only they are addressed with a sender's key. Returns each
        association's id and its owner.
        """
        with self._database.read() as connection:
            rows = connection.execute(OF_SENDER, (*name_of(owner), sender_key, owner.workflow_id))
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
                f" AND batch_id IN ({BATCHES_OF}) LIMIT 1",
                (association_id, *name_of(owner)),
            ).fetchone()
            return row is not None

    def came_again_in(self, association_id: str, earlier: str) -> bool:
        """Whether the last instance of an earlier association is in another one, too."""
        with self._database.read() as connection:
            row = connection.execute(
                "SELECT 1 FROM instance WHERE association_id = ? AND sop_instance_uid = (SELECT sop_instance_uid"
                " FROM instance WHERE association_id = ? ORDER BY sequence DESC LIMIT 1) LIMIT 1",
                (association_id, earlier),
            ).fetchone()
            return row is not None

    def release(self, owner: Owner, only: Collection[InstanceKey] | None) -> int:
        """Let the reclaimer delete what an owner owns, or some of it; returns how many were not released before."""
        statement = f"UPDATE instance SET released = 1 WHERE batch_id IN ({BATCHES_OF}) AND NOT released"  # noqa: S608
        with self._database.write() as connection:
            if only is None:
                return connection.execute(statement, name_of(owner)).rowcount
            narrowed = statement + " AND association_id = ? AND sequence = ?"
            return connection.executemany(narrowed, [(*name_of(owner), *key) for key in only]).rowcount

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
            count = totals_of(connection, f"batch_id IN ({BATCHES_OF})", name_of(owner)).instances
            forget_end(connection, f"batch_id IN ({BATCHES_OF})", name_of(owner))
            connection.execute(
                f"UPDATE batch SET owner_id = NULL, handed_over_ns = NULL WHERE batch_id IN ({BATCHES_OF})"  # noqa: S608
                " AND EXISTS (SELECT 1 FROM instance WHERE instance.batch_id = batch.batch_id AND NOT released)",
                name_of(owner),
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


def _known_among(connection: sqlite3.Connection, association_id: str, heads: Sequence[InstanceHead]) -> frozenset[int]:
    """The sequences of an association that the index knows, as far as these may be among them."""
    sequences = [head.stored.sequence for head in heads]
    rows = connection.execute(
        "SELECT sequence FROM instance WHERE association_id = ? AND sequence BETWEEN ? AND ?",
        (association_id, min(sequences, default=0), max(sequences, default=0)),
    )
    return frozenset(row[0] for row in rows)
