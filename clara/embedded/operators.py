"""Running one operator's command: its folders, its environment, its time limit, its log and its end."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Final

from clara_dicom_adapter.clara.embedded import guardian
from clara_dicom_adapter.clara.embedded.definition import Operator, expand

MESSAGE_LINES: Final = 10
MESSAGE_CHARACTERS: Final = 2000
LINE_BYTES: Final = 64 * 1024
_LOOK_SECONDS: Final = 0.5
"""Pause between two looks at the time limit and at whether someone wants it stopped."""

_READ_SECONDS: Final = 10.0


class Ended(Enum):
    """Why an operator's process is gone."""

    BY_ITSELF = "by itself"
    TIME_LIMIT = "time limit"
    STOPPED = "stopped"


@dataclass(frozen=True)
class OperatorEnd:
    how: Ended
    exit_code: int
    last_lines: str
    """The end of its standard error."""


@dataclass(frozen=True)
class OperatorFolders:
    """Where one attempt works; ``output`` and ``work`` lie in ``attempt`` and are new."""

    input: Path
    payload: Path
    pipeline: Path
    attempt: Path

    @property
    def output(self) -> Path:
        return self.attempt / "output"

    @property
    def work(self) -> Path:
        return self.attempt / "work"


def command_and_environment(
    operator: Operator,
    folders: OperatorFolders,
    *,
    job_id: str,
    pipeline_id: str,
    parameters: Mapping[str, str],
    surroundings: Mapping[str, str],
) -> tuple[list[str], dict[str, str]]:
    """What is run, with which environment; of the platform's own, only the search path and the language pass.

    Args:
        surroundings: The platform's environment.
    """
    values = {
        **parameters,
        "python": sys.executable,
        "pipeline": str(folders.pipeline),
        "input": str(folders.input),
        "output": str(folders.output),
        "payload": str(folders.payload),
        "job": job_id,
    }
    command = [expand(word, values) for word in operator.command]
    if command[0] in ("python", "python3"):
        command[0] = sys.executable
    environment = {
        "PATH": surroundings.get("PATH", os.defpath),
        "LANG": surroundings.get("LANG", "C.UTF-8"),
        "HOME": str(folders.work),
        "TMPDIR": str(folders.work / "tmp"),
        "PYTHONUNBUFFERED": "1",  # so that the log can be read while it runs
        "MONAI_INPUTPATH": str(folders.input),
        "MONAI_OUTPUTPATH": str(folders.output),
        "MONAI_WORKDIR": str(folders.work),
        "CLARA_PAYLOADPATH": str(folders.payload),
        "CLARA_JOB_ID": job_id,
        "CLARA_PIPELINE_ID": pipeline_id,
        "CLARA_OPERATOR": operator.name,
        **{name: expand(value, values) for name, value in operator.environment.items()},
    }
    return command, environment


def run(
    command: list[str],
    environment: Mapping[str, str],
    folders: OperatorFolders,
    *,
    log: Path,
    time_limit: float,
    stopped: Callable[[], bool],
) -> OperatorEnd:
    """Run a command to its end, and see that nothing of it is left.

    Args:
        log: File to which standard output and standard error are appended.
        stopped: Asked all the time; True ends the command.
    """
    for made in (folders.output, folders.work / "tmp"):
        made.mkdir(parents=True)
    lifeline, held = os.pipe()  # closing `held` kills the operator; our own death does too
    last_lines: deque[str] = deque(maxlen=MESSAGE_LINES)
    deadline = time.monotonic() + time_limit
    with log.open("ab", buffering=0) as output:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", guardian.__file__, str(lifeline), *command],
                cwd=folders.work,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                pass_fds=(lifeline,),
                start_new_session=True,
            )
        except BaseException:
            os.close(held)
            raise
        finally:
            os.close(lifeline)
        try:
            assert process.stderr is not None  # noqa: S101 - it is a pipe
            reader = threading.Thread(
                target=_keep, args=(process.stderr, output, last_lines), name="clara-operator-log", daemon=True
            )
            reader.start()
            how = _wait(process, deadline, stopped)
        finally:
            os.close(held)
            process.wait()
        # everyone who could write is gone, unless someone killed the guardian before it could see to that
        reader.join(_READ_SECONDS)
        if not reader.is_alive():
            process.stderr.close()
    return OperatorEnd(how, process.returncode, "\n".join(last_lines)[-MESSAGE_CHARACTERS:])


def _wait(process: subprocess.Popen[bytes], deadline: float, stopped: Callable[[], bool]) -> Ended:
    while True:
        if stopped():
            return Ended.STOPPED
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return Ended.TIME_LIMIT
        try:
            process.wait(min(_LOOK_SECONDS, remaining))
        except subprocess.TimeoutExpired:
            continue
        return Ended.BY_ITSELF


def _keep(source: IO[bytes], log: IO[bytes], last_lines: "deque[str]") -> None:
    """Copy standard error into the log and remember its end."""
    while line := source.readline(LINE_BYTES):
        log.write(line)
        last_lines.append(line.decode(errors="replace").rstrip("\r\n"))


def remove_all_but_files(root: Path) -> int:
    """Take everything out of an output folder that is neither a file nor a folder; returns how much that was.

    A link would let a download leave the payload.
    """
    removed = 0
    for folder, folders, names in os.walk(root):
        for name in (*folders, *names):
            path = Path(folder) / name
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                path.unlink()
                removed += 1
    return removed


def clear(folder: Path) -> None:
    """Delete a folder with all that an operator left in it."""
    shutil.rmtree(folder, ignore_errors=True)
