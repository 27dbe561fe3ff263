"""What a person sees of a spool: every state of an association, everything that can be wrong, and copies."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import spooling

from clara_dicom_adapter.errors import SpoolUnusable
from clara_dicom_adapter.spool import AssociationFolder, Spool, SpoolRole
from clara_dicom_adapter.spool.export import export
from clara_dicom_adapter.spool.inventory import Inventory, ListedAssociation, Stage
from clara_dicom_adapter.spool.verification import verify
from clara_dicom_adapter.workflows.models import AssociationOutcome, Owner

OWNER = Owner(workflow_id="receive-1", run_id="run", group=1)


def begun(spool: Spool) -> AssociationFolder:
    return spool.begin_association(spooling.facts())


def listed(root: Path) -> list[ListedAssociation]:
    with Inventory(root) as inventory:
        return list(inventory.associations())


def wrong(root: Path) -> list[tuple[str, str]]:
    with Inventory(root) as inventory:
        return [(Path(each.path).name, each.problem) for each in verify(inventory).problems]


def contents(root: Path) -> dict[str, tuple[int, str]]:
    """Every file of a spool, but those in which SQLite keeps its own books."""
    return {
        str(path.relative_to(root)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal", ".lock"))
    }


def test_an_association_is_listed_at_each_of_its_stages(spool: Spool, root: Path) -> None:
    folder = begun(spool)
    spooling.store(folder, 2)
    (one,) = listed(root)
    assert (one.stage, one.instances, one.outcome) == (Stage.ARRIVING, 2, "")
    assert (one.calling_ae_title, one.called_ae_title, one.peer) == ("MODALITY", "CLARA", "192.0.2.7")
    assert one.bytes == sum(path.stat().st_size for path in folder.path.glob("*.dcm"))
    folder.end(AssociationOutcome.RELEASED)
    (one,) = listed(root)
    assert (one.stage, one.outcome) == (Stage.WAITING_TO_BE_TOLD, "released")
    stored = spool.unindexed(folder)
    batch = spooling.batch(spool, folder, spooling.heads(stored))
    assert [each.stage for each in listed(root)] == [Stage.WAITING_TO_BE_TOLD]
    spool.handed_over([batch.batch_id])
    assert [each.stage for each in listed(root)] == [Stage.WAITING_FOR_WORKFLOW]
    spool.claim(OWNER, [batch.batch_id])
    assert [(each.stage, each.owners) for each in listed(root)] == [(Stage.OWNED, {"receive-1": 2})]
    spool.release(OWNER, [stored[0].key])
    assert listed(root)[0].stages == {Stage.OWNED: 1, Stage.RELEASED: 1}
    spool.release(OWNER)
    assert [each.stage for each in listed(root)] == [Stage.RELEASED]
    spool.reclaim()
    assert all(each.stage is Stage.EMPTY for each in listed(root))


def damage_facts(folder: AssociationFolder) -> tuple[str, str]:
    (folder.path / "association.json").write_text("{")
    return "association.json", "cannot be read"


def remove_facts(folder: AssociationFolder) -> tuple[str, str]:
    (folder.path / "association.json").unlink()
    return "association.json", "is missing"


def cut_off(folder: AssociationFolder) -> tuple[str, str]:
    path = min(folder.path.glob("*.dcm"))
    os.truncate(path, path.stat().st_size - 1)
    return path.name, "bytes; the index says"


def no_dicom(folder: AssociationFolder) -> tuple[str, str]:
    path = min(folder.path.glob("*.dcm"))
    path.write_bytes(bytes(path.stat().st_size))
    return path.name, "no DICOM part 10 file"


def swap(folder: AssociationFolder) -> tuple[str, str]:
    first, second, *_ = sorted(folder.path.glob("*.dcm"))
    first.write_bytes(second.read_bytes())
    return first.name, "another SOP instance"


def lose(folder: AssociationFolder) -> tuple[str, str]:
    path = min(folder.path.glob("*.dcm"))
    path.unlink()
    return path.name.partition("-")[0], "its file is gone"


def make_unreadable(folder: AssociationFolder) -> tuple[str, str]:
    path = min(folder.path.glob("*.dcm"))
    path.unlink()
    path.mkdir()  # what reading says of it stands for a disk that fails, and root may read everything else
    return path.name, "cannot be read: Is a directory"


def add_unknown(folder: AssociationFolder) -> tuple[str, str]:
    a_minute_ago = time.time_ns() - 61 * 10**9
    path = folder.path / f"00000099-{a_minute_ago}.dcm"
    path.write_bytes(min(folder.path.glob("*.dcm")).read_bytes())
    return path.name, "is not in the index"


@pytest.mark.parametrize(
    "harm",
    [damage_facts, remove_facts, cut_off, no_dicom, swap, lose, make_unreadable, add_unknown],
)
def test_what_is_wrong_is_named(spool: Spool, root: Path, harm: Callable[[AssociationFolder], tuple[str, str]]) -> None:
    folder, whole = begun(spool), begun(spool)
    for each in (folder, whole):
        spooling.batched(spool, each, 3)
        each.end(AssociationOutcome.RELEASED)
    assert wrong(root) == []
    name, problem = harm(folder)
    ((found_name, found_problem),) = wrong(root)
    assert found_name == name
    assert problem in found_problem


def test_what_has_just_come_or_is_on_its_way_out_is_not_wrong(spool: Spool, root: Path) -> None:
    folder = begun(spool)
    batch = spooling.batched(spool, folder, 2)
    spool.claim(OWNER, [batch.batch_id])
    spool.release(OWNER)
    min(folder.path.glob("*.dcm")).unlink()
    spooling.store(folder, 1)
    with Inventory(root) as inventory:
        found = verify(inventory)
    assert (found.problems, found.on_their_way, found.instances) == ([], 1, 2)


def test_a_damaged_index_is_told_and_left_as_it_is(root: Path) -> None:
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        folder = begun(spool)
        spooling.batched(spool, folder, 1)
        folder.end(AssociationOutcome.RELEASED)
    (root / "ownership.db").write_bytes(b"no database" * 1000)
    before = contents(root)
    ((name, problem),) = wrong(root)
    assert name == "ownership.db"
    assert "file is not a database" in problem
    with Inventory(root) as inventory:
        assert [each.instances for each in inventory.associations()] == [1]
    (root / "ownership.db").unlink()
    assert wrong(root) == [("ownership.db", "ownership.db is missing")]
    del before["ownership.db"]
    assert contents(root) == before, "nothing was made anew or set aside"


def test_copies_are_exact_and_the_spool_stays_as_it_is(root: Path, tmp_path: Path) -> None:
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        known, unknown = begun(spool), begun(spool)
        spooling.batched(spool, known, 2)
        spooling.store(unknown, 1)
        before = contents(root)
        with Inventory(root) as inventory:  # while a receiver has the spool
            everything = export(inventory, tmp_path / "all", None)
            one = export(inventory, tmp_path / "one", [known.association_id])
        assert contents(root) == before
    before = contents(root)  # the index has taken in its log
    with Inventory(root) as inventory:  # and while nobody has
        study = export(inventory, tmp_path / "study", [spooling.STUDY, "1.2.3.4"])
        sop = export(inventory, tmp_path / "sop", [f"{spooling.STUDY}.1.2"])
    assert (everything.instances, one.instances, study.instances, sop.instances) == (3, 2, 2, 1)
    assert (study.unknown, one.unknown) == (["1.2.3.4"], [])
    assert contents(root) == before
    for folder in (known, unknown):
        for path in folder.path.glob("*.dcm"):
            copied = tmp_path / "all" / f"{folder.association_id}-{path.name.partition('-')[0]}.dcm"
            assert copied.read_bytes() == path.read_bytes()
    assert len(list((tmp_path / "all").iterdir())) == 3


def test_nothing_is_copied_over_something_or_into_the_spool(spool: Spool, root: Path, tmp_path: Path) -> None:
    spooling.store(begun(spool), 1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.dcm").touch()
    with Inventory(root) as inventory:
        with pytest.raises(SpoolUnusable, match="is not empty"):
            export(inventory, tmp_path / "full", None)
        with pytest.raises(SpoolUnusable, match="inside the spool"):
            export(inventory, root / "associations" / "copies", None)
    assert not (root / "associations" / "copies").exists()


def test_where_there_is_no_spool_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(SpoolUnusable, match="holds no spool"):
        Inventory(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
