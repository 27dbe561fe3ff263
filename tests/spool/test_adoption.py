"""A lost node's spool is taken over with all that is known of it, whatever happens on the way."""

import errno
import shutil
from pathlib import Path

import pytest
from support.spooling import batched, facts, store

from clara_dicom_adapter.errors import SpoolInUse, SpoolUnusable
from clara_dicom_adapter.spool import Adopted, Spool, SpoolRole, adoption
from clara_dicom_adapter.workflows.models import AssociationOutcome, Owner

ONE = Owner(workflow_id="receive-1", run_id="run-1", group=1)
SUBMISSION = Owner(workflow_id="submission-1")


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """A spool with, in this order: submitted, handed over, not indexed, and interrupted instances."""
    root = tmp_path / "lost"
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        folder = spool.begin_association(facts())
        spool.claim(ONE, [batched(spool, folder, 2).batch_id])
        spool.transfer(ONE, SUBMISSION, '{"restart": 1}')
        folder.end(AssociationOutcome.RELEASED)
        spool.end_handed_over(folder.association_id, "receive-1")
        folder = spool.begin_association(facts())
        spool.handed_over([batched(spool, folder, 3, "receive-2").batch_id])
        folder.end(AssociationOutcome.ABORTED)
        folder = spool.begin_association(facts())
        store(folder, 1)
        folder.end(AssociationOutcome.RELEASED)
        store(spool.begin_association(facts()), 1)
    return root


def assert_taken_over(spool: Spool, lost: Path) -> None:
    assert [len(folder.files()) for folder in spool.associations()] == [2, 3, 1, 1]
    submitted = spool.instances_of(SUBMISSION)
    assert len(submitted) == 2
    assert all(instance.path.exists() for instance in submitted)
    (owner,) = spool.owners()
    assert (owner.owner, owner.restart) == (SUBMISSION, '{"restart": 1}')
    (pending,) = spool.batches_to_hand_over()
    assert (pending.ref.instances, pending.ref.node_id, pending.target.workflow_id) == (3, spool.node_id, "receive-2")
    assert [len(spool.unindexed(folder)) for folder in spool.associations()] == [0, 0, 1, 1]
    outcomes = [folder.outcome.outcome for folder in spool.associations() if folder.outcome is not None]
    assert outcomes[2:] == [AssociationOutcome.RELEASED, AssociationOutcome.ADAPTER_STOPPED]
    assert [end.target.workflow_id for end in spool.ends_to_hand_over()] == ["receive-2"]
    assert list((lost / "associations").iterdir()) == []
    assert list((spool.root / "adopting").iterdir()) == []
    with pytest.raises(SpoolUnusable, match=f"taken over by node {spool.node_id}"):
        Spool.open(lost, SpoolRole.RECEIVER)


def test_everything_moves_and_keeps_its_owner(spool: Spool, lost: Path) -> None:
    adopted = spool.adopt(lost)
    assert (adopted.associations, adopted.instances) == (4, 7)
    assert_taken_over(spool, lost)
    assert spool.adopt(lost) == Adopted(adopted.node_id, 0, 0)
    spool.close()
    with Spool.open(spool.root, SpoolRole.WORKER) as again:
        assert again.node_ids == (spool.node_id, adopted.node_id)


def test_a_running_receiver_goes_on_while_a_tool_adopts(spool: Spool, lost: Path) -> None:
    folder = spool.begin_association(facts())
    with Spool.open(spool.root, SpoolRole.TOOL) as tool:
        tool.adopt(lost)
    assert len(store(folder, 1)) == 1
    assert len(list(spool.associations())) == 5


def test_a_spool_that_is_served_is_not_adopted(spool: Spool, lost: Path) -> None:
    for role in (SpoolRole.RECEIVER, SpoolRole.WORKER):
        with Spool.open(lost, role), pytest.raises(SpoolInUse):
            spool.adopt(lost)
    Spool.open(lost, SpoolRole.RECEIVER).close()


def test_only_a_spool_of_another_node_can_be_adopted(spool: Spool, lost: Path, tmp_path: Path) -> None:
    with pytest.raises(SpoolUnusable, match="holds no spool"):
        spool.adopt(tmp_path / "nothing")
    with pytest.raises(SpoolUnusable, match="not another spool"):
        spool.adopt(spool.root)
    shutil.copytree(spool.root, tmp_path / "copy")
    with pytest.raises(SpoolUnusable, match="copy of this spool"):
        spool.adopt(tmp_path / "copy")
    spool.adopt(lost)
    with Spool.open(tmp_path / "third", SpoolRole.TOOL) as third, pytest.raises(SpoolUnusable, match="taken over"):
        third.adopt(lost)


@pytest.mark.parametrize("cross_device", [False, True])
@pytest.mark.parametrize("step", ["_stage", "_enter", "sync_folder", "_delete", "rmtree"])
@pytest.mark.parametrize("call", [1, 2])
def test_what_was_cut_off_is_finished_by_doing_it_again(
    spool: Spool, lost: Path, step: str, call: int, cross_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cross_device:
        rename = Path.rename

        def refuse(self: Path, target: Path) -> Path:
            if self.is_relative_to(lost / "associations") and not target.is_relative_to(lost):
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            return rename(self, target)

        monkeypatch.setattr(Path, "rename", refuse)
    owner = shutil if step == "rmtree" else adoption
    original = getattr(owner, step)
    count = 0

    def cut(*arguments: object, **names: object) -> object:
        nonlocal count
        count += 1
        if count == call:
            raise KeyboardInterrupt
        return original(*arguments, **names)

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, cut)
        try:
            spool.adopt(lost)
        except KeyboardInterrupt:
            pass
        else:
            assert step == "rmtree", "only a copy leaves something to remove"
            assert not cross_device
    spool.adopt(lost)
    assert_taken_over(spool, lost)
