"""How processes that used the SDK end."""

import subprocess
import sys

import pytest

HEAD = "import sys, atexit\nfrom clara_dicom_adapter.temporal.exit import leave, run_and_leave\n"


def run(program: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", HEAD + program], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("leave(3)", 3),
        ("run_and_leave(lambda: None)", 0),
        ("run_and_leave(lambda: 2)", 2),
        ("run_and_leave(lambda: sys.exit(4))", 4),
        ("run_and_leave(lambda: sys.exit())", 0),
        ("run_and_leave(lambda: sys.exit('no'))", 1),
        ("def main(): raise KeyboardInterrupt\nrun_and_leave(main)", 130),
        ("run_and_leave(lambda: 1 // 0)", 1),
    ],
)
def test_the_exit_status_is_kept(program: str, status: int) -> None:
    assert run(program).returncode == status


def test_output_is_flushed_and_no_teardown_happens() -> None:
    ended = run("atexit.register(print, 'teardown')\nprint('done')\nsys.stderr.write('well')\nleave(0)")
    assert (ended.stdout, ended.stderr) == ("done\n", "well")


def test_an_exception_is_shown() -> None:
    assert "ZeroDivisionError" in run("run_and_leave(lambda: 1 // 0)").stderr


def test_a_signal_that_comes_before_anyone_waits_is_not_missed() -> None:
    ended = run(
        "import os, signal\nfrom clara_dicom_adapter.temporal.exit import StopSignal\n"
        "stop = StopSignal()\nos.kill(os.getpid(), signal.SIGTERM)\nstop.wait()\nprint('told')"
    )
    assert (ended.returncode, ended.stdout) == (0, "told\n")
