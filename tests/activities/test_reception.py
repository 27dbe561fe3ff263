"""Claims, transfers and take-overs on real spools and records."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.spooling import batched, facts

from clara_dicom_adapter.activities.reception import ReceptionActivities
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.held import HeldGroups
from clara_dicom_adapter.records.receptions import ReceptionRecords
from clara_dicom_adapter.records.submissions import SubmissionRecords
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.workflows.group import Group
from clara_dicom_adapter.workflows.models import (
    AssociationOutcome,
    ClaimInput,
    Owner,
    SubmissionInput,
    TakeOverInput,
    TransferInput,
)

ONE, OTHER = (Owner(workflow_id=f"receive-{name}", run_id=f"run-{name}", group=1) for name in "ab")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine("", DataFolder(tmp_path))
    yield engine
    engine.dispose()


def reception(spool: Spool, engine: Engine) -> ReceptionActivities:
    return ReceptionActivities(spool, ReceptionRecords(engine), HeldGroups(engine), lambda *_: None)


def submission(group: Group) -> SubmissionInput:
    return SubmissionInput(
        submission_id="submission-1",
        ae=group.ae,
        calling_ae_title="CT1",
        nodes=tuple(group.nodes.values()),
        instances=group.instances,
        received_by=ONE.workflow_id,
    )


def test_a_group_that_waits_for_a_lost_node_keeps_every_instance_of_its_adopted_spool(
    tmp_path: Path, engine: Engine
) -> None:
    """Batches that carry the lost node's id are claimed in the spool that adopted it, and counted once."""
    group = Group(facts().ae, windowed=True)
    with Spool.open(tmp_path / "lost", SpoolRole.RECEIVER) as lost:
        folder = lost.begin_association(facts())
        early, late = batched(lost, folder, 3), batched(lost, folder, 2)
        folder.end(AssociationOutcome.RELEASED)
        request = ClaimInput(owner=ONE, node_id=lost.node_id, batch_ids=(early.batch_id,))
        group.claimed(lost.node_id, reception(lost, engine).claim(request))
        assert group.instances == 3
    with Spool.open(tmp_path / "spool", SpoolRole.TOOL) as tool:
        tool.adopt(tmp_path / "lost")
    with Spool.open(tmp_path / "spool", SpoolRole.WORKER) as spool:
        activities = reception(spool, engine)
        for node_id, batch in (
            (lost.node_id, late),
            (spool.node_id, batched(spool, spool.begin_association(facts()), 4)),
        ):
            request = ClaimInput(owner=ONE, node_id=node_id, batch_ids=(batch.batch_id,))
            group.claimed(node_id, activities.claim(request))
        assert {node.node_id: node.instances for node in group.nodes.values()} == {spool.node_id: 9}
        closed = submission(group)
        for node in closed.nodes:
            activities.transfer(TransferInput(owner=ONE, node_id=node.node_id, submission=closed))
        assert len(SubmissionRecords(engine).group(closed.owner)) == 9
        assert len(spool.instances_of(closed.owner)) == 9


def test_a_held_group_on_an_adopted_node_is_counted_once(tmp_path: Path, engine: Engine) -> None:
    group = Group(facts().ae, windowed=False)
    with Spool.open(tmp_path / "lost", SpoolRole.RECEIVER) as lost:
        folder = lost.begin_association(facts())
        reception(lost, engine).claim(
            ClaimInput(owner=ONE, node_id=lost.node_id, batch_ids=(batched(lost, folder, 3).batch_id,))
        )
        folder.end(AssociationOutcome.ABORTED)
    with Spool.open(tmp_path / "spool", SpoolRole.TOOL) as tool:
        tool.adopt(tmp_path / "lost")
    with Spool.open(tmp_path / "spool", SpoolRole.WORKER) as spool:
        activities = reception(spool, engine)
        batch = batched(spool, spool.begin_association(facts()), 2)
        request = ClaimInput(owner=OTHER, node_id=spool.node_id, batch_ids=(batch.batch_id,))
        group.claimed(spool.node_id, activities.claim(request))
        now = activities.take_over(TakeOverInput(owner=ONE, new_owner=OTHER, node_id=lost.node_id))
        group.owns(lost.node_id, now.instances, now.bytes, now.node_ids)
        assert group.instances == len(spool.instances_of(OTHER)) == 5
