"""Instances that were answered and have no name yet, because their listener died: listed, verified and copied."""

import os
import shutil
from pathlib import Path

import pytest
from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, STUDY, batch, facts, heads, let_go, store

from clara_dicom_adapter.spool import AssociationFolder, Spool, SpoolRole, StoredInstance, prepared, preparing, ways
from clara_dicom_adapter.spool.export import export
from clara_dicom_adapter.spool.in_place import InPlace
from clara_dicom_adapter.spool.in_segment import InSegment
from clara_dicom_adapter.spool.inventory import Inventory, Stage
from clara_dicom_adapter.spool.prepared import PREPARED
from clara_dicom_adapter.spool.sealed import SealedFiles
from clara_dicom_adapter.spool.segment import SEGMENT_BYTES, SEGMENTS
from clara_dicom_adapter.spool.verification import Verification, verify
from clara_dicom_adapter.workflows.models import Owner

SPACE = 3 * SEGMENT_BYTES
OWNER = Owner(workflow_id="receive-1", run_id="run", group=1)


@pytest.fixture(autouse=True, params=["in a prepared file", "in a segment"])
def sealed_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is tested here holds on all file systems, but for a power cut, and of both ways."""
    monkeypatch.setattr(preparing, "file_system", lambda _: "ext4")
    if request.param == "in a prepared file":
        monkeypatch.setattr(ways, "is_supported", lambda: False)
        monkeypatch.setattr(prepared, "_WORTHWHILE", 0)
    return str(request.param)


@pytest.fixture
def folder(spool: Spool) -> AssociationFolder:
    """An association with one instance that has its name, while there are prepared files and segments."""
    preparer = spool.preparer(SPACE, room=lambda: 10 * SPACE)
    preparer.start()
    while preparer.step():
        pass
    folder = spool.begin_association(facts())
    store(folder)
    return folder


UID = f"{STUDY}.1.77"
SOP_INSTANCE_UID = b"\x08\x00\x18\x00UI" + len(UID).to_bytes(2, "little") + UID.encode()


def answered(folder: AssociationFolder, sealed_in: str) -> tuple[StoredInstance, Path, int]:
    """One that its listener did not live to name, in which file it lies, and where in that."""
    incoming = folder.begin_instance(sop_class_uid=CT, sop_instance_uid=UID, transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN)
    incoming.write(SOP_INSTANCE_UID + b"\xe0\x7f\x10\x00OW\0\0" + (5000).to_bytes(4, "little") + b"z" * 5000)
    stored = incoming.commit()
    spool = folder.path.parents[1]
    if sealed_in == "in a prepared file":
        assert isinstance(incoming, InPlace)
        os.close(incoming._taken.descriptor)
        return stored, spool / PREPARED / incoming._taken.name, 0
    assert isinstance(incoming, InSegment)
    assert incoming._place is not None
    lies = Path(f"/proc/self/fd/{incoming._place.segment.descriptor}").readlink()
    let_go(incoming._segments)
    return stored, spool / SEGMENTS / lies.name, incoming._place.at


def verified(root: Path) -> Verification:
    with Inventory(root) as inventory:
        return verify(inventory)


def listed(root: Path) -> tuple[int, int]:
    """Instances and bytes of the one association."""
    with Inventory(root) as inventory:
        (one,) = inventory.associations()
        return one.instances, one.bytes


def test_it_is_seen_without_being_touched(
    spool: Spool, root: Path, folder: AssociationFolder, tmp_path: Path, sealed_in: str
) -> None:
    instances, size = listed(root)
    stored, lies, _ = answered(folder, sealed_in)
    before = lies.stat()
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
    assert SealedFiles(root).place().named == 1
    name = f"{folder.association_id}-{stored.sequence:08d}.dcm"
    for copies in ("all", "one", "association"):
        assert (tmp_path / copies / name).read_bytes() == stored.path.read_bytes()
    assert listed(root) == (instances + 1, size + stored.bytes)


def test_one_that_is_named_while_somebody_looks_is_seen_once(
    root: Path, folder: AssociationFolder, tmp_path: Path, sealed_in: str
) -> None:
    stored, *_ = answered(folder, sealed_in)
    with Inventory(root) as inventory:
        assert SealedFiles(root).place().named == 1
        (one,) = inventory.associations()
        assert one.instances == 2
        assert export(inventory, tmp_path / "all", None).instances == 2
        assert (verify(inventory).instances, verify(inventory).problems) == (2, [])
    assert (tmp_path / "all" / f"{folder.association_id}-{stored.sequence:08d}.dcm").stat().st_size == stored.bytes


def test_whose_it_is_is_shown_when_a_power_cut_has_taken_its_name_back(
    spool: Spool, root: Path, folder: AssociationFolder, sealed_in: str
) -> None:
    stored, lies, _ = answered(folder, sealed_in)
    before = lies.read_bytes()
    assert SealedFiles(root).place().named == 1
    spool.claim(OWNER, [batch(spool, folder, heads(spool.unindexed(folder))).batch_id])
    stored.path.unlink()
    lies.write_bytes(before)
    with Inventory(root) as inventory:
        (one,) = inventory.associations()
    assert (one.stages, one.owners) == ({Stage.OWNED: 2}, {"receive-1": 2})
    assert verified(root).problems == []


def test_what_was_never_answered_is_not_seen(
    root: Path, folder: AssociationFolder, tmp_path: Path, sealed_in: str
) -> None:
    """A power cut came within its flush."""
    before = listed(root)
    _, lies, at = answered(folder, sealed_in)
    with lies.open("rb+") as torn:
        torn.seek(at + 3000)
        torn.write(b"\0")
    assert listed(root) == before
    assert (verified(root).instances, verified(root).problems) == (1, [])
    with Inventory(root) as inventory:
        assert export(inventory, tmp_path / "all", None).instances == 1


def test_one_whose_association_is_gone_is_told(root: Path, folder: AssociationFolder, sealed_in: str) -> None:
    _, lies, _ = answered(folder, sealed_in)
    folder.close()
    shutil.rmtree(folder.path)
    (problem,) = verified(root).problems
    assert problem.path == str(lies.relative_to(root))
    assert "nobody knows whose" in problem.problem


def test_a_spool_that_is_taken_over_brings_it_along(
    spool: Spool, root: Path, folder: AssociationFolder, tmp_path: Path, sealed_in: str
) -> None:
    stored, *_ = answered(folder, sealed_in)
    folder.close()
    spool.close()
    with Spool.open(tmp_path / "other", SpoolRole.RECEIVER) as other:
        assert other.adopt(root).instances == 2
        (taken_over,) = other.associations()
        assert [one.bytes for one in taken_over.stored()][-1] == stored.bytes
        assert [one.sop_instance_uid for one in taken_over.stored()][-1] == UID
