"""Files of copies in segments: complete and durable before they have their names, each for itself."""

import os
import resource
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from support.segments import (
    answered,
    fail,
    in_use,
    make_segments,
    placed,
    refuse_to_flush,
    refuse_to_write,
    settle,
)
from support.site import wait_until
from support.spooling import facts

from clara_dicom_adapter.spool import Arrivals, AssociationFolder, Spool, filing, replay, settling
from clara_dicom_adapter.spool.durable import write_all
from clara_dicom_adapter.spool.filing import CopyAt, Filer, MakerGone
from clara_dicom_adapter.spool.in_segment import InSegment
from clara_dicom_adapter.spool.segment import PAGE

MANY = 12

pytestmark = pytest.mark.usefixtures("never_settles")


def several(folder: AssociationFolder, count: int = MANY) -> list[InSegment]:
    return [answered(folder, b"%d" % number, number) for number in range(1, count + 1)]


def test_one_flush_is_before_all_names(root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [each.copy_at for each in several(folder)]
    syncfs, seen = filing._syncfs, []

    def flush(descriptor: int) -> int:
        seen.append((len(folder.files()), len(list(folder.path.glob("*.part")))))
        return int(syncfs(descriptor))

    monkeypatch.setattr(filing, "_syncfs", flush)
    assert Filer(root, durable=True).make(wanted) == {}
    assert seen == [(0, MANY)]
    assert list(folder.files()) == list(range(1, MANY + 1))


def test_without_durability_nothing_is_flushed(
    root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = [each.copy_at for each in several(folder)]
    monkeypatch.setattr(filing, "_syncfs", refuse_to_flush)
    assert Filer(root, durable=False).make(wanted) == {}
    assert list(folder.files()) == list(range(1, MANY + 1))


def test_what_is_refused_keeps_no_other_back(root: Path, spool: Spool, folder: AssociationFolder) -> None:
    gone = spool.begin_association(facts())
    copies = [each.copy_at for each in (*several(folder, 3), answered(gone))]
    for path in gone.path.iterdir():
        path.unlink()
    gone.path.rmdir()
    segment = root / "segments" / copies[1].segment
    damaged = bytearray(segment.read_bytes())
    damaged[copies[1].at + 200] ^= 1
    segment.write_bytes(damaged)
    wanted = [
        *copies,
        copies[0]._replace(key=copies[0].key ^ 1),
        copies[0]._replace(at=copies[0].at + PAGE * 100),
        CopyAt("99", copies[0].key, PAGE),
    ]
    refused = Filer(root, durable=True).make(wanted)
    assert set(refused) == {1, 3, 4, 5, 6}
    assert refused[1] == refused[4] == refused[5] == "the segment does not hold the copy"
    assert list(folder.files()) == [1, 3]


def test_a_lap_that_is_over_gets_no_files(root: Path, folder: AssociationFolder) -> None:
    """What it held may have been used, released and deleted by then."""
    incoming = answered(folder)
    wanted = incoming.copy_at
    settle(incoming)
    (segment,) = incoming._segments.ready(0)
    incoming._segments.end(segment)
    (file,) = folder.path.glob("*.dcm")
    file.unlink()
    assert list(Filer(root, durable=True).make([wanted, wanted]).values()) == ["the segment is blank"] * 2
    assert list(folder.path.glob("[0-9]*")) == []


def test_nothing_is_written_between_a_flush_and_those_who_are_told_of_it(
    root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells of an error once: it may be about what the other one has written."""
    first, second = ([each.copy_at] for each in several(folder, 2))
    filer, refused = Filer(root, durable=True), dict[int, dict[int, str]]()
    other = threading.Thread(target=lambda: refused.update({2: filer.make(second)}), daemon=True)
    syncfs = filing._syncfs

    def fails_once(descriptor: int) -> int:
        monkeypatch.setattr(filing, "_syncfs", syncfs)
        other.start()
        wait_until("the other one waits", lambda: filer._lock.locked() and other.is_alive(), 30)
        assert [path.name[:8] for path in folder.path.glob("*.part")] == ["00000001"]
        return refuse_to_flush(descriptor)

    monkeypatch.setattr(filing, "_syncfs", fails_once)
    refused[1] = filer.make(first)
    other.join(30)
    assert refused == {1: {0: "Input/output error"}, 2: {}}
    assert list(folder.files()) == [2]
    assert filer.make(first) == {}


def test_a_full_disk_refuses_one_and_takes_it_later(folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = answered(folder)
    told: list[OSError | None] = []
    with monkeypatch.context() as patch:
        patch.setattr(filing, "write_all", refuse_to_write)
        incoming.name(told.append)
        incoming._settling.wait()
    assert [str(error) for error in told] == ["No space left on device"]
    settle(incoming)
    assert list(folder.files()) == [1]


# ---- here, or elsewhere ----


def arrivals(root: Path, asked: list[list[CopyAt]], refused: dict[int, str]) -> Arrivals:
    """What a listener sees of a spool, with somebody who makes its files."""

    def make(wanted: Sequence[CopyAt]) -> dict[int, str]:
        asked.append(list(wanted))
        assert Filer(root, durable=False).make([one for at, one in enumerate(wanted) if at not in refused]) == {}
        return refused

    return Arrivals(root, elsewhere=make)


def settle_all(receiving: Arrivals, instances: list[InSegment]) -> list[str | None]:
    """Have all of them named, and wait; why each has no name, if it has none."""
    told: dict[int, OSError | None] = {}
    for number, each in enumerate(instances):
        each.name(partial(told.__setitem__, number))
    receiving.settle()
    assert list(told) == list(range(len(instances)))
    return [None if error is None else str(error) for error in told.values()]


def test_few_files_are_made_here_and_many_elsewhere(root: Path, spool: Spool) -> None:
    make_segments(root, 1)
    asked: list[list[CopyAt]] = []
    receiving = arrivals(spool.root, asked, {3: "no space"})
    folder = receiving.begin_association(facts())
    assert settle_all(receiving, several(folder, settling.FEW)) == [None] * settling.FEW
    assert asked == []
    many = several(folder, settling.FEW + 1)
    wanted = [each.copy_at for each in many]
    assert settle_all(receiving, many) == [None] * 3 + ["no space"] + [None] * (settling.FEW - 3)
    assert asked == [wanted]
    assert list(folder.files()) == [number for number in range(1, 2 * settling.FEW + 2) if number != settling.FEW + 4]
    receiving.close()
    assert in_use(root), "one has no file"


@pytest.mark.parametrize("error", [MakerGone, MemoryError])
def test_who_makes_them_elsewhere_may_fail_altogether(root: Path, spool: Spool, error: type[Exception]) -> None:
    """It may still be at it, and its names come late: the segment is not blank before the recovery has looked."""
    make_segments(root, 1)
    receiving = Arrivals(spool.root, elsewhere=partial(fail, error()))
    folder = receiving.begin_association(facts())
    assert settle_all(receiving, several(folder)) == [None] * MANY, "made here"
    receiving.close()
    assert len(replay.in_segments(root)) == MANY
    assert placed(root) == (0, frozenset())
    assert replay.in_segments(root) == set()


def test_who_comes_next_is_served_when_files_cannot_even_be_tried(
    root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = several(folder, 2)
    told: list[OSError | None] = []
    with monkeypatch.context() as patch:
        patch.setattr(first._settling._filer, "make", partial(fail, MemoryError()))
        first.name(told.append)
        first._settling.wait()
    assert [str(error) for error in told] == ["MemoryError"]
    settle(second)
    assert list(folder.files()) == [2]
    assert in_use(root), "one has no file"


def test_names_that_may_not_be_durable_are_looked_after_by_the_receiver(
    root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second flush would say that all is well."""
    incoming = answered(folder)
    settle(incoming)
    ways = folder._ways
    assert ways is not None
    assert ways._small is not None
    ready = ways._small[0].ready(0)
    with monkeypatch.context() as patch:
        patch.setattr(filing, "_syncfs", refuse_to_flush)
        ways._small[1]._end(ready)
    assert len(in_use(root)) == 1
    assert ways._small[0].ready(0) == []
    assert placed(root) == (0, frozenset())
    assert in_use(root) == []


def test_names_in_other_segments_may_not_be_durable_either(
    root: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is not full when a flush of names fails is told of it then, and never again."""
    make_segments(root, 2, 3 * PAGE)
    folder = spool.begin_association(facts())
    for number in (1, 2):
        settle(answered(folder, number=number))
    third = answered(folder, number=3)
    ways = folder._ways
    assert ways is not None
    assert ways._small is not None
    segments, settling_ = ways._small
    (full,) = segments.ready(1000)
    with monkeypatch.context() as patch:
        patch.setattr(filing, "_syncfs", refuse_to_flush)
        settling_._end([full])
    settle(third)
    (other,) = segments.ready(0)
    settling_._end([other])
    assert len(in_use(root)) == 2
    assert placed(root) == (0, frozenset())


def test_what_is_asked_twice_at_the_same_time_is_whole_whoever_is_first(
    root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receiver's process is still at it while its listener, which has been told that it has gone, does it, too."""
    wanted = [answered(folder).copy_at]
    ours, theirs = Filer(root, durable=True), Filer(root, durable=True)
    opened, go_on = threading.Event(), threading.Event()
    thread = threading.Thread(target=theirs.make, args=(wanted,), daemon=True)
    pid = os.getpid()

    def slow(descriptor: int, data: bytes) -> None:
        if threading.current_thread() is thread:
            opened.set()
            assert go_on.wait(30)
        write_all(descriptor, data)

    monkeypatch.setattr(filing, "write_all", slow)
    monkeypatch.setattr(os, "getpid", lambda: pid + (threading.current_thread() is thread))
    thread.start()
    assert opened.wait(30)
    assert ours.make(wanted) == {}
    (file,) = folder.path.glob("*.dcm")
    content = file.read_bytes()
    assert content.endswith(b"abc")
    go_on.set()
    thread.join(30)
    assert file.read_bytes() == content
    assert list(folder.path.glob("*.part")) == []


def test_a_segment_in_hand_of_the_recovery_is_left_to_it(root: Path, folder: AssociationFolder) -> None:
    wanted = [answered(folder, number=number).copy_at for number in (1, 2)]
    in_hand = filing.SegmentsInHand()
    filer = Filer(root, durable=True, in_hand=in_hand)
    with in_hand.of(wanted[0].segment):
        assert filer.make(wanted) == dict.fromkeys((0, 1), "its listener has died")
    assert filer.make(wanted) == {}


def test_a_segment_that_is_refused_costs_one_descriptor_and_not_one_for_each_copy(
    root: Path, folder: AssociationFolder
) -> None:
    copy = answered(folder).copy_at
    (root / "segments" / copy.segment).write_bytes(bytes(PAGE))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 50, limits[1]))
    try:
        assert set(Filer(root, durable=True).make([copy] * 500).values()) == {"the segment is blank"}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
