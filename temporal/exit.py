"""How a process that used the Temporal SDK is told to end, and ends.

The SDK's native threads can call into Python while the interpreter is being taken down, which ends the process by a
signal although all its work is done (temporalio/sdk-python issue 300). So such processes stop everything in order,
flush, and leave without that teardown, with the status they earned.
"""

import contextlib
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


def leave(status: int = 0) -> NoReturn:
    """End the process now: output flushed, exit status kept, no interpreter teardown, no ``atexit`` functions."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the reader may be gone, or the stream closed
            stream.flush()
    os._exit(status)


def run_and_leave(main: Callable[[], int | None]) -> NoReturn:
    """Run ``main`` and leave with the status it returns, or with the one that its exception stands for."""
    try:
        status = main() or 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            sys.stderr.write(stop.code + "\n")
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        status = 130  # as a shell reports an end by SIGINT
    except BaseException:  # what the interpreter would do, which is not reached
        traceback.print_exc()
        status = 1
    leave(status)


class StopSignal:
    """SIGTERM and SIGINT, for a process whose main thread waits for them; made in the main thread.

    ``threading.Event.wait`` would miss a signal that comes just before it blocks: Python notes it, and runs its handler
    only when the main thread runs again. The byte that Python's signal handling writes into a pipe cannot be missed.
    """

    def __init__(self) -> None:
        self._receiving, sending = os.pipe()
        os.set_blocking(sending, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(sending, warn_on_full_buffer=False)

    def wait(self) -> None:
        """Wait for the first of them; at once when it has come already. Other signals have handlers of their own."""
        while os.read(self._receiving, 1)[0] not in (signal.SIGTERM, signal.SIGINT):
            pass
