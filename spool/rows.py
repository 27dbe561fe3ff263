"""Rows of ``ownership.db`` as objects, and the statements that several transactions of it share."""

import sqlite3
import time
from pathlib import Path
from typing import Final

from clara_dicom_adapter.spool.models import PendingBatch, SpooledInstance, Target, Totals, instance_name
from clara_dicom_adapter.workflows.models import BatchRef, Owner

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
BATCHES_OF: Final = (
    "SELECT batch_id FROM batch JOIN owner USING (owner_id)"
    " WHERE owner.workflow_id = ? AND run_id = ? AND group_number = ?"
)
"""Of an owner."""
ITS_OR_ITS_SUBMISSION_S: Final = (
    "(owner_id = ?1 OR owner_id IN (SELECT to_owner FROM moved JOIN owner AS submission"
    " ON submission.owner_id = to_owner WHERE from_owner = ?1 AND submission.run_id = ''))"
)
"""Of a batch; only submissions own without a run id."""
OF_SENDER: Final = f"""
    WITH mine AS (SELECT DISTINCT study_instance_uid FROM instance WHERE batch_id IN ({BATCHES_OF}))
    SELECT DISTINCT batch.association_id, owner.workflow_id, owner.run_id, owner.group_number
    FROM batch LEFT JOIN owner USING (owner_id)
    WHERE json_extract(receive_input, '$.sender_key') = ? AND batch.workflow_id <> ?
        AND (owner_id IS NULL OR owner.workflow_id = batch.workflow_id)
        AND EXISTS (SELECT 1 FROM instance WHERE instance.batch_id = batch.batch_id AND NOT released
            AND study_instance_uid <> '' AND study_instance_uid IN (SELECT study_instance_uid FROM mine))
"""  # noqa: S608
OUTSTANDING: Final = "batch_id IN (SELECT batch_id FROM batch WHERE workflow_id = ? AND owner_id IS NULL)"
"""Of an instance: addressed to a workflow, and claimed by nobody."""


class Rows:
    """Makes the objects of one spool."""

    def __init__(self, associations: Path, node_id: str) -> None:
        self._associations = associations
        self._node_id = node_id

    def pending(self, connection: sqlite3.Connection, condition: str, values: tuple[object, ...]) -> list[PendingBatch]:
        """Batches that nobody has claimed and of which a condition holds, oldest first; the last value limits them."""
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

    def instances(
        self, connection: sqlite3.Connection, where: str, values: tuple[object, ...]
    ) -> list[SpooledInstance]:
        """Instances of which a condition holds, in the order received."""
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


def name_of(owner: Owner) -> tuple[str, str, int]:
    """What an owner is found by, in the order of :data:`BATCHES_OF`."""
    return owner.workflow_id, owner.run_id, owner.group


def totals_of(connection: sqlite3.Connection, where: str, values: tuple[object, ...]) -> Totals:
    """Over instances that are not released."""
    row = connection.execute(
        f"SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM instance WHERE {where} AND NOT released",  # noqa: S608
        values,
    ).fetchone()
    return Totals(*row)


def known_id_of(connection: sqlite3.Connection, owner: Owner) -> int | None:
    """An owner's number; None when it never owned anything."""
    row: tuple[int] | None = connection.execute(
        "SELECT owner_id FROM owner WHERE workflow_id = ? AND run_id = ? AND group_number = ?", name_of(owner)
    ).fetchone()
    return row and row[0]


def id_of(connection: sqlite3.Connection, owner: Owner, restart: str | None = None) -> int:
    """An owner's number, entered if need be."""
    connection.execute(
        "INSERT INTO owner (workflow_id, run_id, group_number, restart, since_ns) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET restart = COALESCE(excluded.restart, restart)",
        (*name_of(owner), restart, time.time_ns()),
    )
    row: tuple[int] = connection.execute(
        "SELECT owner_id FROM owner WHERE workflow_id = ? AND run_id = ? AND group_number = ?", name_of(owner)
    ).fetchone()
    return row[0]


def forget_end(connection: sqlite3.Connection, batches: str, values: tuple[object, ...]) -> None:
    """Whoever gets a batch again needs to hear again that its association is over."""
    connection.execute(
        "DELETE FROM told_end WHERE (association_id, workflow_id) IN"  # noqa: S608
        f" (SELECT association_id, workflow_id FROM batch WHERE {batches})",
        values,
    )
