"""What a sender in Python says of itself; starting the interpreter and importing are not part of it."""

import json
import os
import sys
import time
from collections.abc import Callable

from machine import memory_mb as peak_mb


def measured(send: Callable[[], int]) -> None:
    """Say ``ready``, wait for a line, run it, and say how many were sent, in what time, and what that took."""
    print("ready", flush=True)
    sys.stdin.readline()
    before, begun = time.process_time(), time.monotonic()
    sent = send()
    seconds, cpu_seconds = time.monotonic() - begun, time.process_time() - before
    memory_mb = peak_mb([os.getpid()], "VmHWM")  # ru_maxrss would count the process that started this one
    print(
        json.dumps({"sent": sent, "seconds": seconds, "cpu_seconds": cpu_seconds, "memory_mb": memory_mb}), flush=True
    )
