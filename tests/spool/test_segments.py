"""Small instances in segments: durable with one flush for all who wait, and in files of their own behind the reply."""

import errno
import fcntl
import os
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.segments import (
    answered,
    begin,
    die,
    fail,
    in_use,
    make_segments,
    placed,
    refuse_to_flush,
    refuse_to_write,
    settle,
)
from support.site import wait_until
from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, STUDY, facts, have_named, store

from clara_dicom_adapter.dicom import part10
from clara_dicom_adapter.spool import (
    AssociationFolder,
    Spool,
    SpoolRole,
    filing,
    replay,
    segments,
    settling,
)
from clara_dicom_adapter.spool.incoming import NewFile
from clara_dicom_adapter.spool.models import InstanceKey
from clara_dicom_adapter.spool.open_segment import OpenSegment
from clara_dicom_adapter.spool.seal import PREAMBLE_BYTES, Seal, seal_of
from clara_dicom_adapter.spool.segment import (
    MOST_BYTES,
    PAGE,
    SEGMENT_BYTES,
    SEGMENTS,
    begin_lap,
    content,
    copies,
    end_lap,
    read_lap,
)
from clara_dicom_adapter.workflows.models import AssociationOutcome

lengths = st.lists(st.integers(0, 9000) | st.sampled_from([4096, MOST_BYTES]), max_size=6)


@settings(max_examples=25, deadline=None)
@given(writes=lengths)
def test_the_bytes_are_there_however_they_come(tmp_path_factory: pytest.TempPathFactory, writes: list[int]) -> None:
    """In a segment, or in a file once there are too many of them."""
    with Spool.open(tmp_path_factory.mktemp("spool"), SpoolRole.RECEIVER) as spool:
        make_segments(spool.root, 1, 40 * PAGE)
        incoming = begin(spool.begin_association(facts()))
        sent = b""
        for number, length in enumerate(writes):
            buffer = bytearray(random.Random(number).randbytes(length))
            sent += buffer
            incoming.write(memoryview(buffer))
            buffer[:] = b"\xee" * length  # the receiver receives the next bytes into it
        stored = incoming.commit()
        small = stored.bytes <= MOST_BYTES
        assert (incoming.path is None) == small
        have_named(incoming)
        found = stored.path.read_bytes()
        assert len(found) == stored.bytes
        assert found[part10.read_meta(stored.path).dataset_offset :] == sent
        seal = seal_of(stored.path)
        assert (seal is not None) == small
        if seal is not None:
            with stored.path.open("rb") as stream:
                assert seal.agrees_with(stream)


