"""Child processes that do not outlive their parent, however it ends, ``kill -9`` included."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_GUARD = Path(__file__).with_name("guard.py")


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own that the kernel kills when this process ends.

    Linux watches the *thread* that starts a child, so this belongs into the main thread or one that stays. A program
    that cannot be executed shows as exit status 1 with its reason on standard error.

    Args:
        stdout: As :class:`subprocess.Popen` takes it.
        stderr: Likewise.
        pass_fds: File descriptors that the program keeps.
    """
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), *command],
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        pass_fds=pass_fds,
        process_group=0,  # Ctrl-C in a terminal reaches the parent alone, which stops its children in order
    )


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill a child of :func:`spawn` with everything it started in its group, and reap it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
