"""Batches, claims, transfers and releases: an instance has at most one owner, and every question may be repeated."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.spooling import STUDY, batch, batched, facts, heads, store

from clara_dicom_adapter.errors import SpoolUnavailable
from clara_dicom_adapter.spool import InstanceHead, InstanceKey, Spool, SpoolRole, Target, Totals
from clara_dicom_adapter.workflows.models import AssociationOutcome, Owner

ONE = Owner(workflow_id="receive-1", run_id="run-1", group=1)
TWO = Owner(workflow_id="receive-1", run_id="run-2", group=1)
SUBMISSION = Owner(workflow_id="submission-1")


def test_a_batch_waits_to_be_handed_over_until_it_is(spool: Spool) -> None:
    batch = batched(spool, spool.begin_association(facts()), 3)
    (pending,) = spool.batches_to_hand_over()
    assert pending.ref == batch
    assert pending.target == Target("receive-1", "{}")
    assert (batch.number, batch.instances, batch.node_id) == (1, 3, spool.node_id)
    assert spool.unclaimed(0) == []
    spool.handed_over([batch.batch_id])
    spool.handed_over([batch.batch_id])
    assert spool.batches_to_hand_over() == []
    assert [each.ref for each in spool.unclaimed(0)] == [batch]
    assert spool.unclaimed(60) == []


def test_batches_that_temporal_forgot_are_handed_over_again_unless_claimed(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    lost, claimed = batched(spool, folder, 1), batched(spool, folder, 1)
    spool.handed_over([lost.batch_id, claimed.batch_id])
    spool.claim(ONE, [claimed.batch_id])
    assert spool.hand_over_again([lost.batch_id, claimed.batch_id]) == 1
    assert [each.ref for each in spool.batches_to_hand_over()] == [lost]


def test_an_instance_is_in_one_batch_only_whatever_is_repeated(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    first, second, third = heads(store(folder, 3))
    one, two = Target("receive-1", "{}"), Target("receive-2", "{}")
    made = spool.make_batches(folder, [(one, [first]), (two, [second])])
    assert [(pending.target, pending.ref.number, pending.ref.instances) for pending in made] == [
        (one, 1, 1),
        (two, 2, 1),
    ]
    assert [stored.key for stored in spool.unindexed(folder)] == [third.stored.key]
    (rest,) = spool.make_batches(folder, [(one, [first, second]), (two, [first, second, third])])
    assert (rest.target, rest.ref.number, rest.ref.instances) == (two, 3, 1)
    assert rest.ref.bytes == third.stored.bytes
    assert spool.make_batches(folder, [(one, [first, second, third]), (two, [])]) == []
    assert spool.batches_to_hand_over() == [*made, rest]
    assert spool.unindexed(folder) == []


def test_batches_that_are_cut_off_leave_nothing_in_the_index(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    first, second = heads(store(folder, 2))

    def cut_off() -> Iterator[tuple[Target, list[InstanceHead]]]:
        yield Target("receive-1", "{}"), [first]
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - one that says nothing
        spool.make_batches(folder, cut_off())
    assert spool.batches_to_hand_over() == []
    assert [stored.key for stored in spool.unindexed(folder)] == [first.stored.key, second.stored.key]


def test_a_claim_is_granted_once_and_says_the_same_when_it_is_repeated(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    first, second = batched(spool, folder, 2), batched(spool, folder, 1)
    claim = spool.claim(ONE, [first.batch_id])
    assert (claim.instances, claim.refused, claim.outstanding, claim.owned_instances) == (2, 0, 1, 2)
    assert claim.bytes == first.bytes
    assert spool.claim(ONE, [first.batch_id]) == claim
    assert spool.outstanding("receive-1") == 1
    other = spool.claim(TWO, [first.batch_id, second.batch_id, second.batch_id, "no such batch"])
    assert (other.instances, other.refused, other.outstanding, other.owned_instances) == (1, 2, 0, 1)
    assert len(spool.instances_of(ONE)) == 2
    assert spool.batches_to_hand_over() == [], "who claims has been told"


def test_an_empty_claim_tells_what_is_outstanding_and_makes_nobody_an_owner(spool: Spool) -> None:
    batched(spool, spool.begin_association(facts()), 2)
    assert spool.claim(ONE, []).outstanding == 2
    assert spool.owners() == []


def test_a_transfer_asked_for_again_gives_the_same_totals(spool: Spool) -> None:
    batch = batched(spool, spool.begin_association(facts()), 2)
    spool.claim(ONE, [batch.batch_id])
    totals = spool.transfer(ONE, SUBMISSION, '{"a": 1}')
    assert totals == Totals(2, batch.bytes)
    assert spool.transfer(ONE, SUBMISSION, '{"a": 1}') == totals
    assert spool.instances_of(ONE) == []
    (owner,) = spool.owners()
    assert (owner.owner, owner.instances, owner.restart) == (SUBMISSION, 2, '{"a": 1}')
    late = spool.claim(ONE.model_copy(update={"group": ONE.group + 1}), [batch.batch_id])
    assert (late.instances, late.refused) == (0, 1), "delivered again after its group has closed"


def test_instances_come_with_all_that_is_known_of_them(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    stored = store(folder, 2)
    spool.claim(ONE, [batch(spool, folder, heads(stored)).batch_id])
    found = spool.instances_of(ONE)
    assert [one.key for one in found] == [one.key for one in stored]
    assert [one.path for one in found] == [one.path for one in stored]
    assert all(one.path.exists() and one.bytes == one.path.stat().st_size for one in found)
    assert {(one.study_instance_uid, one.series_instance_uid, one.readable) for one in found} == {
        (STUDY, f"{STUDY}.1", True)
    }
    assert sorted(found, key=lambda one: one.order) == found


def test_releasing_some_keeps_the_others(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    batch = batched(spool, folder, 3)
    spool.claim(ONE, [batch.batch_id])
    key = InstanceKey(folder.association_id, 2)
    assert spool.release(TWO, [key]) == 0, "it is not theirs"
    assert spool.release(ONE, [key]) == 1
    assert spool.release(ONE, [key]) == 0
    assert [one.sequence for one in spool.instances_of(ONE)] == [1, 3]
    assert spool.release(ONE) == 2
    assert spool.owners() == []


def test_what_is_disowned_is_handed_over_again_without_what_was_released(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    batch = batched(spool, folder, 2)
    spool.claim(ONE, [batch.batch_id])
    spool.release(ONE, [InstanceKey(folder.association_id, 1)])
    folder.end(AssociationOutcome.RELEASED)
    spool.end_handed_over(folder.association_id, "receive-1")
    assert spool.ends_to_hand_over() == []
    assert spool.disown(TWO) == 0
    assert spool.disown(ONE) == 1
    assert spool.disown(ONE) == 0
    (pending,) = spool.batches_to_hand_over()
    assert (pending.ref.batch_id, pending.ref.instances) == (batch.batch_id, 1)
    assert len(spool.ends_to_hand_over()) == 1, "whoever gets the batch again needs the end again"
    assert spool.claim(TWO, [batch.batch_id]).instances == 1


def test_an_end_is_told_when_all_of_its_instances_are_in_batches(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    batched(spool, folder, 2, "receive-1")
    batched(spool, folder, 1, "receive-2")
    extra = store(folder)
    assert spool.ends_to_hand_over() == []
    folder.end(AssociationOutcome.ABORTED)
    assert spool.ends_to_hand_over() == [], "one instance is not indexed"
    batch(spool, folder, heads(extra), "receive-2")
    ends = {end.target.workflow_id: end.instances for end in spool.ends_to_hand_over()}
    assert ends == {"receive-1": 2, "receive-2": 2}
    spool.end_handed_over(folder.association_id, "receive-1")
    assert [end.target.workflow_id for end in spool.addressed(folder.association_id)] == ["receive-2"]


def test_studies_are_hashed_with_the_key_of_the_site(spool: Spool) -> None:
    spool.claim(ONE, [batched(spool, spool.begin_association(facts()), 2).batch_id])
    with pytest.raises(SpoolUnavailable):
        spool.studies(ONE)
    (spool.root / "site.key").write_text("aa" * 32)
    (first,) = spool.studies(ONE)
    assert STUDY not in first
    (spool.root / "site.key").write_text("bb" * 32)
    assert spool.studies(ONE) != {first}


CLAIM_ALL = """
import json, sys
from pathlib import Path
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.workflows.models import Owner
spool = Spool.open(Path(sys.argv[1]), SpoolRole.TOOL)
owner = Owner(workflow_id="receive-1", run_id=sys.argv[2], group=1)
print("ready", flush=True)
batches = json.loads(sys.stdin.readline())
print(sum(spool.claim(owner, [batch]).instances for batch in batches))
"""


def test_of_two_processes_that_claim_at_once_each_batch_goes_to_one(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    batches = [batched(spool, folder, 1).batch_id for _ in range(40)]
    others = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM_ALL, spool.root, run], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for run in ("run-1", "run-2")
    ]
    for other in others:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
    claimed = []
    for other, order in zip(others, (batches, batches[::-1]), strict=True):
        assert other.stdin is not None
        other.stdin.write(json.dumps(order) + "\n")
        other.stdin.flush()
    for other in others:
        with other:
            answer, _ = other.communicate(timeout=60)
            claimed.append(int(answer))
    assert sum(claimed) == 40
    assert claimed == [len(spool.instances_of(owner)) for owner in (ONE, TWO)]


def test_threads_share_a_spool(spool: Spool) -> None:
    problems: list[BaseException] = []

    def receive() -> None:
        try:
            folder = spool.begin_association(facts())
            for _ in range(5):
                spool.claim(ONE, [batched(spool, folder, 2).batch_id])
            folder.end(AssociationOutcome.RELEASED)
        except BaseException as error:
            problems.append(error)
            raise

    threads = [threading.Thread(target=receive) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    assert len(spool.instances_of(ONE)) == 60


def test_what_was_answered_survives_kill(tmp_path: Path) -> None:
    root = tmp_path / "spool"
    script = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from support.spooling import batched, facts
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.workflows.models import Owner
spool = Spool.open(Path(sys.argv[1]), SpoolRole.RECEIVER)
batch = batched(spool, spool.begin_association(facts()), 3)
spool.claim(Owner(workflow_id="receive-1", run_id="run-1", group=1), [batch.batch_id])
os.kill(os.getpid(), signal.SIGKILL)
"""
    tests = str(Path(__file__).parent.parent)
    assert subprocess.run([sys.executable, "-c", script, root, tests], timeout=60, check=False).returncode == -9
    with Spool.open(root, SpoolRole.WORKER) as spool:
        assert len(spool.instances_of(ONE)) == 3


