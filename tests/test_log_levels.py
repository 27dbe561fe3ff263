"""Which lines are logged: the categories of the documents, the longest that fits, and seven levels."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from clara_dicom_adapter import log_levels
from clara_dicom_adapter.configuration import json_text
from clara_dicom_adapter.log_levels import LEVELS, by_logger, unknown_categories

ADAPTER = "Nvidia.Clara.DicomAdapter"
SAMPLE = Path(__file__).parent / "configuration" / "samples" / "schema-0.8.json"


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    level = logging.getLogger().level
    yield
    log_levels.apply({})
    logging.getLogger().setLevel(level)


def level_of(logger: str) -> int:
    return logging.getLogger(logger).getEffectiveLevel()


def test_the_longest_category_that_fits_counts() -> None:
    log_levels.apply(
        {
            "Default": "Error",
            "nvidia": "Warning",
            f"{ADAPTER}.Server.Services": "Information",
            f"{ADAPTER}.Server.Services.Scp": "Debug",
            "Microsoft": "Error",
            "Microsoft.Hosting.Lifetime": "Trace",
            "my.package": "Critical",
        }
    )
    assert level_of("clara_dicom_adapter.receiver") == logging.DEBUG
    assert level_of("clara_dicom_adapter.spool") == logging.INFO
    assert level_of("clara_dicom_adapter.activities.export") == logging.INFO
    assert level_of("clara_dicom_adapter.temporal") == logging.WARNING
    assert level_of("clara_dicom_adapter.activities.reception") == logging.WARNING
    assert level_of("uvicorn.error") == log_levels.TRACE
    assert level_of("uvicorn.access") == logging.ERROR
    assert level_of("my.package.module") == logging.CRITICAL
    assert level_of("anything") == logging.ERROR


def test_a_name_of_ours_wins_over_one_of_dotnet() -> None:
    levels = {f"{ADAPTER}.Server.Services.Scp": "Debug", "clara_dicom_adapter.receiver": "Error"}
    assert by_logger(levels)["clara_dicom_adapter.receiver"] == logging.ERROR
    log_levels.apply({"clara_dicom_adapter": "Debug", "Nvidia": "Error"})
    assert level_of("clara_dicom_adapter.receiver") == logging.DEBUG


@pytest.mark.parametrize("name", LEVELS)
def test_each_of_the_seven_levels_lets_through_what_is_not_below_it(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    log_levels.apply({"Default": "None", f"{ADAPTER}.Server.Services.Http": name})
    logger = logging.getLogger("clara_dicom_adapter.api")
    numbers = sorted(number for each, number in LEVELS.items() if each != "None")
    for number in numbers:
        logger.log(number, "line")
    assert [record.levelno for record in caplog.records] == [number for number in numbers if number >= LEVELS[name]]


def test_what_a_change_does_not_name_any_more_is_as_it_was() -> None:
    log_levels.apply({"clara_dicom_adapter.receiver": "Debug"})
    log_levels.apply({"Default": "Warning"})
    assert level_of("clara_dicom_adapter.receiver") == logging.WARNING


def test_libraries_stay_quiet_unless_a_category_says_otherwise_and_pydicom_always_does() -> None:
    log_levels.apply({"Default": "Debug"})
    assert level_of("uvicorn.access") == logging.WARNING
    assert level_of("pynetdicom.dul") == logging.WARNING
    log_levels.apply({"Default": "Debug", "Dicom": "Debug", "pydicom": "Trace", "temporalio.worker": "Debug"})
    assert level_of("pynetdicom.dul") == logging.DEBUG
    assert level_of("pydicom") == logging.ERROR
    assert level_of("temporalio.worker") == logging.DEBUG


def test_every_category_of_the_documents_stands_for_something() -> None:
    levels = json_text.parse(SAMPLE.read_text(encoding="utf-8"))[0].members["Logging"].members["LogLevel"].plain()
    assert len(levels) == 12
    assert list(unknown_categories(levels)) == []
    assert list(unknown_categories({"Nvidia.Clara.Nothing": "Debug", "own.name": "Debug"})) == ["Nvidia.Clara.Nothing"]
