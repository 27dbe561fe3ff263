"""What has been received in which group, and what became of the group."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Engine, func, select, tuple_, update

from clara_dicom_adapter.records.owners import StoredInstance, owner_id
from clara_dicom_adapter.records.submissions import opened
from clara_dicom_adapter.records.tables import AssociationRow, InstanceRow, ReceptionRow
from clara_dicom_adapter.records.texts import bounded
from clara_dicom_adapter.records.upsert import Clock, event, now, upsert
from clara_dicom_adapter.workflows.models import Owner, ReceptionState, SubmissionInput

_AT_ONCE = 500
_CLOSED = {ReceptionState.SUBMITTED, ReceptionState.DISCARDED, ReceptionState.MERGED}


class ReceptionRecords:
    """Written by activities of the ReceiveWorkflow; every call may be repeated."""

    def __init__(self, engine: Engine, clock: Clock = now) -> None:
        self._engine = engine
        self._clock = clock

    def claimed(self, owner: Owner, node_id: str, instances: Sequence[StoredInstance]) -> None:
        """The owner has claimed these on a node."""
        reception_id = owner_id(owner)
        with self._engine.begin() as connection:
            self._open(connection, owner, instances)
            upsert(connection, InstanceRow, [_row(each, node_id) for each in instances])
            _give(connection, instances, reception_id)
            _count(connection, reception_id)

    def state(self, owner: Owner, state: ReceptionState, *, incomplete: bool, reason: str) -> None:
        """The group is in this state now."""
        with self._engine.begin() as connection:
            self._open(connection, owner, ())
            self._change(connection, owner_id(owner), state, incomplete=incomplete, reason=reason)

    def transferred(self, owner: Owner, new_owner: Owner, node_id: str) -> None:
        """What the owner has on a node is the new owner's: another group's, or a submission's."""
        new_id = owner_id(new_owner)
        with self._engine.begin() as connection:
            if new_owner.run_id:
                self._open(connection, new_owner, ())
                connection.execute(
                    update(ReceptionRow)
                    .where(ReceptionRow.reception_id == owner_id(owner))
                    .values(merged_into=new_id, changed_at=self._clock())
                )
            _pass_on(connection, owner, new_owner, (node_id,))
            if new_owner.run_id:
                _count(connection, new_id)

    def submitted(self, owner: Owner, submission: SubmissionInput, node_ids: Sequence[str]) -> None:
        """The group has closed and goes to the platform as this submission, with what it has on these nodes."""
        reception_id = owner_id(owner)
        with self._engine.begin() as connection:
            _pass_on(connection, owner, submission.owner, node_ids)
            self._open(connection, owner, ())
            connection.execute(
                update(ReceptionRow)
                .where(ReceptionRow.reception_id == reception_id)
                .values(
                    submission_id=submission.submission_id,
                    called_ae_title=submission.ae.ae_title,
                    calling_ae_title=submission.calling_ae_title,
                    instances=submission.instances,
                    bytes=sum(node.bytes for node in submission.nodes),
                )
            )
            self._change(
                connection, reception_id, ReceptionState.SUBMITTED, incomplete=submission.incomplete, reason=""
            )
            opened(connection, submission, self._clock())

    def restored(self, submission: SubmissionInput, node_id: str, instances: Sequence[StoredInstance]) -> None:
        """A spool says that these are the submission's, whatever the records still knew of them."""
        mine = {"owner": submission.submission_id, "submission_id": submission.submission_id}
        with self._engine.begin() as connection:
            upsert(connection, InstanceRow, [{**_row(each, node_id), **mine} for each in instances], tuple(mine))
            opened(connection, submission, self._clock())

    def _open(self, connection: Connection, owner: Owner, instances: Sequence[StoredInstance]) -> None:
        """See to it that the group has its row, with the AE titles as soon as the association's are known."""
        at = self._clock()
        called, calling = _ae_titles(connection, instances)
        reception_id = owner_id(owner)
        row = {
            "reception_id": reception_id,
            "workflow_id": owner.workflow_id,
            "run_id": owner.run_id,
            "group_number": owner.group,
            "called_ae_title": called,
            "calling_ae_title": calling,
            "state": ReceptionState.RECEIVING.value,
            "instances": 0,
            "bytes": 0,
            "incomplete": False,
            "reason": "",
            "opened_at": _first(instances) or at,
            "changed_at": at,
            "closed_at": None,
            "submission_id": None,
            "merged_into": None,
        }
        upsert(connection, ReceptionRow, [row])
        _name(connection, ReceptionRow.reception_id == reception_id)

    def _change(
        self, connection: Connection, reception_id: str, state: ReceptionState, *, incomplete: bool, reason: str
    ) -> None:
        at = self._clock()
        changed = connection.execute(
            update(ReceptionRow)
            .where(ReceptionRow.reception_id == reception_id, ReceptionRow.state != state.value)
            .values(
                state=state.value, changed_at=at, closed_at=at if state in _CLOSED else None, reason=bounded(reason)
            )
        ).rowcount
        if incomplete:
            connection.execute(
                update(ReceptionRow).where(ReceptionRow.reception_id == reception_id).values(incomplete=True)
            )
        if changed:
            event(connection, at, kind="reception", subject=reception_id, what=state.value, text=reason)


