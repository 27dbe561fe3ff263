"""Instances that came again too late to be merged: a group that had them was with its submission already."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from sqlalchemy import Engine, select

from clara_dicom_adapter.records.tables import InstanceRow, SubmissionRow


def came_too_late(engine: Engine, ae_title: str, uids: Collection[str], slack: timedelta) -> set[str]:
    """Of some SOP Instance UIDs those of which every further submission had only what came after the one before.

    Args:
        slack: How much earlier an instance may have come and still have been too late: it takes until its batch is
            made before anybody but the receiver knows of it.
    """
    copies: dict[str, dict[str, tuple[datetime, datetime]]] = {}
    query = (
        select(
            InstanceRow.sop_instance_uid,
            InstanceRow.received_ns,
            SubmissionRow.submission_id,
            SubmissionRow.created_at,
        )
        .join(SubmissionRow, SubmissionRow.submission_id == InstanceRow.submission_id)
        .where(SubmissionRow.called_ae_title == ae_title, InstanceRow.sop_instance_uid.in_(list(uids)))
    )
    with engine.connect() as connection:
        for uid, received_ns, submission_id, created_at in connection.execute(query):
            received = datetime.fromtimestamp(received_ns / 1e9, UTC)
            groups = copies.setdefault(uid, {})
            _, first = groups.get(submission_id, (created_at, received))
            groups[submission_id] = (created_at, min(first, received))
    return {uid for uid, groups in copies.items() if _each_after_the_one_before(list(groups.values()), slack)}


def _each_after_the_one_before(groups: list[tuple[datetime, datetime]], slack: timedelta) -> bool:
    groups.sort()
    return all(received + slack >= created for (created, _), (_, received) in pairwise(groups))
