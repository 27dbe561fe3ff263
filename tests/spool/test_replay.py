"""Small instances in segments whose listener has died: made into files, whole or not there, and never twice."""

import errno
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
from support.segments import answered, begin, die, fail, in_use, placed, settle
from support.spooling import batch, facts, heads

from clara_dicom_adapter.spool import AssociationFolder, Spool, SpoolRole, replay
from clara_dicom_adapter.spool.damaged import DAMAGED
from clara_dicom_adapter.spool.models import InstanceKey
from clara_dicom_adapter.spool.seal import PREAMBLE_BYTES, Seal
from clara_dicom_adapter.spool.sealed import SealedFiles
from clara_dicom_adapter.spool.segment import (
    PAGE,
    SEGMENTS,
    copies,
)
from clara_dicom_adapter.workflows.models import AssociationOutcome, Owner

OWNER = Owner(workflow_id="receive-1", run_id="run", group=1)


@pytest.mark.usefixtures("never_settles")
def test_what_was_answered_is_there_when_its_listener_has_died(root: Path, folder: AssociationFolder) -> None:
    several = [answered(folder, b"%03d" % number * 3000, number) for number in range(1, 9)]
    assert folder.files() == {}
    die(several[0])
    assert placed(root) == (8, frozenset())
    assert in_use(root) == []
    for number, stored in enumerate(folder.stored(), start=1):
        assert stored.sequence == number
        assert stored.path.read_bytes().endswith(b"%03d" % number * 3000)
    assert placed(root) == (0, frozenset())


@pytest.mark.usefixtures("never_settles")
def test_what_a_listener_still_has_is_left_to_it(root: Path, folder: AssociationFolder) -> None:
    incoming = answered(folder)
    assert placed(root) == (0, frozenset({folder.association_id}))
    settle(incoming)
    assert placed(root) == (0, frozenset()), "it has its name, and its segment is not looked into"
    assert len(in_use(root)) == 1


@pytest.mark.usefixtures("never_settles")
def test_a_file_that_a_power_cut_has_left_half_is_made_whole(root: Path, folder: AssociationFolder) -> None:
    incoming = answered(folder, b"x" * 9000)
    assert incoming._committed is not None
    path = incoming._committed.path
    path.write_bytes(b"")
    die(incoming)
    assert placed(root) == (1, frozenset())
    assert path.read_bytes().endswith(b"x" * 9000)


@pytest.mark.usefixtures("never_settles")
@pytest.mark.parametrize("torn", [PREAMBLE_BYTES + 5, 5000, 8191])
def test_one_that_is_torn_is_set_aside_and_those_behind_it_are_there(
    root: Path, folder: AssociationFolder, torn: int
) -> None:
    """A power cut came within the flush of one, while another association had its own."""
    first, second, third = (answered(folder, b"%d" % number * 9000, number) for number in (1, 2, 3))
    assert second._place is not None
    os.pwrite(second._place.segment.descriptor, b"\xff\xff\xff", second._place.at + torn)
    die(first)
    assert placed(root)[0] == 2
    assert sorted(folder.files()) == [1, 3]
    (aside,) = (root / DAMAGED).iterdir()
    assert aside.name.startswith(f"{folder.association_id}-00000002-")
    assert third._committed is not None
    assert in_use(root) == []


@pytest.mark.usefixtures("never_settles")
def test_one_without_a_seal_hides_none_that_lies_behind_it(root: Path, folder: AssociationFolder) -> None:
    first, second, _third = (answered(folder, b"%d" % number * 9000, number) for number in (1, 2, 3))
    assert second._place is not None
    os.pwrite(second._place.segment.descriptor, bytes(PAGE), second._place.at)
    die(first)
    placed(root)
    assert sorted(folder.files()) == [1, 3]


@pytest.mark.usefixtures("never_settles")
def test_what_an_earlier_lap_has_left_does_not_come_again(root: Path, folder: AssociationFolder) -> None:
    first = answered(folder, b"1" * 9000)
    die(first)
    assert placed(root)[0] == 1
    (stored,) = folder.stored()
    stored.path.unlink()
    with Spool.open(root, SpoolRole.TOOL) as other:
        again = other.begin_association(facts())
        second = answered(again, b"2")
        die(second)
    assert placed(root)[0] == 1
    assert (folder.files(), sorted(again.files())) == ({}, [1])


@pytest.mark.usefixtures("never_settles")
def test_a_sender_cannot_put_an_instance_into_another_association(root: Path, folder: AssociationFolder) -> None:
    """Its dataset has what looks like a copy, on every page."""
    forged = Seal(folder.association_id, 77, 1, PREAMBLE_BYTES + 3, 0).preamble().ljust(PAGE, b"\0")
    incoming = begin(folder)
    padding = PAGE - incoming.bytes % PAGE
    incoming.write(bytes(padding) + forged * 10)
    stored = incoming.commit()
    assert incoming._place is not None
    descriptor = incoming._place.segment.descriptor
    os.pwrite(descriptor, bytes(PAGE), incoming._place.at)  # torn, so that every page behind is looked at
    assert list(copies(descriptor, incoming._place.lap, fail)) == []
    assert os.pread(descriptor, stored.bytes, PAGE).count(forged) == 10
    die(incoming)
    assert placed(root)[0] == 0


