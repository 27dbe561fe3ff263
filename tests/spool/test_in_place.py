"""Instances in prepared files: durable with one flush, whole or not there whatever happens, and named afterwards."""

import errno
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, STUDY, facts, have_named, store

from clara_dicom_adapter.dicom import part10
from clara_dicom_adapter.spool import IncomingInstance, Spool, SpoolRole, damaged, preparing, sealed, ways
from clara_dicom_adapter.spool import prepared as prepared_files
from clara_dicom_adapter.spool.association import AssociationFolder
from clara_dicom_adapter.spool.damaged import DAMAGED
from clara_dicom_adapter.spool.in_place import InPlace
from clara_dicom_adapter.spool.incoming import NewFile
from clara_dicom_adapter.spool.inventory import Inventory
from clara_dicom_adapter.spool.prepared import PREPARED, SIZES, size_of
from clara_dicom_adapter.spool.replay import Placed
from clara_dicom_adapter.spool.seal import Seal, seal_of
from clara_dicom_adapter.spool.verification import verify
from clara_dicom_adapter.workflows.models import AssociationOutcome

CHILD = Path(__file__).with_name("store_one.py")
USUAL = 576 << 10
MEGABYTES = 20_000_000


def prepare(spool: Spool, space: int = MEGABYTES) -> None:
    """All that fit into so many bytes."""
    preparer = spool.preparer(space, room=lambda: 10 * space)
    preparer.start()
    while preparer.step():
        pass


