"""A rolling log file that several processes may write.

Each line is appended in one write, and which file it goes to follows from the time and the sizes of the files alone:
nothing is ever renamed, so nobody has to tell anybody. The names are those of the 0.7 file's Serilog section:
``clara20240501.log``, then ``clara20240501_001.log``.
"""

import logging
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_STAMPS: Final = {
    "Infinite": "",
    "Year": "%Y",
    "Month": "%Y%m",
    "Day": "%Y%m%d",
    "Hour": "%Y%m%d%H",
    "Minute": "%Y%m%d%H%M",
}


@dataclass(frozen=True)
class FileLog:
    """Where and how.

    Attributes:
        interval: A new file is begun for each: Infinite, Year, Month, Day, Hour or Minute, of UTC.
        size_limit: Bytes at which a file is full.
        roll_on_size: Whether another file follows a full one; else what comes is not written.
        retained: How many of the newest files are kept.
    """

    path: Path
    interval: str = "Day"
    size_limit: int = 100_000_000
    roll_on_size: bool = True
    retained: int = 31


class RollingFileHandler(logging.Handler):
    """Appends lines; a disk that is full or gone costs the log, not the process."""

    def __init__(self, file: FileLog) -> None:
        super().__init__()
        self._log = file
        self._name = re.compile(
            re.escape(file.path.stem) + r"(?P<stamp>\d*)(?:_(?P<number>\d{3,}))?" + re.escape(file.path.suffix)
        )
        self._stamp: str | None = None
        self._number = 0
        self._file: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; called with the handler's lock held."""
        try:
            line = self.format(record).encode(errors="backslashreplace") + b"\n"
            self.write(line, datetime.now(UTC))
        except OSError:
            self._close_file()  # tried again with the next line
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Let go of the file."""
        self.acquire()
        try:
            self._close_file()
        finally:
            self.release()
        super().close()

    def write(self, line: bytes, now: datetime) -> None:
        """Append to the file that `now` belongs to."""
        stamp = now.strftime(_STAMPS[self._log.interval])
        if self._file is None or stamp != self._stamp:
            self._stamp, self._number = stamp, max(self._numbers(stamp), default=0)
            self._open()
        while self._file is not None and os.fstat(self._file).st_size + len(line) > self._log.size_limit:
            if os.fstat(self._file).st_size == 0:
                break  # a line that is longer than a file
            if not self._log.roll_on_size:
                return
            self._number += 1
            self._open()
        if self._file is not None:
            os.write(self._file, line)

    def _open(self) -> None:
        self._close_file()
        self._log.path.parent.mkdir(parents=True, exist_ok=True)
        number = f"_{self._number:03}" if self._number else ""
        path = self._log.path.with_name(f"{self._log.path.stem}{self._stamp}{number}{self._log.path.suffix}")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._remove_old()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                os.close(file)

    def _files(self) -> list[tuple[str, int, Path]]:
        """Those of this log, the oldest first."""
        with suppress(OSError):
            matches = [(self._name.fullmatch(path.name), path) for path in self._log.path.parent.iterdir()]
            return sorted((match["stamp"], int(match["number"] or 0), path) for match, path in matches if match)
        return []

    def _numbers(self, stamp: str) -> list[int]:
        return [number for known, number, _ in self._files() if known == stamp]

    def _remove_old(self) -> None:
        for _, _, path in self._files()[: -self._log.retained]:
            with suppress(OSError):  # another process was faster
                path.unlink()
