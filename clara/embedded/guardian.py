"""The process between the platform and an operator: whatever happens, no process of the operator is left behind.

Run as a script, alone: ``python -I -S guardian.py <fd> <command> <word>...``. It starts the command in a process group
of its own and waits for it, or for the end of file on ``fd``, a pipe whose other end only the platform holds: the
platform closes it to stop the operator, and the kernel closes it when the platform is killed. Either way everything
that the command started is killed, also what left the process group, because orphans become children of this process.

It imports nothing of ours and little of the library, because it is started for every operator.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
CANNOT_EXECUTE, NOT_FOUND = 126, 127  # as a shell reports them


def main() -> int:
    lifeline, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    guardian = os.getpid()
    child = os.fork()
    if child == 0:
        _become(command, guardian, libc)
    status = None
    while status is None:
        ready, _, _ = select.select([lifeline, wake], [], [])
        if lifeline in ready:
            break
        os.read(wake, 4096)
        status = _collected(child)
    _kill_all(child)
    return 128 + signal.SIGKILL if status is None else _exit_code(status)


def _become(command: list[str], guardian: int, libc: ctypes.CDLL) -> None:
    """Turn the forked child into the operator; never returns."""
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guardian:
            os._exit(NOT_FOUND)
        os.execvp(command[0], command)  # noqa: S606 - the definition is the command
    except FileNotFoundError:
        os.write(2, f"{command[0]}: there is no such command\n".encode())
        os._exit(NOT_FOUND)
    except OSError as error:
        os.write(2, f"{command[0]} cannot be run: {error.strerror}\n".encode())
        os._exit(CANNOT_EXECUTE)


def _collected(child: int) -> int | None:
    """Take note of every process that has ended; the wait status of the command when it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def _kill_all(child: int) -> None:
    """Kill the group, then children until there are none: those of the killed become ours."""
    _kill(-child)
    while True:
        for pid in _children():
            _kill(pid)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _children() -> list[int]:
    mine = os.getpid()
    found = []
    for entry in os.listdir("/proc"):  # noqa: PTH208 - pathlib would double the start-up time
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:  # noqa: PTH123 - as above
                    # the command's name, in parentheses, may hold anything; state and parent follow it (proc(5))
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
            if parent == mine:
                found.append(int(entry))
    return found


def _exit_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