@pytest.fixture(autouse=True)
def any_file_system_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tested here holds on all of them, but for a power cut, and for instances however small."""
    monkeypatch.setattr(preparing, "file_system", lambda _: "ext4")
    monkeypatch.setattr(ways, "is_supported", lambda: False)
    monkeypatch.setattr(prepared_files, "_WORTHWHILE", 0)


@pytest.fixture
def prepared(spool: Spool) -> Path:
    """Files are prepared; gives their folder."""
    prepare(spool)
    return spool.root / PREPARED


def begin(folder: AssociationFolder, sop_class_uid: str = CT) -> IncomingInstance:
    return folder.begin_instance(
        sop_class_uid=sop_class_uid, sop_instance_uid=f"{STUDY}.1.1", transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN
    )


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


lengths = st.lists(st.integers(0, 9000) | st.sampled_from([4096, 8192, 130_000]), max_size=6)


@settings(max_examples=40, deadline=None)
@given(writes=st.lists(lengths, max_size=5), repeat=st.sampled_from([1, 1, 600]))
def test_the_bytes_are_there_however_they_come(
    tmp_path_factory: pytest.TempPathFactory, writes: list[list[int]], repeat: int
) -> None:
    with Spool.open(tmp_path_factory.mktemp("spool"), SpoolRole.RECEIVER) as spool:
        prepare(spool, 2 * USUAL)
        incoming = begin(spool.begin_association(facts()))
        assert isinstance(incoming, InPlace)
        sent = b""
        for number, several in enumerate(writes):
            some = [Random(number).randbytes(length) for length in several]
            sent += b"".join(some) * repeat
            buffer = bytearray(b"".join(some))  # as the receiver's, which the next bytes are received into
            views, at = [], 0
            for fragment in some:
                views.append(memoryview(buffer)[at : at + len(fragment)])
                at += len(fragment)
            incoming.write(*views * repeat)
            buffer[:] = b"\xee" * len(buffer)
        stored = incoming.commit()
        have_named(incoming)
        seal = seal_of(stored.path)
        content = stored.path.read_bytes()
        outgrown = len(content) > USUAL
        assert content[part10.read_meta(stored.path).dataset_offset :] == sent
        assert stored.bytes == len(content)
        assert (seal is None) == outgrown
        if seal is not None:
            with stored.path.open("rb") as stream:
                assert seal.agrees_with(stream)


def test_a_file_is_taken_by_the_length_of_the_last_of_its_class(spool: Spool, prepared: Path) -> None:
    folder = spool.begin_association(facts())
    before = {size: sum(size_of(name) == size for name in names(prepared)) for size in SIZES}
    for length in (150_000, 150_000, 500_000, 500_000, 3_000_000, 1000):
        incoming = begin(folder)
        incoming.write(bytes(length))
        assert incoming.commit().bytes > length
        have_named(incoming)
    after = {size: sum(size_of(name) == size for name in names(prepared)) for size in SIZES}
    taken = {size: before[size] - after[size] for size in SIZES}
    # nothing known: the usual; 150 kB; 150 kB, outgrown; 500 kB; 500 kB, outgrown; 3 MB: no file is as large
    assert taken == {SIZES[0]: 2, SIZES[1]: 3, SIZES[2]: 0}
    assert len(folder.files()) == 6
    (last, *_) = reversed(list(folder.stored()))
    assert seal_of(last.path) is None, "in a file of its own"


def test_without_segments_small_instances_are_received_into_new_files(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(preparing, "file_system", lambda _: "ext4")
    with Spool.open(root, SpoolRole.RECEIVER, durable=False) as spool:
        prepare(spool)
        assert {size_of(name) for name in names(root / PREPARED)} == {*SIZES}
        folder = spool.begin_association(facts())
        kinds = []
        for length in (150_000, 150_000, 10_000, 10_000, 150_000, 150_000):  # a file is chosen by the length before
            incoming = begin(folder)
            kinds.append(type(incoming))
            incoming.write(b"x" * length)
            stored = incoming.commit()
            have_named(incoming)
            assert incoming.flush_seconds is None
            assert stored.path.read_bytes().endswith(b"x" * length)
        assert kinds == [InPlace, InPlace, InPlace, NewFile, NewFile, InPlace]


def test_two_receivers_never_take_the_same_file(root: Path, spool: Spool, prepared: Path) -> None:
    first, second = spool.begin_association(facts()), spool.begin_association(facts())
    with Spool.open(root, SpoolRole.TOOL) as other:  # a list of its own, as another listener has
        third = other.begin_association(facts())
        there = sum(size_of(name) == USUAL for name in names(prepared))
        several = [begin(folder) for _ in range(there) for folder in (first, third, second)]
        in_place = [each for each in several if isinstance(each, InPlace)]
        assert len(in_place) == there, "each file once"
        assert len({each._taken.name for each in in_place}) == there
        for number, incoming in enumerate(several):
            incoming.write(b"%d" % number)
        for incoming in several:
            incoming.commit()
            have_named(incoming)
    found = sorted(
        one.path.read_bytes()[-3:].lstrip(b"\0 ") for each in (first, second, third) for one in each.stored()
    )
    assert len(found) == len(several)


def test_what_a_dead_listener_has_sealed_is_taken_by_nobody(root: Path, spool: Spool, prepared: Path) -> None:
    """Before the receiver has named it, another listener looks for files."""
    folder = spool.begin_association(facts())
    incoming = begin(folder)
    incoming.write(b"answered with 0000")
    stored = incoming.commit()
    assert isinstance(incoming, InPlace)
    os.close(incoming._taken.descriptor)  # it is dead
    there = sum(size_of(name) == USUAL for name in names(prepared))
    with Spool.open(root, SpoolRole.TOOL) as other:
        another = other.begin_association(facts())
        store(another, there + 2, data=bytes(300_000))
    assert not any(size_of(name) == USUAL for name in names(prepared) if name != incoming._taken.name)
    assert names(prepared).count(incoming._taken.name) == 1
    assert sealed.place_sealed(root).named == 1
    assert stored.path.read_bytes().endswith(b"answered with 0000")


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Prepared files that the receiver looked into the last time."""
    looked_at: list[Path] = []
    look = sealed._look

    def looking(paths: Iterable[Path]) -> Iterator[tuple[Path, bytes, bool]]:
        looked_at[:] = list(paths)
        return look(looked_at)

    monkeypatch.setattr(sealed, "_look", looking)
    return looked_at


def test_a_file_is_looked_at_again_only_when_it_has_changed(
    root: Path, spool: Spool, prepared: Path, looked_at: list[Path]
) -> None:
    long_ago = 1_600_000_000
    for path in prepared.iterdir():
        os.utime(path, (long_ago, long_ago))
    blank: dict[str, int] = {}
    sealed.place_sealed(root, blank)
    assert sorted(looked_at) == sorted(prepared.iterdir())
    folder = spool.begin_association(facts())
    incoming = begin(folder)
    incoming.write(b"answered with 0000")
    stored = incoming.commit()
    assert isinstance(incoming, InPlace)
    assert sealed.place_sealed(root, blank).named == 0, "it is being written"
    assert looked_at == [prepared / incoming._taken.name]
    os.close(incoming._taken.descriptor)  # its listener is dead
    assert sealed.place_sealed(root, blank).named == 1
    assert list(folder.stored()) == [stored]
    sealed.place_sealed(root, blank)
    assert looked_at == []
    assert sorted(blank) == names(prepared)


