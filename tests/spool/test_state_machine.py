"""Random histories of one spool, with restarts in between, against a model of who owns what."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from support.spooling import facts, heads, store

from clara_dicom_adapter.spool import AssociationFolder, InstanceKey, Spool, SpoolRole, Target
from clara_dicom_adapter.workflows.models import AssociationOutcome, BatchRef, Owner

OWNERS = [Owner(workflow_id="receive", run_id=run, group=1) for run in "ab"] + [Owner(workflow_id="submission")]


class SpoolHistory(RuleBasedStateMachine):
    """``model`` holds every instance that was stored and not released, with its batch; ``claimed`` whose a batch is."""

    folders = Bundle("folders")
    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.spool = Spool.open(self.root, SpoolRole.RECEIVER, durable=False)
        self.model: dict[InstanceKey, str | None] = {}
        self.claimed: dict[str, Owner] = {}

    def teardown(self) -> None:
        self.spool.close()
        shutil.rmtree(self.root)

    def of(self, owner: Owner) -> set[InstanceKey]:
        return {key for key, batch in self.model.items() if batch is not None and self.claimed.get(batch) == owner}

    @rule(target=folders)
    def begin(self) -> AssociationFolder:
        return self.spool.begin_association(facts())

    @rule(folder=folders, count=st.integers(1, 3))
    def receive(self, folder: AssociationFolder, count: int) -> None:
        if folder.receiving:
            self.model.update(dict.fromkeys((one.key for one in store(folder, count)), None))

    @rule(target=batches, folder=folders)
    def batch(self, folder: AssociationFolder) -> BatchRef | None:
        if not folder.path.exists():
            return None
        unindexed = self.spool.unindexed(folder)
        mine = {
            key for key, batch in self.model.items() if batch is None and key.association_id == folder.association_id
        }
        assert {one.key for one in unindexed} == mine
        made = self.spool.make_batches(folder, [(Target("receive", "{}"), heads(unindexed))])
        assert len(made) == bool(mine)
        if not made:
            return None
        self.model.update(dict.fromkeys(mine, made[0].ref.batch_id))
        return made[0].ref

    @rule(batch=batches, owner=st.sampled_from(OWNERS[:2]))
    def claim(self, batch: BatchRef | None, owner: Owner) -> None:
        if batch is None:
            return
        there = sum(each == batch.batch_id for each in self.model.values())
        free = self.claimed.get(batch.batch_id, owner) == owner
        answer = self.spool.claim(owner, [batch.batch_id])
        assert (answer.instances, answer.refused) == ((there, 0) if free and there else (0, 1))
        if free:
            self.claimed[batch.batch_id] = owner
        assert answer.owned_instances == len(self.of(owner))

    @rule(owner=st.sampled_from(OWNERS), new_owner=st.sampled_from(OWNERS))
    def transfer(self, owner: Owner, new_owner: Owner) -> None:
        if owner == new_owner:
            return
        self.spool.transfer(owner, new_owner, None)
        self.claimed.update({batch: new_owner for batch, who in self.claimed.items() if who == owner})

    @rule(owner=st.sampled_from(OWNERS), keep=st.integers(0, 2))
    def release(self, owner: Owner, keep: int) -> None:
        going = sorted(self.of(owner))[keep:]
        assert self.spool.release(owner, going) == len(going)
        for key in going:
            del self.model[key]

    @rule(owner=st.sampled_from(OWNERS))
    def disown(self, owner: Owner) -> None:
        left = {self.model[key] for key in self.of(owner)}
        assert self.spool.disown(owner) == len(self.of(owner))
        for batch in left:
            del self.claimed[str(batch)]

    @rule(folder=consumes(folders))
    def end(self, folder: AssociationFolder) -> None:
        if folder.receiving:
            folder.end(AssociationOutcome.RELEASED)
        self.spool.end_handed_over(folder.association_id, "receive")

    @rule()
    def reclaim(self) -> None:
        self.spool.reclaim()

    @rule(forget=st.booleans())
    def restart(self, forget: bool) -> None:
        """``forget``: the index is lost, and with it all ownership; what was released and not deleted comes back."""
        if forget:
            self.spool.reclaim()
        self.spool.close()
        if forget:
            for path in self.root.glob("ownership.db*"):
                path.unlink()
            self.model = dict.fromkeys(self.model, None)
            self.claimed.clear()
        self.spool = Spool.open(self.root, SpoolRole.RECEIVER, durable=False)
        self.spool.end_abandoned()

    @invariant()
    def nothing_accepted_is_lost_or_owned_twice(self) -> None:
        on_disk = {
            InstanceKey(folder.association_id, sequence)
            for folder in self.spool.associations()
            for sequence in folder.files()
        }
        assert set(self.model) <= on_disk
        owned = [one.key for owner in OWNERS for one in self.spool.instances_of(owner)]
        assert len(owned) == len(set(owned))
        for owner in OWNERS:
            assert {one.key for one in self.spool.instances_of(owner)} == self.of(owner)
        unclaimed = sum(each.ref.instances for each in self.spool.batches_to_hand_over())
        assert unclaimed == sum(batch is not None and batch not in self.claimed for batch in self.model.values())


TestSpoolHistory = SpoolHistory.TestCase
TestSpoolHistory.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
