"""The command as a process: exit statuses, messages, and what is imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

from support.commands import Clara

from clara_dicom_adapter.cli.running import DataLock
from clara_dicom_adapter.configuration.settings import DataFolder


def test_help_is_there_at_once() -> None:
    """No command's machinery is imported to show it; that is what would take long."""
    script = "import sys, clara_dicom_adapter.cli.app; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"temporalio", "grpc", "sqlalchemy", "alembic", "pydicom", "pynetdicom", "fastapi", "numpy"}


def test_help_lists_the_commands(clara_process: Clara) -> None:
    done = clara_process("dicom", "--help")
    assert done.status == 0
    for command in ("start", "stop", "status", "create", "list", "delete", "send", "trace", "attention", "retry"):
        assert f" {command} " in done.out


def test_a_shell_completes_commands() -> None:
    words = {"COMP_WORDS": "clara dicom cre", "COMP_CWORD": "2", "_CLARA_COMPLETE": "complete_bash"}
    command = [sys.executable, "-m", "clara_dicom_adapter.cli"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **words})
    assert done.stdout.split() == ["create"]


def test_settings_that_cannot_work_are_all_told_at_start(clara_process: Clara, tmp_path: Path) -> None:
    config = tmp_path / "appsettings.json"
    config.write_text(
        json.dumps({"DicomAdapter": {"dicom": {"scp": {"port": 99999}}, "storage": {"watermarkPercent": 0, "no": 1}}})
    )
    done = clara_process("dicom", "start", "--config", str(config))
    assert done.status == 2
    for words in ("port", "watermarkPercent", "no"):
        assert words in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "data" / "status.json").exists()


def test_a_second_start_on_a_data_folder_is_refused(clara_process: Clara, tmp_path: Path) -> None:
    lock = DataLock(DataFolder(tmp_path / "data"))
    try:
        done = clara_process("dicom", "start")
    finally:
        lock.release()
    assert done.status == 1
    assert "is already served by process" in done.err
    assert "Traceback" not in done.err


def test_what_is_written_is_not_for_others(clara_process: Clara, tmp_path: Path) -> None:
    """The database holds the site's secret, and other files studies."""
    clara_process("dicom", "create", "src", "-a", "CT1", "-i", "192.0.2.7")
    written = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
    assert tmp_path / "data" / "dicomadapter.db" in written
    assert [str(each) for each in written if each.stat().st_mode & 0o007] == []


def test_a_part_by_hand_finds_its_folder_as_the_command_does(tmp_path: Path) -> None:
    script = (
        "from clara_dicom_adapter.cli.parts.entry import run_part\n"
        "run_part('worker', lambda part: (part.data.run.mkdir(parents=True), print(part.data.root))[0], [])"
    )
    environment = {**os.environ, "CLARA_DICOM_DATA_DIR": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'data'}\n", "")
    assert (tmp_path / "data" / "run").stat().st_mode & 0o007 == 0


def test_stop_of_what_does_not_run_is_no_failure(clara_process: Clara) -> None:
    done = clara_process("dicom", "stop")
    assert done.status == 0
    assert "no adapter runs" in done.out


def test_what_needs_temporal_says_so_when_there_is_none(clara_process: Clara) -> None:
    for words in (("attention",), ("retry", "--all"), ("discard", "--all")):
        done = clara_process("dicom", *words)
        assert done.status == 1
        assert "clara dicom start" in done.err
        assert "Traceback" not in done.err


def test_an_unknown_command_is_exit_status_2(clara_process: Clara) -> None:
    assert clara_process("dicom", "nonsense").status == 2
