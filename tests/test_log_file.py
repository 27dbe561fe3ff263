"""The rolling log file: names, limits, retention, several processes."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from clara_dicom_adapter.log_file import FileLog, RollingFileHandler

NOON = datetime(2024, 5, 1, 12, 30, tzinfo=UTC)
WRITER = """
import logging, sys
from pathlib import Path
from clara_dicom_adapter.log_file import FileLog, RollingFileHandler
log = logging.getLogger("x")
log.addHandler(RollingFileHandler(FileLog(Path(sys.argv[1]), interval="Infinite", size_limit=20_000)))
for number in range(500):
    log.error("%s %03d %s", sys.argv[2], number, "." * 90)
"""
Make = Callable[..., RollingFileHandler]


@pytest.fixture
def handler(tmp_path: Path) -> Iterator[Make]:
    made: list[RollingFileHandler] = []

    def make(**options: Any) -> RollingFileHandler:
        made.append(RollingFileHandler(FileLog(tmp_path / "logs" / "clara.log", **options)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "logs").iterdir())


def test_each_day_has_a_file(handler: Make, tmp_path: Path) -> None:
    rolling = handler()
    rolling.write(b"first\n", NOON)
    rolling.write(b"second\n", NOON.replace(hour=23))
    rolling.write(b"third\n", NOON.replace(day=2, hour=0))
    assert names(tmp_path) == ["clara20240501.log", "clara20240502.log"]
    assert (tmp_path / "logs" / "clara20240501.log").read_bytes() == b"first\nsecond\n"


@pytest.mark.parametrize(
    ("interval", "name"),
    [
        ("Infinite", "clara.log"),
        ("Year", "clara2024.log"),
        ("Month", "clara202405.log"),
        ("Hour", "clara2024050112.log"),
        ("Minute", "clara202405011230.log"),
    ],
)
def test_intervals_are_named_as_serilog_names_them(handler: Make, tmp_path: Path, interval: str, name: str) -> None:
    handler(interval=interval).write(b"line\n", NOON)
    assert names(tmp_path) == [name]


def test_a_full_file_is_followed_by_another_and_who_comes_later_goes_on_there(handler: Make, tmp_path: Path) -> None:
    line = b"." * 59 + b"\n"
    for _ in range(3):
        handler(size_limit=100).write(line, NOON)
    assert names(tmp_path) == ["clara20240501.log", "clara20240501_001.log", "clara20240501_002.log"]
    handler(size_limit=1000).write(b"short\n", NOON)
    assert (tmp_path / "logs" / "clara20240501_002.log").read_bytes() == line + b"short\n"


def test_without_rolling_a_full_file_takes_nothing_more(handler: Make, tmp_path: Path) -> None:
    rolling = handler(size_limit=10, roll_on_size=False)
    for text in (b"12345678\n", b"more\n", b"more\n"):
        rolling.write(text, NOON)
    assert names(tmp_path) == ["clara20240501.log"]
    assert (tmp_path / "logs" / "clara20240501.log").read_bytes() == b"12345678\n"


def test_only_the_newest_files_are_kept_and_other_files_are_not_touched(handler: Make, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("receiver.log", "clara-other.log", "clara20240401.txt"):
        (tmp_path / "logs" / name).write_text("mine")
    rolling = handler(retained=2)
    for day in (1, 2, 3, 4):
        rolling.write(b"line\n", NOON.replace(day=day))
    assert names(tmp_path) == [
        "clara-other.log",
        "clara20240401.txt",
        "clara20240503.log",
        "clara20240504.log",
        "receiver.log",
    ]


def test_lines_of_several_processes_stay_whole_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "clara.log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)]) for number in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    lines = [line for name in names(tmp_path) for line in (tmp_path / "logs" / name).read_text().splitlines()]
    assert sorted(lines) == sorted(f"{writer} {number:03d} {'.' * 90}" for writer in range(3) for number in range(500))
    assert len(names(tmp_path)) >= 7


def test_a_folder_that_cannot_be_written_costs_only_the_log(handler: Make, tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    rolling = handler()
    rolling.emit(logging.makeLogRecord({"msg": "lost"}))
    (tmp_path / "logs").unlink()
    rolling.emit(logging.makeLogRecord({"msg": "written"}))
    (name,) = names(tmp_path)
    assert (tmp_path / "logs" / name).read_text() == "written\n"
