"""A part that does what its arguments say: ``fake_part.py NAME JOURNAL BEHAVIOUR --status-fd N``."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from clara_dicom_adapter.temporal.children import spawn
from clara_dicom_adapter.temporal.exit import StopSignal


def main() -> None:
    name, journal, behaviour = sys.argv[1:4]
    status = int(sys.argv[sys.argv.index("--status-fd") + 1])

    def note(what: str) -> None:
        with Path(journal).open("a") as file:
            file.write(f"{name} {what}\n")

    stopping = StopSignal()
    signal.signal(signal.SIGHUP, lambda _number, _frame: note("heard a SIGHUP"))
    note("started")
    sys.stderr.write(f"{name} speaks\n")
    if behaviour == "dies":
        sys.exit("no luck today")
    if behaviour == "misconfigured":
        sys.exit(2)
    if behaviour == "parent":  # a grandchild in the part's own process group
        child = subprocess.Popen(["sleep", "1000"])
        note(f"child {child.pid}")
    if behaviour == "guardian":  # a grandchild in a group of its own, as the Temporal server and operators are
        child = spawn(["sleep", "1000"])
        note(f"child {child.pid}")
    os.write(status, json.dumps({"addresses": {name: f"127.0.0.1:{os.getpid()}"}}).encode() + b"\n")
    stopping.wait()
    while behaviour == "stubborn":
        stopping.wait()
    note("stopped")


main()