def name_receptions(connection: Connection, association_ids: Sequence[str]) -> None:
    """Associations have just been recorded: groups that were opened before that get the AE titles from them."""
    _name(connection, AssociationRow.association_id.in_(association_ids))


def _name(connection: Connection, which: ColumnElement[bool]) -> None:
    """Give AE titles to groups that have none, if an association of theirs is known by now."""
    nameless = connection.execute(
        select(ReceptionRow.reception_id, AssociationRow.called_ae_title, AssociationRow.calling_ae_title)
        .join(InstanceRow, InstanceRow.reception_id == ReceptionRow.reception_id)
        .join(AssociationRow, AssociationRow.association_id == InstanceRow.association_id)
        .where(ReceptionRow.called_ae_title == "", which)
        .distinct()
    ).all()
    for reception_id, called, calling in nameless:
        connection.execute(
            update(ReceptionRow)
            .where(ReceptionRow.reception_id == reception_id)
            .values(called_ae_title=called, calling_ae_title=calling)
        )


def _row(instance: StoredInstance, node_id: str) -> dict[str, Any]:
    return {
        "association_id": instance.association_id,
        "sequence": instance.sequence,
        "node_id": node_id,
        "received_ns": instance.received_ns,
        "sop_class_uid": instance.sop_class_uid,
        "sop_instance_uid": instance.sop_instance_uid,
        "study_instance_uid": instance.study_instance_uid,
        "series_instance_uid": instance.series_instance_uid,
        "bytes": instance.bytes,
        "owner": None,
        "reception_id": None,
        "submission_id": None,
    }


def _give(connection: Connection, instances: Sequence[StoredInstance], reception_id: str) -> None:
    """Make them the group's, unless they have gone on to a submission: then this call is a late repetition."""
    for start in range(0, len(instances), _AT_ONCE):
        keys = [(each.association_id, each.sequence) for each in instances[start : start + _AT_ONCE]]
        these = tuple_(InstanceRow.association_id, InstanceRow.sequence).in_(keys)
        connection.execute(
            update(InstanceRow)
            .where(these, InstanceRow.submission_id.is_(None))
            .values(owner=reception_id, reception_id=func.coalesce(InstanceRow.reception_id, reception_id))
        )


def _pass_on(connection: Connection, owner: Owner, new_owner: Owner, node_ids: Sequence[str]) -> None:
    """Make what an owner has on some nodes another's; a submission is noted with the instances for good."""
    new_id = owner_id(new_owner)
    change: dict[str, Any] = {"owner": new_id} if new_owner.run_id else {"owner": new_id, "submission_id": new_id}
    for node_id in node_ids:
        connection.execute(
            update(InstanceRow)
            .where(InstanceRow.owner == owner_id(owner), InstanceRow.node_id == node_id)
            .values(change)
        )


def _count(connection: Connection, reception_id: str) -> None:
    """Set a group's totals to what it owns, while it owns anything."""
    totals = connection.execute(
        select(func.count(), func.coalesce(func.sum(InstanceRow.bytes), 0)).where(InstanceRow.owner == reception_id)
    ).one()
    if totals[0]:
        connection.execute(
            update(ReceptionRow)
            .where(ReceptionRow.reception_id == reception_id)
            .values(instances=totals[0], bytes=int(totals[1]))
        )


def _ae_titles(connection: Connection, instances: Sequence[StoredInstance]) -> tuple[str, str]:
    if not instances:
        return "", ""
    row = connection.execute(
        select(AssociationRow.called_ae_title, AssociationRow.calling_ae_title).where(
            AssociationRow.association_id == instances[0].association_id
        )
    ).first()
    return (row.called_ae_title, row.calling_ae_title) if row else ("", "")


def _first(instances: Sequence[StoredInstance]) -> datetime | None:
    earliest = min((each.received_ns for each in instances), default=None)
    return None if earliest is None else datetime.fromtimestamp(earliest / 1e9, UTC)