@pytest.mark.usefixtures("never_settles")
def test_a_segment_is_used_again_when_its_files_are_durable_under_their_names(
    root: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_segments(root, 1, 5 * PAGE)
    folder = spool.begin_association(facts())
    flushed: list[set[int]] = []
    ended: list[set[int]] = []
    syncfs, end = filing._syncfs, OpenSegment.end

    def flush(descriptor: int) -> int:
        found = int(syncfs(descriptor))
        flushed.append(set(folder.files()))
        return found

    def ends(segment: OpenSegment) -> bool:
        held = {copy.instance.sequence for copy in copies(segment.descriptor, segment.lap, fail)}
        assert held <= flushed[-1], "every name was made before the last flush"
        ended.append(held)
        return end(segment)

    monkeypatch.setattr(filing, "_syncfs", flush)
    monkeypatch.setattr(OpenSegment, "end", ends)
    laps = [set(range(first, first + 4)) for first in (1, 5, 9)]
    for lap in laps:
        several = [answered(folder, b"%d" % number, number) for number in sorted(lap)]
        in_it = several[0]._segments
        assert in_it.ready(0) == [], "none has its file"
        for incoming in several:
            settle(incoming)
        several[0]._settling._end(in_it.ready(0))
        assert in_use(root) == []
    assert ended == laps
    assert sorted(folder.files()) == list(range(1, 13))


@pytest.mark.usefixtures("never_settles")
def test_a_small_instance_gets_a_file_of_its_own_when_no_segment_has_room(root: Path, spool: Spool) -> None:
    make_segments(root, 1, 3 * PAGE)
    folder = spool.begin_association(facts())
    several = [answered(folder, b"%d" % number, number) for number in (1, 2, 3)]
    assert [each._place is not None for each in several] == [True, True, False]
    assert isinstance(several[2]._other, NewFile)
    assert list(folder.files()) == [3]
    die(several[0])
    placed(root)
    assert list(folder.files()) == [1, 2, 3]


@pytest.mark.usefixtures("never_settles")
def test_one_flush_serves_all_who_wait_and_nobody_returns_before_it(
    root: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_segments(root, 1)
    folders = [spool.begin_association(facts()) for _ in range(8)]
    flush, flushing, go_on = os.fdatasync, threading.Event(), threading.Event()
    flushes: list[int] = []

    def held_up(descriptor: int) -> None:
        flushes.append(descriptor)
        if len(flushes) == 1:
            flushing.set()
            assert go_on.wait(30)
        flush(descriptor)

    monkeypatch.setattr(os, "fdatasync", held_up)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(answered, folders[0])
        assert flushing.wait(30)
        others = [threads.submit(answered, folder) for folder in folders[1:]]
        ways = folders[0]._ways
        assert ways is not None
        assert ways._small is not None
        current = ways._small[0]._current
        assert current is not None
        wait_until("all have written", lambda: current._written == 8, 30)
        assert not any(each.done() for each in (first, *others))
        go_on.set()
        assert [each.result()._committed is not None for each in (first, *others)] == [True] * 8
    assert len(flushes) == 2, "the first one's, and one for the seven that came meanwhile"


@pytest.mark.usefixtures("never_settles")
@pytest.mark.parametrize("call", ["fdatasync", "pwritev"])
def test_what_the_disk_refuses_is_not_durable_and_takes_no_other_with_it(
    root: Path, folder: AssociationFolder, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answered(folder, b"1")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, partial(fail, OSError(errno.EIO, os.strerror(errno.EIO))))
        failing = begin(folder, 2)
        failing.write(b"2")
        with pytest.raises(OSError, match="Input/output error"):
            failing.commit()
        failing.discard()
    third = answered(folder, b"3", 3)
    assert third._place is not None
    assert first._place is not None
    assert third._place.segment is not first._place.segment, "a flush that failed may not be told of twice"
    die(first)
    placed(root)
    assert sorted(folder.files()) == [1, 3]


def test_what_could_not_be_named_is_named_by_the_receiver(
    root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(settling, "_IDLE_SECONDS", 0.05)
    incoming = answered(folder)
    with monkeypatch.context() as patch:
        patch.setattr(filing, "_syncfs", refuse_to_flush)
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                have_named(incoming)
    assert list(folder.path.glob("[0-9]*")) == []
    incoming.discard()
    folder.end(AssociationOutcome.RELEASED)
    wait_until("its listener lets go of the segment, in which nothing else waits", lambda: placed(root)[0] == 1, 30)
    assert sorted(folder.files()) == [1]
    assert in_use(root) == []


def test_a_clock_that_is_set_back_does_not_put_an_instance_before_its_lap(
    folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = answered(folder)
    assert first._place is not None
    lap = first._place.lap
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: 1)
        second = answered(folder, number=2)
    assert second._committed is not None
    assert second._committed.received_ns == lap.begun_ns


@pytest.fixture
def blank(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "segment").write_bytes(bytes(4 * PAGE))
    descriptor = os.open(tmp_path / "segment", os.O_RDWR)
    yield descriptor
    os.close(descriptor)


def test_a_lap_is_read_as_it_was_begun_until_it_is_ended(blank: int) -> None:
    assert read_lap(blank) is None
    lap = begin_lap(blank)
    assert read_lap(blank) == lap
    seal = Seal("0" * 32, 1, 2, PREAMBLE_BYTES + 3, 4)
    os.pwrite(blank, seal.preamble(lap.key) + b"abc", 2 * PAGE)
    (copy,) = copies(blank, lap, fail)
    assert (copy.at, copy.seal) == (2 * PAGE, seal)
    assert content(blank, copy) == seal.preamble() + b"abc"
    end_lap(blank, lap)
    assert read_lap(blank) is None
    assert begin_lap(blank).key != lap.key


def test_an_idle_segment_is_emptied(root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(settling, "_IDLE_SECONDS", 0.05)
    store(folder)
    wait_until("it is empty", lambda: not in_use(root), 30)


def test_listeners_do_not_share_a_segment(root: Path, folder: AssociationFolder) -> None:
    ours = segments.Segments(root, durable=True)
    theirs = segments.Segments(root, durable=True)
    mine, yours = ours.take(1), theirs.take(1)
    assert mine is not None
    assert yours is not None
    assert theirs.take(SEGMENT_BYTES) is None, "there are only two"
    inodes = {os.fstat(place.segment.descriptor).st_ino for place in (mine, yours)}
    assert len(inodes) == 2
    ours.close()
    theirs.close()


def test_who_stops_in_order_leaves_nothing_behind(root: Path, spool: Spool, folder: AssociationFolder) -> None:
    told: list[OSError | None] = []
    answered(folder).name(told.append)
    spool.close()
    assert told == [None]
    assert in_use(root) == []


def test_one_that_is_being_made_is_nobody_s(root: Path, spool: Spool) -> None:
    """Its maker may take it away again."""
    make_segments(root, 1)
    (root / SEGMENTS / "00").rename(root / SEGMENTS / "00.new")
    incoming = spool.begin_association(facts()).begin_instance(
        sop_class_uid=CT, sop_instance_uid=STUDY, transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN
    )
    assert isinstance(incoming, NewFile)
    assert segments.Segments(root, durable=True).take(1) is None


@pytest.mark.usefixtures("never_settles")
def test_a_segment_whose_end_the_disk_refuses_shows_its_lap(
    root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what it holds might be deleted, and come back from it."""
    incoming = answered(folder)
    settle(incoming)
    (segment,) = incoming._segments.ready(0)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", partial(fail, OSError(errno.EIO, os.strerror(errno.EIO))))
        incoming._segments.end(segment)
    assert replay.in_segments(root) == {InstanceKey(folder.association_id, 1)}
    assert placed(root) == (0, frozenset())
    assert replay.in_segments(root) == set()


@pytest.mark.usefixtures("never_settles")
def test_a_segment_of_which_the_disk_has_refused_a_part_is_not_used_again(
    root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    incoming = answered(folder)
    assert incoming._place is not None
    incoming._place.segment._error = OSError(errno.EIO, "as told before")
    settle(incoming)
    answered(folder, number=2)  # in the other one
    (segment,) = incoming._segments.ready(1000)
    incoming._segments.end(segment)
    assert [path.name for path in (root / SEGMENTS).iterdir()] == ["01"]


@pytest.mark.usefixtures("never_settles")
def test_a_segment_with_somebody_in_it_stays_open(folder: AssociationFolder) -> None:
    incoming = answered(folder)
    assert incoming._place is not None
    incoming._segments.close()
    os.fstat(incoming._place.segment.descriptor)
    let_go_of = incoming._place.segment.descriptor
    assert incoming._segments.take(1) is None
    os.close(let_go_of)


def test_segments_that_are_not_wanted_any_more_are_removed_unless_they_hold_something(
    root: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "_PAUSE_SECONDS", 1000.0)
    make_segments(root, 3)
    (root / SEGMENTS / "02").rename(root / SEGMENTS / "02.new")
    incoming = answered(spool.begin_association(facts()))
    die(incoming)
    spool.preparer(0, room=lambda: 1 << 40).start()
    assert [path.name for path in (root / SEGMENTS).iterdir()] == ["00"]
    assert placed(root)[0] == 1


@pytest.mark.parametrize(
    ("release", "supported"), [("5.7.19", False), ("5.8.0-1-amd64", True), ("6.12+deb13", True), ("odd", False)]
)
def test_an_older_kernel_does_without(release: str, supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "node", release, "version", "x86_64")))
    assert filing.is_supported() == supported


def test_a_segment_that_was_replaced_while_it_was_opened_is_nobody_s(
    root: Path, spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_segments(root, 1)

    def replaced(descriptor: int, _how: int) -> None:
        (root / SEGMENTS / "00").unlink()
        make_segments(root, 1)
        assert os.fstat(descriptor).st_nlink == 0

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", replaced)
        assert segments.Segments(root, durable=True).take(1) is None
        with pytest.raises(FileNotFoundError), replay._opened(root / SEGMENTS / "00", os.O_RDWR):
            pass


def test_what_could_not_even_be_written_to_a_file_is_left_to_the_receiver_although_nothing_else_comes(
    root: Path, folder: AssociationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk; the first instance of a listener, and the only one for long."""
    monkeypatch.setattr(settling, "_IDLE_SECONDS", 0.05)
    incoming = begin(folder)
    incoming.write(b"abc")
    incoming.commit()
    with monkeypatch.context() as patch:
        patch.setattr(filing, "write_all", refuse_to_write)
        with pytest.raises(OSError, match="No space left"):
            have_named(incoming)
    incoming.discard()
    folder.end(AssociationOutcome.RELEASED)
    wait_until("its listener lets go of the segment", lambda: placed(root)[0] == 1, 30)
    assert sorted(folder.files()) == [1]
