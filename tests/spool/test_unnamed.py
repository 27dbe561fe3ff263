"""Instances that were answered and have no name yet, because their listener died: listed, verified and copied."""

import os
import shutil
from pathlib import Path

import pytest
from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, STUDY, batch, facts, heads, store

from clara_dicom_adapter.spool import AssociationFolder, Spool, SpoolRole, StoredInstance, preparing, sealed
from clara_dicom_adapter.spool.export import export
from clara_dicom_adapter.spool.in_place import InPlace
from clara_dicom_adapter.spool.inventory import Inventory, Stage
from clara_dicom_adapter.spool.prepared import PREPARED, SIZES, size_of
from clara_dicom_adapter.spool.verification import Verification, verify
from clara_dicom_adapter.workflows.models import Owner

SPACE = 4 * sum(SIZES)
OWNER = Owner(workflow_id="receive-1", run_id="run", group=1)


@pytest.fixture(autouse=True)
def any_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here holds on all of them, but for a power cut."""
    monkeypatch.setattr(preparing, "file_system", lambda _: "ext4")


@pytest.fixture
def folder(spool: Spool) -> AssociationFolder:
    """An association with one instance that has its name, while there are prepared files."""
    preparer = spool.preparer(SPACE, room=lambda: 10 * SPACE)
    preparer.start()
    while preparer.step():
        pass
    folder = spool.begin_association(facts())
    store(folder)
    return folder


UID = f"{STUDY}.1.77"
SOP_INSTANCE_UID = b"\x08\x00\x18\x00UI" + len(UID).to_bytes(2, "little") + UID.encode()


def answered(folder: AssociationFolder) -> tuple[StoredInstance, Path]:
    """One that its listener did not live to name, and where it lies."""
    incoming = folder.begin_instance(sop_class_uid=CT, sop_instance_uid=UID, transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN)
    incoming.write(SOP_INSTANCE_UID + b"\xe0\x7f\x10\x00OW\0\0" + (5000).to_bytes(4, "little") + b"z" * 5000)
    stored = incoming.commit()
    assert isinstance(incoming, InPlace)
    os.close(incoming._taken.descriptor)
    return stored, folder.path.parents[1] / PREPARED / incoming._taken.name


def verified(root: Path) -> Verification:
    with Inventory(root) as inventory:
        return verify(inventory)


def listed(root: Path) -> tuple[int, int]:
    """Instances and bytes of the one association."""
    with Inventory(root) as inventory:
        (one,) = inventory.associations()
        return one.instances, one.bytes


def test_it_is_seen_without_being_touched(spool: Spool, root: Path, folder: AssociationFolder, tmp_path: Path) -> None:
    instances, size = listed(root)
    stored, lies = answered(folder)
    before = lies.stat()
    assert before.st_size == size_of(lies.name)
    assert before.st_size > stored.bytes
    assert listed(root) == (instances + 1, size + stored.bytes)
    found = verified(root)
    assert (found.instances, found.bytes, found.on_their_way, found.problems) == (2, size + stored.bytes, 2, [])
    with Inventory(root) as inventory:
        everything = export(inventory, tmp_path / "all", None)
        by_uid = export(inventory, tmp_path / "one", [UID])
        of_association = export(inventory, tmp_path / "association", [folder.association_id])
    assert (everything.instances, by_uid.instances, of_association.instances) == (2, 1, 2)
    assert everything.bytes == size + stored.bytes
    assert (lies.stat().st_mtime_ns, lies.stat().st_size) == (before.st_mtime_ns, before.st_size)
    assert sealed.place_sealed(root).named == 1
    name = f"{folder.association_id}-{stored.sequence:08d}.dcm"
    for copies in ("all", "one", "association"):
        assert (tmp_path / copies / name).read_bytes() == stored.path.read_bytes()
    assert listed(root) == (instances + 1, size + stored.bytes)


def test_one_that_is_named_while_somebody_looks_is_seen_once(
    root: Path, folder: AssociationFolder, tmp_path: Path
) -> None:
    stored, lies = answered(folder)
    with Inventory(root) as inventory:
        assert sealed.place_sealed(root).named == 1
        assert not lies.exists()
        (one,) = inventory.associations()
        assert one.instances == 2
        assert export(inventory, tmp_path / "all", None).instances == 2
        assert (verify(inventory).instances, verify(inventory).problems) == (2, [])
    assert (tmp_path / "all" / f"{folder.association_id}-{stored.sequence:08d}.dcm").stat().st_size == stored.bytes


def test_whose_it_is_is_shown_when_a_power_cut_has_taken_its_name_back(
    spool: Spool, root: Path, folder: AssociationFolder
) -> None:
    stored, lies = answered(folder)
    assert sealed.place_sealed(root).named == 1
    spool.claim(OWNER, [batch(spool, folder, heads(spool.unindexed(folder))).batch_id])
    stored.path.rename(lies)
    os.truncate(lies, size_of(lies.name) or 0)
    with Inventory(root) as inventory:
        (one,) = inventory.associations()
    assert (one.stages, one.owners) == ({Stage.OWNED: 2}, {"receive-1": 2})
    assert verified(root).problems == []


def test_what_was_never_answered_is_not_seen(root: Path, folder: AssociationFolder, tmp_path: Path) -> None:
    """A power cut came within its flush."""
    before = listed(root)
    _, lies = answered(folder)
    with lies.open("rb+") as torn:
        torn.seek(3000)
        torn.write(b"\0")
    assert listed(root) == before
    assert (verified(root).instances, verified(root).problems) == (1, [])
    with Inventory(root) as inventory:
        assert export(inventory, tmp_path / "all", None).instances == 1


def test_one_whose_association_is_gone_is_told(root: Path, folder: AssociationFolder) -> None:
    _, lies = answered(folder)
    folder.close()
    shutil.rmtree(folder.path)
    (problem,) = verified(root).problems
    assert problem.path == f"{PREPARED}/{lies.name}"
    assert "nobody knows whose" in problem.problem


def test_a_spool_that_is_taken_over_brings_it_along(
    spool: Spool, root: Path, folder: AssociationFolder, tmp_path: Path
) -> None:
    stored, _ = answered(folder)
    folder.close()
    spool.close()
    with Spool.open(tmp_path / "other", SpoolRole.RECEIVER) as other:
        assert other.adopt(root).instances == 2
        (taken_over,) = other.associations()
        assert [one.bytes for one in taken_over.stored()][-1] == stored.bytes
        assert [one.sop_instance_uid for one in taken_over.stored()][-1] == UID