def test_what_an_owner_has_transferred_to_its_submission_is_granted_to_it_once_more(spool: Spool) -> None:
    """Its workflow task was lost after the transfer: the workflow comes again, and has to come to the same end."""
    folder = spool.begin_association(facts())
    batch = batched(spool, folder, 3)
    receiver, late = (
        Owner(workflow_id="receive-1", run_id="r", group=1),
        Owner(workflow_id="receive-1", run_id="r2", group=1),
    )
    submission = Owner(workflow_id="submission-1")
    spool.claim(receiver, [batch.batch_id])
    spool.transfer(receiver, submission, "{}")
    again = spool.claim(receiver, [batch.batch_id])
    assert (again.instances, again.owned_instances, again.refused) == (3, 3, 0)
    assert spool.transfer(receiver, submission, "{}").instances == 3
    assert len(spool.instances_of(submission)) == 3
    assert spool.claim(late, [batch.batch_id]).refused == 1


def test_what_another_group_has_taken_over_is_not_granted_again(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    batch = batched(spool, folder, 2)
    first, second = Owner(workflow_id="receive-1", run_id="r"), Owner(workflow_id="receive-2", run_id="r")
    spool.claim(first, [batch.batch_id])
    spool.transfer(first, second, None)
    assert spool.claim(first, [batch.batch_id]).refused == 1