@pytest.mark.usefixtures("never_settles")
def test_what_is_released_stays_until_it_cannot_come_back(spool: Spool, root: Path, folder: AssociationFolder) -> None:
    incoming = answered(folder)
    settle(incoming)
    spool.claim(OWNER, [batch(spool, folder, heads(list(folder.stored()))).batch_id])
    spool.release(OWNER)
    folder.end(AssociationOutcome.RELEASED)
    assert replay.in_segments(root) == {InstanceKey(folder.association_id, 1)}
    assert spool.reclaim().instances == 0
    assert len(folder.files()) == 1
    die(incoming)
    placed(root)
    assert replay.in_segments(root) == set()
    assert spool.reclaim().instances == 1


@pytest.mark.usefixtures("never_settles")
def test_a_head_that_is_damaged_is_set_aside(root: Path, folder: AssociationFolder) -> None:
    incoming = answered(folder)
    assert incoming._place is not None
    os.pwrite(incoming._place.segment.descriptor, b"?", 3)
    die(incoming)
    assert placed(root) == (0, frozenset())
    assert [path.name.startswith("segment-") for path in (root / DAMAGED).iterdir()] == [True]
    assert len(list((root / SEGMENTS).iterdir())) == 1


@pytest.mark.usefixtures("never_settles")
def test_what_belongs_to_no_association_is_set_aside(root: Path, folder: AssociationFolder) -> None:
    incoming = answered(folder, b"abc")
    die(incoming)
    shutil.rmtree(folder.path)
    placed(root)
    (aside,) = (root / DAMAGED).iterdir()
    assert aside.read_bytes().endswith(b"abc")
    assert in_use(root) == []


@pytest.mark.usefixtures("never_settles")
def test_a_copy_that_the_disk_refuses_to_name_keeps_its_segment_and_its_association(
    root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = answered(folder)
    die(incoming)

    with monkeypatch.context() as patch:
        patch.setattr(replay, "_place", partial(fail, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
        assert placed(root) == (0, frozenset({folder.association_id}))
    assert len(in_use(root)) == 1
    assert placed(root) == (1, frozenset())


class Refusing:
    """``os.pread`` of a disk that does not give back a page of a segment."""

    def __init__(self, name: str, at: int) -> None:
        self._name = name
        self._at = at
        self._real = os.pread

    def __call__(self, descriptor: int, count: int, at: int) -> bytes:
        if at == self._at and Path(f"/proc/self/fd/{descriptor}").readlink().name == self._name:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._real(descriptor, count, at)


@pytest.mark.usefixtures("never_settles")
@pytest.mark.parametrize("at", [0, 4 * PAGE], ids=["the head", "between others"])
def test_a_page_that_the_disk_does_not_give_back_keeps_nothing_else_back(
    root: Path, spool: Spool, folder: AssociationFolder, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = [answered(folder, b"%d" % number * 9000, number) for number in (1, 2, 3)]
    with Spool.open(root, SpoolRole.TOOL) as other:
        another = other.begin_association(facts())
        elsewhere = answered(another)  # in the other segment
        assert elsewhere._place is not None
        die(elsewhere)
    die(several[0])
    sealed = SealedFiles(root)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", Refusing("00", at))
        with pytest.raises(OSError, match="Input/output error"):
            replay.in_segments(root)
        assert len(list(replay.copies_without_file(root))) == (3 if at else 1)
        for _ in range(9):  # nobody knows whose instances have no file, so nothing may be ended or deleted
            with pytest.raises(OSError, match="Input/output error"):
                sealed.place()
            assert sorted(folder.files()) == ([1, 3] if at else [])
            assert sorted(another.files()) == [1]
        assert len(in_use(root)) == 1
        assert sealed.place() == (0, frozenset())
    assert [path.name.startswith("segment-") for path in (root / DAMAGED).iterdir()] == [True]
    assert spool.reclaim().instances == 0


@pytest.mark.usefixtures("never_settles")
def test_a_disk_that_refuses_a_segment_once_loses_nothing(
    root: Path, spool: Spool, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = answered(folder)
    die(incoming)
    folder.close()
    really = os.open

    def refuse(path: str | Path, *arguments: int, **names: int) -> int:
        if Path(path).parent.name == SEGMENTS:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return really(path, *arguments, **names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            spool.end_abandoned()
    assert folder.outcome is None
    assert spool.reclaim().associations == 0
    (ended,) = spool.end_abandoned()
    assert list(ended.files()) == [1]
    assert ended.outcome is not None
    assert ended.outcome.instances == 1


@pytest.mark.usefixtures("never_settles")
def test_a_bad_page_of_a_segment_that_a_listener_has_does_not_hold_up_everything_for_ever(
    root: Path, spool: Spool, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page behind all that was written, which only who looks through the segment reads."""
    incoming = answered(folder)
    sealed = SealedFiles(root)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", Refusing("00", 100 * PAGE))
        for _ in range(9):
            with pytest.raises(OSError, match="Input/output error"):
                sealed.place()
        assert sealed.place() == (0, frozenset({folder.association_id}))
    settle(incoming)
    assert sorted(folder.files()) == [1]
    assert not (root / DAMAGED).exists()