def test_files_just_made_are_not_looked_into_before_they_are_written(
    root: Path, spool: Spool, prepared: Path, looked_at: list[Path]
) -> None:
    """Whoever has not made them looks into all: a power cut may take the time of a change back, and not the change."""
    folder = spool.begin_association(facts())
    assert spool._sealed.place() == Placed(0, frozenset())
    assert looked_at == []
    written: list[InPlace] = []
    for _ in range(2):
        incoming = begin(folder)
        incoming.write(b"answered with 0000")
        incoming.commit()
        assert isinstance(incoming, InPlace)
        os.close(incoming._taken.descriptor)  # its listener is dead
        written.append(incoming)
    first, second = (prepared / incoming._taken.name for incoming in written)
    os.utime(second, ns=(sealed.MADE_NS, sealed.MADE_NS))  # as after a power cut
    assert spool._sealed.place().named == 1
    assert looked_at == [first]
    assert sealed.SealedFiles(root).place().named == 1
    assert second in looked_at
    assert len(list(folder.stored())) == 2


def test_nothing_is_left_of_a_dead_listener_s_instance_in_the_next(root: Path, spool: Spool, prepared: Path) -> None:
    """It had outgrown its file when its listener died; the next is longer than that file, too, and shorter than it."""
    folder = spool.begin_association(facts())
    store(folder)
    dead = begin(folder)
    dead.write(b"x" * 400_000)
    assert isinstance(dead, InPlace)
    assert dead._taken.size == SIZES[0]
    os.close(dead._taken.descriptor)
    for path in prepared.glob(f"{SIZES[0]}-*"):  # the next one cannot take another
        if path.name != dead._taken.name:
            path.unlink()
    with Spool.open(root, SpoolRole.TOOL) as other:
        another = other.begin_association(facts())
        first, second = store(another, data=b"y" * 100)[0], store(another, data=b"y" * 60_000)[0]
    for stored, length in ((first, 100), (second, 60_000)):
        content = stored.path.read_bytes()
        assert content[part10.read_meta(stored.path).dataset_offset :] == b"y" * length
        assert stored.bytes == len(content)
    assert dead._taken.name not in names(prepared)


def test_an_association_waits_for_an_instance_that_somebody_else_is_naming(root: Path) -> None:
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        prepare(spool)
        dead, ended = spool.begin_association(facts()), spool.begin_association(facts())
        files = []
        for folder in (dead, ended):
            incoming = begin(folder)
            incoming.write(b"answered with 0000")
            incoming.commit()
            assert isinstance(incoming, InPlace)
            files.append(incoming)  # still locked, as while another process names it
        ended.end(AssociationOutcome.RELEASED)
        dead.close()
        assert spool.end_abandoned() == []
        assert spool.reclaim().associations == 0
        for incoming in files:
            os.close(incoming._taken.descriptor)
        (found,) = spool.end_abandoned()
        assert found.outcome is not None
        assert found.outcome.instances == 1
        assert len(spool.association(ended.association_id).files()) == 1
        assert spool.reclaim().associations == 0


