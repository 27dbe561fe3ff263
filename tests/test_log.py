"""Log lines: only known keys, only what tells something, and none of the libraries' small talk."""

import json
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from clara_dicom_adapter import log as setup
from clara_dicom_adapter.log_file import FileLog


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_key_that_is_not_on_the_list_is_dropped_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    """So a patient's name cannot be logged, even by mistake."""
    setup.configure(setup.LogSetup(json=True), part="test")
    structlog.get_logger("clara_dicom_adapter.test").info("received", instances=2, patient_name="DOE^JANE")
    said = capsys.readouterr().err
    assert "DOE" not in said
    line = json.loads(said)
    assert (line["event"], line["instances"], line["key"]) == ("received", 2, "dropped: patient_name")


def test_a_line_has_no_empty_values(capsys: pytest.CaptureFixture[str]) -> None:
    setup.configure(setup.LogSetup(), part="test")
    structlog.get_logger("clara_dicom_adapter.test").warning("failed", reason="", exception="", attempt=0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "attempt=0" in lines[0]
    assert "reason" not in lines[0]


def test_an_exception_of_ours_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    setup.configure(setup.LogSetup(), part="test")
    try:
        raise RuntimeError("the disk is gone")
    except RuntimeError:
        structlog.get_logger("clara_dicom_adapter.test").error("failed", exc_info=sys.exc_info())
    assert "RuntimeError: the disk is gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    "library", ["uvicorn.error", "uvicorn.access", "temporalio.worker._worker", "httpx", "alembic"]
)
def test_libraries_tell_only_what_goes_wrong(
    library: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # an earlier test's server in this process may have given its loggers handlers of their own
    for name in (library, library.partition(".")[0]):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    setup.configure(setup.LogSetup(), part="test")
    logging.getLogger(library).info("Started server process")
    logging.getLogger(library).warning("Something is wrong")
    said = capsys.readouterr().err
    assert "Started" not in said
    assert "Something is wrong" in said


def test_pydicom_does_not_remark_on_objects(capsys: pytest.CaptureFixture[str]) -> None:
    setup.configure(setup.LogSetup(), part="test")
    logging.getLogger("pydicom").warning("Expected explicit VR, but found implicit VR")
    assert capsys.readouterr().err == ""


def test_lines_go_to_the_file_as_well_without_colours_and_with_the_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    file = FileLog(tmp_path / "logs" / "clara.log", interval="Infinite")
    for colors in (True, False):
        setup.configure(setup.LogSetup(colors=colors, file=file), part="test")
        structlog.get_logger("clara_dicom_adapter.test").info("received", instances=2)
        assert ("\x1b[" in capsys.readouterr().err) is colors
    setup.configure(setup.LogSetup(json=True, file=file), part="test")
    structlog.get_logger("clara_dicom_adapter.test").info("received", instances=3)
    *readable, last = (tmp_path / "logs" / "clara.log").read_text().splitlines()
    assert len(readable) == 2
    for line in readable:
        assert "\x1b[" not in line
        assert "part=test" in line
        assert "instances=2" in line
    assert (json.loads(last)["part"], json.loads(last)["instances"]) == ("test", 3)
    assert json.loads(capsys.readouterr().err)["instances"] == 3


def test_threads_name_their_part_too(capsys: pytest.CaptureFixture[str]) -> None:
    setup.configure(setup.LogSetup(json=True), part="test")
    thread = threading.Thread(target=lambda: structlog.get_logger("clara_dicom_adapter.test").info("received"))
    thread.start()
    thread.join()
    assert json.loads(capsys.readouterr().err)["part"] == "test"
