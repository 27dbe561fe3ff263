"""The demo is the first thing a new user runs: it has to come out right, and to leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.signals import heed

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]


def demo(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the demo with everything temporary below ``folder``."""
    (folder / "tmp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "clara_dicom_adapter.cli", "demo", *arguments],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed,  # noqa: PLW1509 - this process has no other thread that could hold a lock
    )


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_the_demo_comes_out_right(tmp_path: Path, temporal_executable: Path) -> None:
    process = demo(tmp_path, "--json")
    out, err = process.communicate(timeout=380)
    assert process.returncode == 0, err + out
    told = json.loads(out)
    assert told["ok"]
    assert sorted(told["killed"]) == ["receiver", "worker"]
    assert all(check["ok"] for check in told["checks"])
    assert {(job["ae_title"], job["pipeline"]) for job in told["jobs"]} == {
        ("MIP", "mip"),
        ("CT", "mip"),
        ("CT", "bone-seg"),
    }
    assert sum(each["acknowledged"] for each in told["sent"]) == sum(each["instances"] for each in told["sent"]) > 390
    assert told["pacs"]["instances"] == sum(len(each["results"]) for each in told["exports"]) > 0
    pictures = [Path(path) for path in told["pictures"]]
    assert len(pictures) > told["pacs"]["instances"]
    assert all(picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for picture in pictures)
    assert processes_of(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_demo_leaves_no_process(
    tmp_path: Path, temporal_executable: Path, number: signal.Signals
) -> None:
    process = demo(tmp_path)
    try:
        until(lambda: any("receiver_part" in line for line in processes_of(tmp_path)), 60, "nothing was started")
        process.send_signal(number)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == (-number if number is signal.SIGKILL else 130)
    until(lambda: processes_of(tmp_path) == [], 30, "something still runs")
    if number is not signal.SIGKILL:
        assert list((tmp_path / "tmp").iterdir()) == []
