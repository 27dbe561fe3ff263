"""Interrupted groups that wait for their sender: each is merged exactly once, or expires exactly once."""

import json
from collections.abc import Collection, Sequence

from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, and_, select, update

from clara_dicom_adapter.records.tables import HeldGroupRow
from clara_dicom_adapter.records.upsert import Clock, now, upsert
from clara_dicom_adapter.workflows.models import HeldGroup, HeldNode, Owner

_HELD, _MERGED, _EXPIRED = "held", "merged", "expired"
_ANY = "g"
"""Greater than every id of an association, which is in hex."""


class HeldGroups:
    """The register of all nodes; every call may be repeated and then gives the same answer."""

    def __init__(self, engine: Engine, clock: Clock = now) -> None:
        self._engine = engine
        self._clock = clock

    def register(self, owner: Owner, sender_key: str, studies: frozenset[str], nodes: Sequence[HeldNode]) -> None:
        """The owner's group waits from now on; one that was merged or has expired stays so."""
        row = {
            "workflow_id": owner.workflow_id,
            "run_id": owner.run_id,
            "group_number": owner.group,
            "sender_key": sender_key,
            "studies": sorted(studies),
            "nodes": json.dumps([node.model_dump() for node in nodes]),
            "state": _HELD,
            "merged_workflow_id": None,
            "merged_run_id": None,
            "merged_group_number": None,
            "held_at": self._clock(),
        }
        with self._engine.begin() as connection:
            upsert(connection, HeldGroupRow, [row])

    def take(
        self,
        owner: Owner,
        sender_key: str,
        studies: frozenset[str],
        *,
        begun_until: str = _ANY,
        leave: Collection[Owner] = (),
    ) -> Sequence[HeldGroup]:
        """Make groups of the same sender with one of the same studies the owner's, and give all that are.

        Args:
            begun_until: The greatest id of an association whose group is taken.
            leave: Whose groups somebody else is to take.
        """
        with self._engine.begin() as connection:
            waiting = connection.execute(
                select(HeldGroupRow.__table__)
                .where(HeldGroupRow.sender_key == sender_key, HeldGroupRow.state == _HELD)
                .order_by(HeldGroupRow.held_at)
            ).mappings()
            for row in list(waiting):
                found = _owner(row)
                begun = found.workflow_id.rpartition("-")[2] <= begun_until
                if found != owner and found not in leave and begun and studies.intersection(row["studies"]):
                    _move(connection, found, _MERGED, owner)
            taken = connection.execute(
                select(HeldGroupRow.__table__)
                .where(
                    HeldGroupRow.merged_workflow_id == owner.workflow_id,
                    HeldGroupRow.merged_run_id == owner.run_id,
                    HeldGroupRow.merged_group_number == owner.group,
                )
                .order_by(HeldGroupRow.held_at)
            ).mappings()
            return [HeldGroup(owner=_owner(row), nodes=_nodes(row)) for row in taken]

    def knows(self, owner: Owner) -> bool:
        """Whether the owner's group waits, or has waited, for its sender."""
        with self._engine.connect() as connection:
            return connection.scalar(select(HeldGroupRow.state).where(_is(owner))) is not None

    def expire(self, owner: Owner) -> Owner | None:
        """End the owner's hold; who has taken the group over, or None when nobody had."""
        with self._engine.begin() as connection:
            _move(connection, owner, _EXPIRED, None)
            row = connection.execute(select(HeldGroupRow.__table__).where(_is(owner))).mappings().first()
        if row is None or row["state"] != _MERGED:
            return None
        return Owner(
            workflow_id=row["merged_workflow_id"], run_id=row["merged_run_id"], group=row["merged_group_number"]
        )


def _move(connection: Connection, held: Owner, state: str, into: Owner | None) -> None:
    # the condition is looked at again when a competing transaction was waited for: only one of them gets the group
    connection.execute(
        update(HeldGroupRow)
        .where(_is(held), HeldGroupRow.state == _HELD)
        .values(
            state=state,
            merged_workflow_id=into and into.workflow_id,
            merged_run_id=into and into.run_id,
            merged_group_number=into and into.group,
        )
    )


def _is(owner: Owner) -> ColumnElement[bool]:
    return and_(
        HeldGroupRow.workflow_id == owner.workflow_id,
        HeldGroupRow.run_id == owner.run_id,
        HeldGroupRow.group_number == owner.group,
    )


def _owner(row: RowMapping) -> Owner:
    return Owner(workflow_id=row["workflow_id"], run_id=row["run_id"], group=row["group_number"])


def _nodes(row: RowMapping) -> tuple[HeldNode, ...]:
    return tuple(HeldNode.model_validate(node) for node in json.loads(row["nodes"]))
