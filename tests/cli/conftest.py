"""Running commands as a user does, in this process or in one of their own."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from support.commands import Clara, Done

from clara_dicom_adapter.cli.app import run


@pytest.fixture
def clara(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Clara]:
    """Run ``clara dicom ...`` in this process, on a data folder of this test."""
    monkeypatch.setenv("CLARA_DICOM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("CLARA_DICOM_CONFIG", raising=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run_one(*arguments: str) -> Done:
        status = run(["dicom", *arguments])
        said = capsys.readouterr()
        return Done(status, said.out, said.err)

    yield run_one
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def clara_process(tmp_path: Path) -> Clara:
    """Run ``clara ...`` as a process of its own, on a data folder of this test."""

    def run_one(*arguments: str) -> Done:
        done = subprocess.run(
            [sys.executable, "-m", "clara_dicom_adapter.cli", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, "CLARA_DICOM_DATA_DIR": str(tmp_path / "data")},
        )
        return Done(done.returncode, done.stdout, done.stderr)

    return run_one
