"""The order of flushing, as the kernel sees it, of a receiver as it is installed, for each durability setting."""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.receiving import associate, instance
from support.site import wait_until
from support.started import process_of_its_own, tool

from clara_dicom_adapter import part_status
from clara_dicom_adapter.cli.app import run
from clara_dicom_adapter.configuration.settings import DataFolder

_CALLS = "fdatasync,fsync,sync_file_range,syncfs,sync,rename,renameat,renameat2,sendto"
_FLUSH = re.compile(r"\b(?:fdatasync|fsync|sync_file_range|syncfs)\(\d+<([^>]*)>")


@contextmanager
def traced_receiver(root: Path, durability: str, trace: Path) -> Iterator[int]:
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
        "storage": {"watermarkPercent": 100, "reserveSpaceGB": 0, "durability": durability},
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
        yield port


def steps(trace: Path) -> list[str]:
    """What was done to the folders of associations, and the C-STORE-RSPs, in the order in which each was begun."""
    found: list[str] = []
    for line in trace.read_text().splitlines():
        flushed = _FLUSH.search(line)
        if flushed and "/associations/" in flushed[1]:
            if re.search(r"/\d+\.part$", flushed[1]):
                found.append("data")
            else:  # the folder is flushed for association.json and outcome.json too
                found.append("folder" if found[-1:] == ["name"] else "facts")
        elif re.search(r"rename\w*\(.*\.part\".*\.dcm\"", line):
            found.append("name")
        elif re.search(r"sendto\(\d+<[^>]*>, \"\\4\\0", line):
            found.append("reply")
        elif re.search(r"\bsync\(", line):
            found.append("everything")
    return found


def outcomes(root: Path) -> list[Path]:
    return list(DataFolder(root / "data").payloads.glob("spool/associations/*/outcome.json"))


@pytest.mark.parametrize(
    ("durability", "expected"), [("flush", ["data", "name", "folder", "reply"]), ("os", ["name", "reply"])]
)
def test_what_0000_promises_is_done_before_it_is_sent(tmp_path: Path, durability: str, expected: list[str]) -> None:
    """``flush``: fdatasync of the file, rename, fsync of the folder, reply. ``os``: rename, reply, no flush at all."""
    trace = tmp_path / "trace"
    with traced_receiver(tmp_path, durability, trace) as port:
        for number, host in enumerate(("127.0.0.1", "::1"), start=1):
            assoc = associate(port, host=host)
            for _ in range(3):
                assert assoc.send_c_store(instance(3000)).Status == 0
            assoc.release()
            wait_until("its outcome is written", lambda count=number: len(outcomes(tmp_path)) == count)  # type: ignore[misc]
    found = steps(trace)
    assert [step for step in found if step != "facts"] == expected * 6
    assert ("facts" in found) == (durability == "flush")
