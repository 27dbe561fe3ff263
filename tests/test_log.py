"""Log lines: only known keys, only what tells something, and none of the libraries' small talk."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from clara_dicom_adapter import log as setup


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
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
