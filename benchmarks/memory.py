"""The receiver's memory does not grow with the size of an object, nor with the number of instances.

    make bench BENCH=memory

The real adapter receives a multi-frame object of 500 MB, then one association of 20,000 small instances, each from
the project's own sender in another process. Memory is VmHWM, reset before each: of the receiver, which hands over, and
of the largest of its listeners, which receive. After each the time is
taken until everything was handed over to Temporal, and until the job was started.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import CpuMeter, descendants, memory_mb, reset_peak
from objects import write_large, write_small
from rich.console import Console
from rich.table import Table
from rig import CALLING, Rig, wait_until

from clara_dicom_adapter.dicom.sender import ObjectResult, Peer, SendSettings, send
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.temporal.exit import run_and_leave

AE_TITLE = "MEMORY"
LIMIT_MB = 150
LISTENER_LIMIT_MB = 100


def send_folder(folder: Path, port: int) -> None:
    """Send everything in a folder in one association; what the other process does."""
    failed: list[ObjectResult] = []

    def note(result: ObjectResult) -> None:
        if not result.delivered:
            failed.append(result)

    totals = send(sorted(folder.iterdir()), Peer(AE_TITLE, "127.0.0.1", port), SendSettings(CALLING, retries=0), note)
    if failed:
        raise SystemExit(f"{len(failed)} were not stored: {totals.message}")


def receive(rig: Rig, folder: Path, what: str, instances: int) -> dict[str, Any]:
    """Have a folder received, and see what that takes."""
    print(f"measuring: {what}", file=sys.stderr, flush=True)
    receiver = rig.status.part("receiver").pid
    assert receiver is not None
    listeners = descendants(receiver)
    before, submitted = memory_mb([receiver]), rig.submissions("Submitted")
    for pid in (receiver, *listeners):
        reset_peak(pid)
    meter, begun = CpuMeter(rig.processes()), time.monotonic()
    subprocess.run([sys.executable, __file__, "--send", folder, "--port", str(rig.dicom_port)], check=True)
    sent = time.monotonic() - begun
    spool = Spool.open(rig.data.payloads / "spool", SpoolRole.TOOL)
    try:
        wait_until("everything is handed over", lambda: spool.usage().unhanded == 0, 900)
        handed_over = time.monotonic() - begun
    finally:
        spool.close()
    wait_until("the job has started", lambda: rig.submissions("Submitted") > submitted, 900, pause=0.2)
    started = time.monotonic() - begun
    cpu = meter.read(rig.processes())
    return {
        "what": what,
        "instances": instances,
        "receiver_before_mb": round(before, 1),
        "receiver_peak_mb": round(memory_mb([receiver], "VmHWM"), 1),
        "listener_peak_mb": round(max(memory_mb([pid], "VmHWM") for pid in listeners), 1),
        "received_seconds": round(sent, 1),
        "handed_over_seconds": round(handed_over, 1),
        "submitted_seconds": round(started, 1),
        "cpu_seconds": {name: round(cpu[name], 1) for name in ("receiver", "worker", "temporal", "platform")},
    }


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    peaks = (f"receiver's peak MB (limit {LIMIT_MB})", f"a listener's (limit {LISTENER_LIMIT_MB})")
    columns = ("receiver before MB", *peaks, "received s", "handed over s", "job started s")
    table = Table("", *columns, "CPU s: receiver, worker, Temporal, platform", title="the receiver's memory")
    for row in rows:
        keys = (
            "receiver_before_mb",
            "receiver_peak_mb",
            "listener_peak_mb",
            "received_seconds",
            "handed_over_seconds",
            "submitted_seconds",
        )
        table.add_row(row["what"], *(str(row[key]) for key in keys), ", ".join(map(str, row["cpu_seconds"].values())))
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=500, help="size of the large object (default 500)")
    parser.add_argument("--instances", type=int, default=20_000, help="number of small ones (default 20000)")
    parser.add_argument("--send", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.send is not None:
        send_folder(given.send, given.port)
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-memory-") as folder:
        root = Path(folder)
        (root / "large").mkdir()
        write_large(root / "large" / "large.dcm", given.megabytes)
        write_small(root / "small", given.instances, size=500)
        write_small(root / "first", 1)
        with Rig.running(root) as rig:
            rig.create_ae_title(AE_TITLE, timeout=0)
            time.sleep(2)  # the receiver looks for changes of the configuration now and then
            receive(rig, root / "first", "one small instance first", 1)
            rows = [
                receive(rig, root / "large", f"one object of {given.megabytes} MB", 1),
                receive(rig, root / "small", f"{given.instances} instances", given.instances),
            ]
    show(rows)
    within = all(row["receiver_peak_mb"] < LIMIT_MB and row["listener_peak_mb"] < LISTENER_LIMIT_MB for row in rows)
    limits = {"receiver": LIMIT_MB, "listener": LISTENER_LIMIT_MB}
    print(json.dumps({"benchmark": "memory", "limits_mb": limits, "within": within, "rows": rows}))
    return 0 if within else 1


if __name__ == "__main__":
    run_and_leave(main)