def test_the_reclaimer_keeps_no_file_from_who_ends_abandoned_associations(
    spool: Spool, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the file of a dead listener while this begins, and the association has its outcome all the same."""
    folder, empty = spool.begin_association(facts()), spool.begin_association(facts())
    incoming = begin(folder)
    incoming.write(b"answered with 0000")
    incoming.commit()
    assert isinstance(incoming, InPlace)
    os.close(incoming._taken.descriptor)
    folder.close()
    empty.end(AssociationOutcome.RELEASED)  # why the reclaimer looks
    agrees_with, looking, ended = Seal.agrees_with, threading.Event(), threading.Event()

    def held_up(seal: Seal, stream: BinaryIO) -> bool:
        looking.set()
        ended.wait(0.2)  # only who does not wait for the reclaimer ends within it
        return agrees_with(seal, stream)

    monkeypatch.setattr(Seal, "agrees_with", held_up)
    reclaimer = threading.Thread(target=spool.reclaim)
    reclaimer.start()
    assert looking.wait(60)
    (found,) = spool.end_abandoned()
    ended.set()
    reclaimer.join()
    assert found.outcome is not None
    assert found.outcome.instances == 1


def test_a_file_that_the_disk_refuses_keeps_no_other_back(
    root: Path, spool: Spool, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [spool.begin_association(facts()) for _ in range(3)]
    for folder in folders:
        incoming = begin(folder)
        incoming.write(b"answered with 0000")
        incoming.commit()
        assert isinstance(incoming, InPlace)
        os.close(incoming._taken.descriptor)
        folder.close()
    bad = folders[1].association_id
    agrees_with = Seal.agrees_with

    def read(seal: Seal, stream: BinaryIO) -> bool:
        if seal.association_id == bad:
            raise OSError(errno.EIO, "input/output error")
        return agrees_with(seal, stream)

    monkeypatch.setattr(Seal, "agrees_with", read)
    assert {folder.association_id for folder in spool.end_abandoned()} == {
        folder.association_id for folder in folders if folder.association_id != bad
    }
    assert sealed.place_sealed(root) == Placed(0, frozenset({bad}))


def test_what_is_discarded_is_there_for_the_next(spool: Spool, prepared: Path) -> None:
    folder = spool.begin_association(facts())
    before = names(prepared)
    incoming = begin(folder)
    incoming.write(b"x" * 100_000)
    incoming.discard()
    incoming.discard()
    assert names(prepared) == before
    (stored,) = store(folder)
    assert stored.path.stat().st_size == stored.bytes, "nothing of what was discarded is left in it"
    assert names(folder.path) == [f"00000002-{stored.received_ns}.dcm", "association.json"]


@pytest.mark.parametrize("call", ["pwritev", "fdatasync"])
def test_a_disk_that_fails_surfaces_and_leaves_no_instance(
    spool: Spool, prepared: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spool.begin_association(facts())
    incoming = begin(folder)
    incoming.write(b"abc")

    def fail(*_arguments: object, **_names: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="Input/output"):
            incoming.commit()
        incoming.discard()
    assert names(folder.path) == ["association.json"]
    assert sealed.place_sealed(spool.root).named == 0
    assert store(folder)[0].sequence == 2, "the next instance is stored as if nothing had happened"


@pytest.mark.parametrize("call", ["ftruncate", "rename"])
def test_what_cannot_be_named_is_safe_and_is_named_later(
    spool: Spool, prepared: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spool.begin_association(facts())
    incoming = begin(folder)
    incoming.write(b"abc")
    stored = incoming.commit()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, lambda *_arguments, **_names: Path("/nowhere").stat())
        with pytest.raises(OSError, match="nowhere"):
            have_named(incoming)
    incoming.discard()
    assert folder.files() == {}
    assert sealed.place_sealed(spool.root).named == 1
    assert list(folder.stored()) == [stored]
    assert stored.path.read_bytes().endswith(b"abc")


def test_what_could_not_be_named_keeps_its_association(
    spool: Spool, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has ended, and nothing in it has a name: it is not empty all the same."""
    folder = spool.begin_association(facts())
    incoming = begin(folder)
    incoming.write(b"abc")
    stored = incoming.commit()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", lambda *_arguments, **_names: Path("/nowhere").stat())
        with pytest.raises(OSError, match="nowhere"):
            have_named(incoming)
    incoming.discard()
    folder.end(AssociationOutcome.RELEASED)
    assert spool.reclaim().associations == 0
    assert list(spool.association(folder.association_id).stored()) == [stored]
    assert spool.unindexed(spool.association(folder.association_id)) == [stored]


def test_an_instance_that_outgrows_its_file_on_a_full_disk_surfaces(spool: Spool, prepared: Path) -> None:
    folder = spool.begin_association(facts())
    incoming = begin(folder)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (USUAL + 1000, before[1]))
        with pytest.raises(OSError, match="File too large"):
            incoming.write(b"x" * (USUAL + 5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    incoming.discard()
    assert names(folder.path) == ["association.json"]


@pytest.mark.parametrize(
    ("at", "durability"),
    [(at, "flush") for at in ("written", "fdatasync", "committed", "ftruncate", "rename")]
    + [(at, "os") for at in ("written", "committed", "ftruncate", "rename")],
)
def test_kill_at_any_point_leaves_a_whole_instance_or_none(root: Path, at: str, durability: str) -> None:
    durable = durability == "flush"
    with Spool.open(root, SpoolRole.RECEIVER, durable=durable) as spool:
        prepare(spool)
    child = subprocess.run(
        [sys.executable, CHILD, root, at, durability], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    with Spool.open(root, SpoolRole.RECEIVER, durable=durable) as spool:
        (folder,) = spool.end_abandoned()
        assert folder.outcome is not None
        assert folder.outcome.outcome is AssociationOutcome.ADAPTER_STOPPED
        found = spool.unindexed(folder)
        # sealed before its flush: it is in the page cache, which this kill leaves alone
        assert [one.sequence for one in found] == ([1] if at == "written" else [1, 2])
        assert folder.outcome.instances == len(found)
        assert {one.bytes for one in found} == {one.path.stat().st_size for one in found}
        for one in found:
            assert one.path.read_bytes().endswith(b"<" + b"x" * 100_000 + b">")


@pytest.mark.parametrize("torn_at", [200, 4096, 50_000, -1])
def test_a_power_cut_within_the_flush_leaves_no_instance(spool: Spool, prepared: Path, torn_at: int) -> None:
    """The seal is on the disk, and one page of the data is not: then 0000 cannot have been sent.

    Or it was, and the disk has lost that page since: so the file is kept.
    """
    folder = spool.begin_association(facts())
    incoming = begin(folder)
    incoming.write(b"x" * 100_000)
    stored = incoming.commit()
    assert isinstance(incoming, InPlace)
    with (prepared / incoming._taken.name).open("rb+") as torn:
        torn.seek(torn_at % stored.bytes)
        torn.write(b"\0")
    os.close(incoming._taken.descriptor)  # the process is gone
    assert sealed.place_sealed(spool.root).named == 0
    assert folder.files() == {}
    assert incoming._taken.name not in names(prepared)
    (kept,) = (spool.root / DAMAGED).iterdir()
    assert kept.name == f"{folder.association_id}-{stored.path.stem}.damaged"
    assert kept.read_bytes().count(b"x") >= 99_999
    assert sealed.place_sealed(spool.root) == Placed(0, frozenset())
    with Inventory(spool.root) as inventory:
        (problem,) = verify(inventory).problems
    assert problem.path == f"{DAMAGED}/{kept.name}"
    assert "see whether its sender still has it" in problem.problem


def test_of_what_is_set_aside_the_newest_are_kept(
    spool: Spool, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 10
    monkeypatch.setattr(damaged, "MOST_KEPT", most)
    kept = []
    for number, path in enumerate(sorted(prepared.glob(f"{SIZES[0]}-*"))[: most + 1]):
        seal = Seal(f"{number:032x}", 1, 1, 4096, 0)
        with path.open("rb+") as stream:
            stream.write(seal.preamble())
        sealed.place_sealed(spool.root)
        kept.append(f"{seal.association_id}-00000001-1.damaged")
    assert len(kept) == most + 1
    assert names(spool.root / DAMAGED) == kept[1:]


def test_a_power_cut_after_the_reply_takes_nothing_back(root: Path) -> None:
    """The names are gone again, even the first ones of the prepared files, and a file is as long as it was."""
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        prepare(spool)
        folder = spool.begin_association(facts())
        stored = store(folder, 3, data=b"y" * 10_000)
        for number, one in enumerate(stored):
            os.truncate(one.path, USUAL)
            one.path.rename(root / PREPARED / (f"{USUAL}-{number:016x}" + (".new" if number == 1 else "")))
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        (again,) = spool.end_abandoned()
        prepare(spool)
        assert list(again.stored()) == stored
        assert all(one.path.read_bytes().endswith(b"y" * 10_000) for one in stored)
        assert {size_of(name) for name in names(root / PREPARED)} == set(SIZES), "and none is left in the making"


def test_what_its_listener_did_not_live_to_flush_is_flushed_before_it_is_named(
    spool: Spool, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = spool.begin_association(facts())
    incoming = begin(folder)
    incoming.write(b"abc")
    assert isinstance(incoming, InPlace)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: None)
        stored = incoming.commit()
    os.close(incoming._taken.descriptor)
    lies = prepared / incoming._taken.name
    flushed: list[int] = []

    def flush(descriptor: int) -> None:
        assert lies.exists(), "it has its name already"
        assert not stored.path.exists()
        flushed.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fdatasync", flush)
    assert sealed.place_sealed(spool.root).named == 1
    assert flushed == [stored.path.stat().st_ino]


def test_a_sealed_instance_that_has_changed_is_found_out(spool: Spool, prepared: Path) -> None:
    folder = spool.begin_association(facts())
    whole, changed, longer = store(folder, 3, data=b"y" * 10_000)
    with changed.path.open("rb+") as stream:
        stream.seek(-5000, os.SEEK_END)
        stream.write(b"z")
    with longer.path.open("ab") as stream:
        stream.write(b"y")
    with Inventory(spool.root) as inventory:
        problems = {Path(each.path).name: each.problem for each in verify(inventory).problems}
    assert problems.keys() == {changed.name, longer.name}
    assert all("does not agree with its seal" in problem for problem in problems.values())
    assert whole.path.exists()


def test_one_flush_comes_before_the_reply_and_the_name_after_it(root: Path) -> None:
    if shutil.which("strace") is None:
        message = "strace is not installed: apt-get install strace"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        prepare(spool)
    calls = "trace=pwritev,pwritev2,pwrite64,fdatasync,fsync,ftruncate,rename,renameat,renameat2,write"
    trace = root.with_name("trace")
    subprocess.run(
        ["strace", "-f", "-y", "-o", trace, "-e", calls, sys.executable, CHILD, root, "never"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    lines = trace.read_text(errors="replace").splitlines()
    (first,) = (number for number, line in enumerate(lines) if "reply 1" in line)
    what = [re.sub(r"^\d+ +|2?\(.*", "", line) for line in lines[first + 1 :] if PREPARED in line or "reply 2" in line]
    # name of the first; the second: data, its last page, the seal, the flush, the reply, the name
    assert what == [
        *("ftruncate", "renameat"),
        *("pwritev", "pwritev", "pwritev", "pwrite64", "fdatasync", "write", "ftruncate", "renameat"),
    ]


def test_files_are_kept_prepared_and_make_room_when_the_disk_is_full(spool: Spool) -> None:
    room = 10 * MEGABYTES
    preparer = spool.preparer(MEGABYTES, room=lambda: room)
    preparer.start()
    while preparer.step():
        pass
    folder = spool.root / PREPARED
    all_of_them = names(folder)
    total = sum(size_of(name) or 0 for name in all_of_them)
    assert 0.8 * MEGABYTES < total <= MEGABYTES
    assert all((folder / name).stat().st_size == size_of(name) for name in all_of_them)
    (folder / all_of_them[0]).unlink()
    assert preparer.step()
    assert len(names(folder)) == len(all_of_them)
    incoming = begin(spool.begin_association(facts()))
    assert incoming.path is not None
    room = 2 * MEGABYTES
    (folder / next(name for name in all_of_them[1:] if name != incoming.path.name)).unlink()
    assert not preparer.step()
    assert len(names(folder)) == len(all_of_them) - 1, "on a nearly full disk none is made"
    room = 0
    assert not preparer.step()
    assert len(names(folder)) == 1, "only the one that an instance is written to is left"
    incoming.write(b"abc")
    assert incoming.commit().bytes > 0


def test_a_disk_that_fails_leaves_nothing_half_made(
    spool: Spool, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file of several cannot be made, and then their names cannot be."""
    preparer = spool.preparer(MEGABYTES, room=lambda: 10 * MEGABYTES)
    preparer.start()
    some = sorted(prepared.glob(f"{SIZES[0]}-*"))[:8]
    for path in some:
        path.unlink()
    before = names(prepared)
    make, made = preparing._make, []

    def fails_at_the_third(path: Path, size: int) -> None:
        made.append(path)
        if len(made) == 3:
            raise OSError(errno.ENOSPC, "no space left on device")
        make(path, size)

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_make", fails_at_the_third)
        with pytest.raises(OSError, match="no space left"):
            preparer.step()
    assert names(prepared) == before
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "sync_folder", lambda _: Path("/nowhere").stat())
        with pytest.raises(OSError, match="nowhere"):
            preparer.step()
    assert names(prepared) == before
    while preparer.step():
        pass
    assert len(names(prepared)) == len(before) + len(some)


def test_a_smaller_space_is_kept_to_at_the_next_start(spool: Spool, prepared: Path) -> None:
    preparer = spool.preparer(MEGABYTES // 4, room=lambda: 10 * MEGABYTES)
    preparer.start()
    assert sum(size_of(name) or 0 for name in names(prepared)) <= MEGABYTES // 4
    nothing = spool.preparer(0, room=lambda: 10 * MEGABYTES)
    nothing.start()
    assert names(prepared) == []
    assert not nothing.step()
    assert isinstance(begin(spool.begin_association(facts())), NewFile)


def test_files_are_prepared_only_where_overwriting_keeps_its_promise(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "file_system", lambda _: "btrfs")
    prepare(spool)
    assert names(spool.root / PREPARED) == []
