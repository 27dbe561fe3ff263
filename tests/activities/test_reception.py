"""Claims, transfers and take-overs on real spools and records."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from support.spooling import batch, batched, facts, heads, store

from clara_dicom_adapter.activities.reception import ReceptionActivities
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.held import HeldGroups
from clara_dicom_adapter.records.receptions import ReceptionRecords
from clara_dicom_adapter.records.submissions import SubmissionRecords
from clara_dicom_adapter.spool import AssociationFolder, Spool, SpoolRole
from clara_dicom_adapter.spool.models import new_association_id
from clara_dicom_adapter.spool.node import SITE_KEY
from clara_dicom_adapter.workflows.group import Group
from clara_dicom_adapter.workflows.models import (
    AssociationOutcome,
    ClaimInput,
    HeldNode,
    HoldInput,
    MergeHeldInput,
    Owner,
    SubmissionInput,
    TakeOverInput,
    TransferInput,
)

SENDER = "0123456789abcdef"
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


class Hospital:
    """Associations of one sender with one study, each in the group of its own workflow."""

    def __init__(self, spool: Spool, engine: Engine) -> None:
        self.spool = spool
        self.activities = reception(spool, engine)
        (spool.root / SITE_KEY).write_text("00" * 32)

    def associate(self, first: int, last: int, outcome: AssociationOutcome) -> AssociationFolder:
        """One that stores the instances of these numbers, and ends."""
        folder = self.spool.begin_association(facts(new_association_id()))
        instances = heads(store(folder, last))[first - 1 :]
        made = batch(self.spool, folder, instances, owner_of(folder).workflow_id, f'{{"sender_key": "{SENDER}"}}')
        folder.end(outcome)
        request = ClaimInput(owner=owner_of(folder), node_id=self.spool.node_id, batch_ids=(made.batch_id,))
        assert self.activities.claim(request).instances == len(instances)
        return folder

    def hold(self, folder: AssociationFolder) -> None:
        nodes = (HeldNode(node_id=self.spool.node_id, instances=1, bytes=1),)
        self.activities.hold(
            HoldInput(owner=owner_of(folder), sender_key=SENDER, node_id=self.spool.node_id, nodes=nodes)
        )

    def takes(self, folder: AssociationFolder) -> list[Owner]:
        """Whose groups it takes over."""
        found = self.activities.merge_held(
            MergeHeldInput(
                owner=owner_of(folder),
                sender_key=SENDER,
                association_id=folder.association_id,
                node_id=self.spool.node_id,
            )
        )
        return [group.owner for group in found.groups]


def owner_of(folder: AssociationFolder) -> Owner:
    return Owner(workflow_id=f"receive-CLARA-{folder.association_id}", run_id="run", group=1)


@pytest.fixture
def hospital(tmp_path: Path, engine: Engine) -> Iterator[Hospital]:
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        yield Hospital(spool, engine)


def test_what_came_again_in_one_association_is_not_taken_over_by_another_one_of_the_sender(hospital: Hospital) -> None:
    """A sender stores each series in an association of its own: one breaks off, and comes again beside the next."""
    broken = hospital.associate(1, 2, AssociationOutcome.CONNECTION_LOST)
    hospital.hold(broken)
    next_series = hospital.associate(4, 5, AssociationOutcome.RELEASED)
    again = hospital.associate(1, 3, AssociationOutcome.RELEASED)
    assert hospital.takes(next_series) == []
    assert hospital.takes(again) == [owner_of(broken)]
    assert hospital.takes(next_series) == []


def test_what_came_again_where_nobody_looks_any_more_is_taken_over_by_who_does(hospital: Hospital) -> None:
    broken = hospital.associate(1, 2, AssociationOutcome.CONNECTION_LOST)
    hospital.hold(broken)
    broken_again = hospital.associate(1, 3, AssociationOutcome.CONNECTION_LOST)
    hospital.hold(broken_again)
    rest = hospital.associate(4, 5, AssociationOutcome.RELEASED)
    assert hospital.takes(rest) == [owner_of(broken), owner_of(broken_again)]


def test_what_did_not_come_again_is_taken_over_by_whatever_follows(hospital: Hospital) -> None:
    broken = hospital.associate(1, 2, AssociationOutcome.CONNECTION_LOST)
    hospital.hold(broken)
    assert hospital.takes(hospital.associate(4, 5, AssociationOutcome.RELEASED)) == [owner_of(broken)]
