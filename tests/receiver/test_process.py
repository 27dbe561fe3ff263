"""What only shows from outside a process: memory, the order of system calls, and kill -9."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest
from support.receiver_wire import established, store_message
from support.receiving import associate, instance

from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.workflows.models import AssociationOutcome

TESTS = Path(__file__).parent.parent


@contextmanager
def receiver_process(spool: Path, *, before: tuple[str, ...] = ()) -> Iterator[tuple[subprocess.Popen[str], int]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))}
    command = [*before, sys.executable, "-P", "-m", "support.receiver_process", str(spool)]
    with (spool.parent / "receiver.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, start_new_session=True
        )
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        assert first, "the receiver ended"
        yield process, int(first)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # strace's receiver too
        process.wait(10)
        process.stdout.close()


def resident_peak(pid: int) -> int:
    """The most memory a process has had resident, in bytes."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def test_memory_does_not_grow_with_an_instance(tmp_path: Path) -> None:
    """300 MB, sent as bytes; what is resident stays below half of it."""
    size = 300_000_000
    with receiver_process(tmp_path / "spool") as (process, port):
        with established(port) as peer:
            message = store_message("1.2.3", 2)
            peer.sendall(message[: message.rfind(bytes((4, 0)), 0, -8)])  # the command alone
            piece = (65530).to_bytes(4, "big")
            body = bytes(65528)
            pdu = b"\4\0" + (65534).to_bytes(4, "big") + piece + b"\1\0" + body
            for _ in range(size // len(body)):
                peer.sendall(pdu)
            peer.sendall(b"\4\0\0\0\0\x08\0\0\0\4\1\2\0\0")
            assert peer.recv(6)[0] == 4
        assert resident_peak(process.pid) < 150_000_000
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        (folder,) = spool.associations()
        (stored,) = folder.stored()
        assert stored.bytes > size - 65536


def missing(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def test_data_name_and_folder_are_flushed_before_each_reply(tmp_path: Path) -> None:
    """For every instance: fdatasync of its file, rename, fsync of its folder, and only then the C-STORE-RSP."""
    strace = shutil.which("strace") or missing("strace is not installed: apt-get install strace")
    trace = tmp_path / "trace"
    calls = "openat,fdatasync,fsync,rename,renameat,renameat2,sendto"
    before = (strace, "-f", "-y", "-qq", "-e", f"trace={calls}", "-o", str(trace))
    with receiver_process(tmp_path / "spool", before=before) as (_process, port):
        assoc = associate(port)
        for _ in range(5):
            assert assoc.send_c_store(instance(3000)).Status == 0
        assoc.abort()
    steps: list[str] = []
    for line in trace.read_text().splitlines():
        if "unfinished" in line:
            line = line.replace("<unfinished ...>", "")  # noqa: PLW2901 - the order of beginnings is what counts for sends
        if re.search(r"fdatasync\(\d+<[^>]*\.part>", line):
            steps.append("data")
        elif re.search(r"rename\w*\(.*\.part\".*\.dcm\"", line):
            steps.append("name")
        elif re.search(r"fsync\(\d+<[^>]*/associations/[0-9a-f]{32}>", line) and steps and steps[-1] == "name":
            steps.append("folder")
        elif re.search(r"sendto\(\d+<[^>]*>, \"\\4\\0", line):
            steps.append("reply")
    assert steps == ["data", "name", "folder", "reply"] * 5


def test_a_receiver_killed_within_an_association_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    with receiver_process(tmp_path / "spool") as (process, port), established(port) as peer:
        for number in range(3):
            peer.sendall(store_message(f"1.2.{number}", 500))
            assert peer.recv(1024)[0] == 4
        peer.sendall(store_message("1.2.99", 50_000)[:20_000])
        while not list((tmp_path / "spool").glob("associations/*/*.part")):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with receiver_process(tmp_path / "spool") as (process, _port):
        process.send_signal(signal.SIGKILL)  # what it must do before it listens is done
        process.wait(10)
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        (folder,) = spool.associations()
        assert folder.outcome is not None
        assert (folder.outcome.outcome, folder.outcome.instances) == (AssociationOutcome.ADAPTER_STOPPED, 3)
        assert {one.sop_instance_uid for one in folder.stored()} == {"1.2.0", "1.2.1", "1.2.2"}
        assert list(folder.path.glob("*.part")) == []
