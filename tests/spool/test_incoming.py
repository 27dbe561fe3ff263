"""Instances become durable in one order, and nothing incomplete ever has a final name."""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, STUDY, facts, store

from clara_dicom_adapter.dicom import part10
from clara_dicom_adapter.spool import IncomingInstance, Spool, SpoolRole
from clara_dicom_adapter.spool.association import AssociationFolder
from clara_dicom_adapter.workflows.models import AssociationOutcome

CHILD = Path(__file__).with_name("store_one.py")


def begin(folder: AssociationFolder) -> IncomingInstance:
    return folder.begin_instance(
        sop_class_uid=CT, sop_instance_uid=f"{STUDY}.1.1", transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN
    )


def test_fragments_follow_the_header_as_they_came(spool: Spool) -> None:
    incoming = begin(spool.begin_association(facts()))
    for fragment in (b"abc", memoryview(b"xdefx")[1:4], b"", b"g" * 100_000):
        incoming.write(fragment)
    stored = incoming.commit()
    content = stored.path.read_bytes()
    meta = part10.read_meta(stored.path)
    assert content[meta.dataset_offset :] == b"abcdef" + b"g" * 100_000
    assert stored.bytes == len(content)
    assert (meta.sop_instance_uid, meta.source_ae_title) == (f"{STUDY}.1.1", "MODALITY")
    assert re.fullmatch(rf"00000001-{stored.received_ns}\.dcm", stored.path.name)


def test_what_is_not_committed_has_no_final_name_and_leaves_nothing(spool: Spool) -> None:
    folder = spool.begin_association(facts())
    incoming = begin(folder)
    incoming.write(b"abc")
    assert folder.files() == {}
    incoming.discard()
    incoming.discard()
    assert [path.name for path in folder.path.iterdir()] == ["association.json"]


def test_discarding_after_a_commit_removes_nothing(spool: Spool) -> None:
    incoming = begin(spool.begin_association(facts()))
    incoming.write(b"abc")
    stored = incoming.commit()
    incoming.discard()
    assert stored.path.exists()


@pytest.mark.parametrize("call", ["fdatasync", "rename", "fsync"])
def test_a_disk_that_fails_surfaces_and_leaves_no_instance(
    spool: Spool, call: str, monkeypatch: pytest.MonkeyPatch
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
    assert [path.name for path in folder.path.iterdir()] == ["association.json"]
    assert store(folder)[0].sequence == 2, "the next instance is stored as if nothing had happened"


def test_a_disk_that_fills_up_in_the_middle_of_a_fragment_surfaces(spool: Spool) -> None:
    """A file size limit makes the kernel write a part of a fragment and refuse the rest, as a full disk does."""
    incoming = begin(spool.begin_association(facts()))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        with pytest.raises(OSError, match="File too large"):
            incoming.write(b"x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    incoming.discard()


@pytest.mark.parametrize("at", ["written", "fdatasync", "rename", "fsync", "committed"])
def test_kill_at_any_point_leaves_a_whole_instance_or_none(root: Path, at: str) -> None:
    child = subprocess.run([sys.executable, CHILD, root, at], capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        (folder,) = spool.end_abandoned()
        assert folder.outcome is not None
        assert folder.outcome.outcome is AssociationOutcome.ADAPTER_STOPPED
        assert list(folder.path.glob("*.part")) == []
        found = spool.unindexed(folder)
    renamed = at in {"fsync", "committed"}  # before the folder is flushed it may have its name already
    assert [one.sequence for one in found] == ([1, 2] if renamed else [1])
    for one in found:
        assert one.path.read_bytes().endswith(b"<" + b"x" * 100_000 + b">")


def test_data_flush_rename_and_folder_flush_come_in_this_order_before_the_reply(root: Path) -> None:
    """Killing does not empty the page cache, so the order is looked at where it is made: at the system calls."""
    if shutil.which("strace") is None:
        message = "strace is not installed: apt-get install strace"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    calls = "trace=openat,writev,fdatasync,fsync,rename,renameat,renameat2,mkdir,write"
    trace = root.with_name("trace")
    subprocess.run(
        ["strace", "-f", "-y", "-o", trace, "-e", calls, sys.executable, CHILD, root, "never"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    lines = trace.read_text(errors="replace").splitlines()
    mine = [line for line in lines if f"{root}/associations" in line or "reply " in line]
    # (what, how its line looks); the folder is flushed through the descriptor it was opened with
    expected = [
        ("the folder of the association is made", r"mkdir\(.*associations/[0-9a-f]{32}"),
        ("its facts are named", r"rename.*association\.json"),
        ("and flushed", r"fsync\(\d+<[^>]*association\.json>"),
        ("and their name flushed", r"fsync\(\d+<[^>]*/associations/[0-9a-f]{32}>"),
        ("and the folder's name flushed", r"fsync\(\d+<[^>]*/associations>"),
        ("and only then the first reply", r"write\(1<.*reply 1"),
        ("data of the second instance", r"writev\(\d+<[^>]*00000002\.part>"),
        ("flushed", r"fdatasync\(\d+<[^>]*00000002\.part>"),
        ("named", r"rename.*00000002\.part.*00000002-\d+\.dcm"),
        ("the name flushed", r"fsync\(\d+<[^>]*/associations/[0-9a-f]{32}>"),
        ("and only then the reply", r"write\(1<.*reply 2"),
    ]
    at = 0
    for what, pattern in expected:
        found = next((number for number in range(at, len(mine)) if re.search(pattern, mine[number])), None)
        assert found is not None, f"{what}: no {pattern} after\n" + "\n".join(mine[max(at - 3, 0) : at + 8])
        at = found + 1


def test_nothing_is_flushed_when_durability_is_switched_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Spool.open(root, SpoolRole.RECEIVER, durable=False) as spool:

        def fail(*_arguments: object) -> None:
            raise AssertionError("flushed")

        monkeypatch.setattr(os, "fsync", fail)
        monkeypatch.setattr(os, "fdatasync", fail)
        folder = spool.begin_association(facts())
        (stored,) = store(folder)
        incoming = begin(folder)
        incoming.commit()
        assert incoming.flush_seconds is None
        folder.end(AssociationOutcome.RELEASED)
        assert stored.path.exists()


def test_the_time_of_both_flushes_is_told(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    incoming = begin(spool.begin_association(facts()))
    clock = iter((10.0, 10.25, 20.0, 20.5))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    incoming.commit()
    assert incoming.flush_seconds == 0.75


def test_many_small_fragments_are_one_write_as_well(spool: Spool) -> None:
    """More than the system takes in one call."""
    incoming = begin(spool.begin_association(facts()))
    incoming.write(*[memoryview(b"ab")] * 3000)
    stored = incoming.commit()
    assert stored.path.read_bytes().endswith(b"ab" * 3000)
    assert stored.bytes == part10.read_meta(stored.path).dataset_offset + 6000
