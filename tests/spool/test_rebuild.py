"""Files alone are enough: the index is rebuilt from them, and what is damaged is never taken for more than it is."""

import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, STUDY, batch, batched, facts, heads, store

from clara_dicom_adapter.errors import SpoolUnavailable, SpoolUnusable
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.workflows.models import AssociationOutcome, Owner

ONE = Owner(workflow_id="receive-1", run_id="run-1", group=1)


def filled(root: Path) -> str:
    """A spool with three instances that are claimed, of an association that has ended."""
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        folder = spool.begin_association(facts())
        spool.claim(ONE, [batched(spool, folder, 3).batch_id])
        folder.failed_instances = 1
        folder.end(AssociationOutcome.ABORTED)
        return folder.association_id


def test_all_that_the_receiver_knew_is_in_the_files(root: Path) -> None:
    association_id = filled(root)
    for path in root.glob("ownership.db*"):
        path.unlink()
    with capture_logs() as logs, Spool.open(root, SpoolRole.RECEIVER) as spool:
        assert [line["event"] for line in logs] == ["ownership_missing"]
        (folder,) = spool.associations()
        assert folder.facts.calling_ae_title == "MODALITY"
        assert folder.outcome is not None
        outcome = folder.outcome
        assert (outcome.outcome, outcome.instances, outcome.failed_instances) == (AssociationOutcome.ABORTED, 3, 1)
        found = spool.unindexed(folder)
        assert [(one.key, one.sop_class_uid, one.transfer_syntax_uid) for one in found] == [
            ((association_id, sequence), CT, EXPLICIT_LITTLE_ENDIAN) for sequence in (1, 2, 3)
        ]
        assert [one.sop_instance_uid for one in found] == [f"{STUDY}.1.{number}" for number in (1, 2, 3)]
        assert outcome.bytes == sum(one.bytes for one in found)
        made = batch(spool, folder, heads(found))
        assert [pending.ref for pending in spool.batches_to_hand_over()] == [made]


@pytest.mark.parametrize("damage", [b"not a database at all", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_index_is_set_aside_and_made_anew(root: Path, damage: bytes) -> None:
    filled(root)
    for path in root.glob("ownership.db-*"):
        path.unlink()
    (root / "ownership.db").write_bytes(damage)
    with capture_logs() as logs, Spool.open(root, SpoolRole.RECEIVER) as spool:
        assert [(line["event"], line["log_level"]) for line in logs] == [("ownership_damaged", "error")]
        (folder,) = spool.associations()
        assert len(spool.unindexed(folder)) == 3
    (aside,) = root.glob("ownership.db.damaged-*")
    assert aside.read_bytes() == damage


def test_a_damaged_index_is_left_alone_while_others_use_it(root: Path) -> None:
    filled(root)
    with Spool.open(root, SpoolRole.WORKER):
        for path in root.glob("ownership.db*"):
            path.unlink()
        with pytest.raises(SpoolUnusable, match="stop them first"):
            Spool.open(root, SpoolRole.RECEIVER)
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        assert len(spool.unindexed(next(spool.associations()))) == 3


def test_an_index_of_a_newer_version_is_not_touched(root: Path) -> None:
    filled(root)
    connection = sqlite3.connect(root / "ownership.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SpoolUnusable, match="newer version"):
        Spool.open(root, SpoolRole.RECEIVER)
    assert list(root.glob("*.damaged-*")) == []


def test_a_closed_spool_says_so(root: Path) -> None:
    spool = Spool.open(root, SpoolRole.RECEIVER)
    spool.close()
    spool.close()
    with pytest.raises(SpoolUnavailable, match="closed"):
        spool.usage()


def test_a_damaged_instance_and_damaged_facts_are_left_where_they_are(root: Path) -> None:
    association_id = filled(root)
    folder = root / "associations" / association_id
    first = min(folder.glob("*.dcm"))
    first.write_bytes(b"zeros after a power cut")
    other = root / "associations" / ("f" * 32)
    other.mkdir()
    (other / "association.json").write_text("{")
    for path in root.glob("ownership.db*"):
        path.unlink()
    with Spool.open(root, SpoolRole.RECEIVER) as spool, capture_logs() as logs:
        (found,) = spool.associations()
        assert [one.sequence for one in spool.unindexed(found)] == [2, 3]
        assert {line["event"] for line in logs} == {"stored_instance_damaged", "association_unusable"}
        spool.end_abandoned()
        spool.reclaim()
    assert first.exists()
    assert other.exists()


def test_only_associations_of_the_dead_are_ended(spool: Spool) -> None:
    live = spool.begin_association(facts())
    store(live)
    unbegun = spool.root / "associations" / ("0" * 32)
    unbegun.mkdir()
    (unbegun / "association.json.part").write_text("{")
    torn = spool.root / "associations" / ("1" * 32)
    torn.mkdir()
    (torn / "association.json").write_bytes(b"")
    assert spool.end_abandoned() == []
    spool.remove_unbegun()
    assert not unbegun.exists()
    assert not torn.exists(), "a power cut came before its first instance"
    assert live.outcome is None
    assert spool.association(live.association_id).receiving
    live.end(AssociationOutcome.RELEASED)
    live.end(AssociationOutcome.CONNECTION_LOST)
    assert live.outcome is not None
    assert live.outcome.outcome is AssociationOutcome.RELEASED
    assert not spool.association(live.association_id).receiving
    with Spool.open(spool.root, SpoolRole.WORKER) as worker, pytest.raises(ValueError, match="receiver"):
        worker.end_abandoned()


def test_an_outcome_that_could_not_be_written_is_written_later_as_it_was(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spool.begin_association(facts())
    store(folder, 2)

    def full(*_arguments: object, **_names: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("clara_dicom_adapter.spool.association.write_file", full)
        with pytest.raises(OSError, match="No space"):
            folder.end(AssociationOutcome.CONNECTION_LOST)
    assert spool.end_abandoned() == []
    with pytest.raises(OSError, match="over"):
        store(folder)
    folder.end(AssociationOutcome.ADAPTER_STOPPED)
    assert folder.outcome is not None
    assert (folder.outcome.outcome, folder.outcome.instances) == (AssociationOutcome.CONNECTION_LOST, 2)
    assert not folder.receiving
