"""Only what was released, left over or empty is deleted."""

from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, batched, facts, store

from clara_dicom_adapter.spool import InstanceKey, ReclaimTotals, Spool, SpoolUsage
from clara_dicom_adapter.workflows.models import AssociationOutcome, Owner

ONE = Owner(workflow_id="receive-1", run_id="run-1", group=1)


def test_accepted_instances_are_kept_whoever_owns_them_or_not(spool: Spool) -> None:
    folders = [spool.begin_association(facts()) for _ in range(4)]
    store(folders[0])  # not even indexed
    _, handed, claimed = (batched(spool, folder, 1) for folder in folders[1:])
    spool.handed_over([handed.batch_id])
    spool.claim(ONE, [claimed.batch_id])
    for folder in folders:
        folder.end(AssociationOutcome.RELEASED)
        spool.end_handed_over(folder.association_id, "receive-1")
    assert spool.reclaim() == ReclaimTotals()
    assert sum(len(folder.files()) for folder in spool.associations()) == 4


def test_released_instances_go_and_the_last_takes_its_association_along(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    batch = batched(spool, folder, 2)
    spool.claim(ONE, [batch.batch_id])
    spool.release(ONE, [InstanceKey(folder.association_id, 1)])
    assert spool.reclaim() == ReclaimTotals(instances=1, bytes=batch.bytes // 2)
    assert list(folder.files()) == [2]
    assert spool.unindexed(folder) == []
    spool.release(ONE)
    assert spool.reclaim().associations == 0, "it is still open"
    folder.end(AssociationOutcome.RELEASED)
    assert spool.reclaim().associations == 0, "a workflow has not been told of its end"
    spool.end_handed_over(folder.association_id, "receive-1")
    assert spool.reclaim() == ReclaimTotals(associations=1)
    assert list((spool.root / "associations").iterdir()) == []
    assert spool.ends_to_hand_over() == []
    assert spool.claim(ONE, [batch.batch_id]).refused == 1
    assert spool.reclaim() == ReclaimTotals()


def test_parts_of_an_open_association_are_kept_those_of_an_ended_one_are_not(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    incoming = folder.begin_instance(
        sop_class_uid=CT, sop_instance_uid="1.2.3", transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN
    )
    incoming.write(b"abc")
    assert spool.reclaim().parts == 0
    assert incoming.commit().path.exists()
    folder.end(AssociationOutcome.RELEASED)
    (folder.path / "00000002.part").write_bytes(b"left over")
    assert spool.reclaim() == ReclaimTotals(parts=1)


def test_an_association_that_stored_nothing_goes_when_it_has_ended(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    assert spool.reclaim() == ReclaimTotals()
    folder.end(AssociationOutcome.CONNECTION_LOST)
    assert spool.reclaim() == ReclaimTotals(associations=1)


def test_a_deletion_that_was_cut_off_is_finished(spool: Spool) -> None:
    """Killed after the files and before the rows, and between a folder's renaming and its removal."""
    folder = spool.begin_association(facts())
    spool.claim(ONE, [batched(spool, folder, 2).batch_id])
    spool.release(ONE)
    for path in folder.path.glob("*.dcm"):
        path.unlink()
    folder.end(AssociationOutcome.RELEASED)
    spool.end_handed_over(folder.association_id, "receive-1")
    gone = folder.path.with_name("0" * 32 + ".gone")
    gone.mkdir()
    (gone / "association.json").write_text("{}")
    assert spool.reclaim().associations == 1
    assert list((spool.root / "associations").iterdir()) == []


def test_usage_counts_what_is_there(spool: Spool) -> None:
    assert spool.usage() == SpoolUsage()
    folder = spool.begin_association(facts())
    handed, claimed = batched(spool, folder, 2), batched(spool, folder, 3)
    batched(spool, folder, 5)
    spool.handed_over([handed.batch_id])
    spool.claim(ONE, [claimed.batch_id])
    usage = spool.usage()
    assert (usage.instances, usage.unhanded, usage.unclaimed, usage.parked) == (10, 5, 7, 0)
    assert 0 < usage.oldest_seconds < 60
    spool.release(ONE)
    assert spool.usage().instances == 7
