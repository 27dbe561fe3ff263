"""The order of flushing, as the kernel sees it, of a receiver as it is installed, for each durability setting."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support.receiver_wire import RELEASE_REQUEST, established, read_pdu, store_message, store_response
from support.receiving import associate, instance
from support.site import wait_until
from support.started import process_of_its_own, tool

from clara_dicom_adapter import part_status
from clara_dicom_adapter.cli.app import run
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.spool.prepared import PREPARED, SIZES, size_of
from clara_dicom_adapter.spool.replay import in_segments
from clara_dicom_adapter.spool.segment import SEGMENTS
from clara_dicom_adapter.spool.settling import FEW

_CALLS = "fdatasync,fsync,sync_file_range,syncfs,sync,ftruncate,rename,renameat,renameat2,sendto"
_FLUSH = re.compile(r"\b(?:fdatasync|fsync|sync_file_range|syncfs)\(\d+<([^>]*)>")


@contextmanager
def traced_receiver(root: Path, storage: dict[str, object], trace: Path) -> Iterator[int]:
    """The receiver part under strace, with two listener processes and settings on file; gives its port."""
    data, config = DataFolder(root / "data"), root / "appsettings.json"
    assert (
        run(["dicom", "create", "aetitle", "-a", "CLARA", "pipeline-nothing=nothing", "--data-dir", str(data.root)])
        == 0
    )
    scp = {"port": 0, "host": ["127.0.0.1", "::1"], "receivers": 2, "rejectUnknownSources": False}
    settings = {
        "dicom": {"scp": scp},
        "services": {"temporal": {"address": "127.0.0.1:1"}},
        "storage": {"watermarkPercent": 100, "reserveSpaceGB": 0, **storage},
    }
    config.write_text(json.dumps({"DicomAdapter": settings}))
    strace = (tool("strace", "strace"), "-f", "-y", "-qq", "-e", f"trace={_CALLS}", "-o", trace)
    part = (sys.executable, "-m", "clara_dicom_adapter.cli.parts.receiver_part")
    command = (*strace, *part, "--config", config, "--data-dir", data.root)
    with process_of_its_own(command, root / "receiver.log"):
        written = data.run / "receiver.json"

        def ready() -> bool:
            status = part_status.read_one(written)
            return status is not None and status.ready

        wait_until("the receiver is ready", ready)
        status = part_status.read_one(written)
        assert status is not None
        port = status.ports["dicom"]
        assert status.addresses == {"dicom": f"127.0.0.1:{port}, [::1]:{port}"}
        if storage.get("preparedSpaceMB"):
            prepared = data.payloads / "spool" / PREPARED
            wait_until(
                "files of every size are prepared",
                lambda: {size_of(path.name) for path in prepared.iterdir()} - {None} == {*SIZES},
            )
        yield port


def steps(trace: Path) -> list[tuple[str, str]]:
    """What was done to the folders of associations, and the C-STORE-RSPs: thread and step, in the order begun."""
    found: list[tuple[str, str]] = []
    for line in trace.read_text().splitlines():
        thread = line.split()[0]
        flushed = _FLUSH.search(line)
        if re.search(rf"fdatasync\(\d+<[^>]*/{PREPARED}/\d+-[^.>]*>", line):
            step = "data in place"
        elif re.search(rf"fdatasync\(\d+<[^>]*/{SEGMENTS}/\d+>", line):
            step = "data in segment"
        elif re.search(r"\bsyncfs\(", line):
            step = "file system"
        elif flushed and "/associations/" in flushed[1]:
            if re.search(r"/\d+\.part$", flushed[1]):
                step = "data"
            else:  # the folder is flushed for association.json and outcome.json too
                before = [step for by, step in found if by == thread][-2:]
                step = "folder" if before in (["data", "name"], ["data in place", "name"]) else "facts"
        elif re.search(r"ftruncate\(\d+<[^>]*/prepared/", line):
            step = "cut"
        elif re.search(r"rename\w*\(.*\.dcm\"", line):
            step = "name"
        elif re.search(r"sendto\(\d+<[^>]*>, \"\\4\\0", line):
            step = "reply"
        elif re.search(r"\bsync\(", line):
            step = "everything"
        else:
            continue
        found.append((thread, step))
    return found


def outcomes(root: Path) -> list[Path]:
    return list(DataFolder(root / "data").payloads.glob("spool/associations/*/outcome.json"))


IN_SEGMENT = ["data in segment", "reply"]
UNFLUSHED_IN_SEGMENT = ["reply"]
IN_PLACE = ["data in place", "reply"]
OUTGROWN = ["data in place", "name", "folder", "reply"]
NEW_FILE = ["data", "name", "folder", "reply"]
UNFLUSHED_IN_PLACE = ["reply"]
UNFLUSHED = ["name", "reply"]
LATER = ["cut", "name"]
"""What is done behind the reply to an instance in a prepared file, by another thread."""


@pytest.mark.parametrize(
    ("storage", "sizes", "expected"),
    [
        ({"durability": "flush", "preparedSpaceMB": 20}, (100_000, 100_000, 100_000), [IN_PLACE] * 3),
        ({"durability": "flush", "preparedSpaceMB": 20}, (100_000, 300_000, 300_000), [IN_PLACE, OUTGROWN, IN_PLACE]),
        ({"durability": "flush", "preparedSpaceMB": 0}, (3000, 3000, 3000), [NEW_FILE] * 3),
        ({"durability": "os", "preparedSpaceMB": 20}, (300_000, 300_000, 300_000), [UNFLUSHED_IN_PLACE] * 3),
        ({"durability": "os", "preparedSpaceMB": 0}, (3000, 3000, 3000), [UNFLUSHED] * 3),
    ],
    ids=["into prepared files", "beyond a prepared file", "into new files", "without a flush", "without either"],
)
def test_what_0000_promises_is_done_before_it_is_sent(
    tmp_path: Path, storage: dict[str, object], sizes: tuple[int, ...], expected: list[list[str]]
) -> None:
    """An instance that is sealed and flushed gets its name after the reply; any other one has it before.

    A file is taken by the length of the last instance: a longer one outgrows it, and the next one fits again.
    """
    trace = tmp_path / "trace"
    with traced_receiver(tmp_path, storage, trace) as port:
        for number, host in enumerate(("127.0.0.1", "::1"), start=1):
            assoc = associate(port, host=host)
            for size in sizes:
                assert assoc.send_c_store(instance(size)).Status == 0
            assoc.release()
            wait_until("its outcome is written", lambda count=number: len(outcomes(tmp_path)) == count)  # type: ignore[misc]
    found = [(thread, step) for thread, step in steps(trace) if step != "facts"]
    answering = {thread for thread, step in found if step == "reply"}
    instances = expected * 2
    assert [step for thread, step in found if thread in answering] == [step for each in instances for step in each]
    named_later = [number for number, each in enumerate(instances) if "name" not in each]
    assert [step for thread, step in found if thread not in answering] == LATER * len(named_later)
    replies = [at for at, (_, step) in enumerate(found) if step == "reply"]
    cuts = [at for at, (thread, step) in enumerate(found) if thread not in answering and step == "cut"]
    assert all(cut > replies[number] for cut, number in zip(cuts, named_later, strict=True))
    everything = [step for _, step in steps(trace)]
    assert ("facts" in everything[: everything.index("reply")]) == (storage["durability"] == "flush")


@pytest.mark.parametrize("count", [3, 60], ids=["few", "many"])
@pytest.mark.parametrize("durability", ["flush", "os"])
def test_instances_in_a_segment_have_their_names_when_their_files_are_flushed_behind_the_reply(
    tmp_path: Path, durability: str, count: int
) -> None:
    """And the segment is emptied after one more flush, which makes the names durable."""
    trace = tmp_path / "trace"
    with traced_receiver(tmp_path, {"durability": durability, "preparedSpaceMB": 70}, trace) as port:
        spool = DataFolder(tmp_path / "data").payloads / "spool"
        wait_until("there are segments", lambda: len(list((spool / SEGMENTS).glob("[0-9][0-9]"))) == 2)
        with closing(established(port)) as connection:
            connection.sendall(b"".join(store_message(f"1.2.{number}", 3000) for number in range(count)))  # at once
            assert [store_response(connection)[1] for _ in range(count)] == [0] * count
            connection.sendall(RELEASE_REQUEST)
            read_pdu(connection)
        wait_until("its outcome is written", lambda: len(outcomes(tmp_path)) == 1)
        wait_until("the segments are empty", lambda: not in_segments(spool))
    found = [(thread, step) for thread, step in steps(trace) if step != "facts"]
    answering = {thread for thread, step in found if step == "reply"}
    in_segment = IN_SEGMENT if durability == "flush" else UNFLUSHED_IN_SEGMENT
    assert [step for thread, step in found if thread in answering] == in_segment * count
    behind = [(thread, step) for thread, step in found if thread not in answering]
    assert [step for _, step in behind].count("name") == count
    *made, last = behind
    assert last[1] == "data in segment", "which says that it is blank"
    if durability == "os":
        assert {step for _, step in made} == {"name"}
        return
    *made, names = made
    assert names == (last[0], "file system")
    for thread in {thread for thread, _ in made}:
        groups = " ".join(step for by, step in made if by == thread).replace("file system name", "file system, name")
        assert re.fullmatch(r"(file system,( name)+ ?)+", groups), groups
    if count > FEW:
        assert len({thread for thread, _ in made} - {last[0]}) == 1, "many are made by the receiver's process"
