"""What it costs to make instances durable, in each way that was considered, for one writer and for several.

    make bench BENCH=flushes

Each writer is a thread, as an association is, and writes one instance after the other in pieces of 128 KiB; the next
one begins when the one before is as durable as the way promises. Ways take turns, in rounds; medians are shown. Run it
on the disk that is meant (``--folder``). Decisions 0009 and 0013 rest on it.
"""

import argparse
import ctypes
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

PIECE: Final = 128 << 10
SIZES: Final = {"ct": 525_000, "small": 12_000}
WRITERS: Final = (1, 4, 8)
_SYNC_FILE_RANGE_WRITE: Final = 2
_libc: Final = ctypes.CDLL(None, use_errno=True)
_PAGE: Final = 4096
_SURPLUS: Final = 1 / 8
"""Of an instance, by which its prepared file is longer; about what the receiver's sizes come to."""
_LAP: Final = 16 << 20
"""Bytes of a segment that are written again together."""
_ZEROS: Final = memoryview(bytes(1 << 20))
_DATA: Final = memoryview(os.urandom(max(SIZES.values())))


def _write(descriptor: int, size: int, each: Callable[[int, int], None] = lambda at, length: None) -> None:
    for at in range(0, size, PIECE):
        length = os.write(descriptor, _DATA[at : min(at + PIECE, size)])
        each(at, length)


def _fill(descriptor: int, size: int) -> None:
    while size > 0:
        size -= os.write(descriptor, _ZEROS[: min(size, len(_ZEROS))])


def _open(folder: Path, number: int) -> tuple[int, Path]:
    part = folder / f"{number}.part"
    return os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL), part


class Way(ABC):
    """A way to make instances durable; one object for all writers of a run."""

    def __init__(self, root: Path, writers: int, size: int, most: int) -> None:
        """Args:
        most: Instances that each writer may write, for what is prepared.
        """
        self.size = size
        self.folders = [root / str(writer) for writer in range(writers)]
        for folder in self.folders:
            folder.mkdir(parents=True)
        self.descriptors = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in self.folders]

    @abstractmethod
    def store(self, writer: int, number: int) -> None:
        """Write one instance; it is durable when this returns."""

    def finish(self) -> None:  # noqa: B027 - most have nothing to wait for
        """All are durable; wait for what is done behind their backs, for it counts as well."""

    def close(self) -> None:
        """Nothing is measured any more."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class NotFlushed(Way):
    """Written and renamed."""

    def write(self, descriptor: int) -> None:
        _write(descriptor, self.size)

    def flush(self, descriptor: int) -> None:
        """Nothing."""

    def named(self, writer: int) -> None:
        """Nothing."""

    def store(self, writer: int, number: int) -> None:
        descriptor, part = _open(self.folders[writer], number)
        self.write(descriptor)
        self.flush(descriptor)
        os.close(descriptor)
        part.rename(part.with_suffix(".dcm"))
        self.named(writer)


class NewFile(NotFlushed):
    """fdatasync of the file, rename, fsync of the folder."""

    def flush(self, descriptor: int) -> None:
        os.fdatasync(descriptor)

    def named(self, writer: int) -> None:
        os.fsync(self.descriptors[writer])


class EarlyWriteOut(NewFile):
    """The same, each piece on its way to the disk as soon as it is written (sync_file_range)."""

    def write(self, descriptor: int) -> None:
        def out(at: int, length: int) -> None:
            _libc.sync_file_range(descriptor, ctypes.c_long(at), ctypes.c_long(length), _SYNC_FILE_RANGE_WRITE)

        _write(descriptor, self.size, out)


class Reserved(NewFile):
    """The same, the blocks reserved first (fallocate)."""

    def write(self, descriptor: int) -> None:
        os.posix_fallocate(descriptor, 0, self.size)
        _write(descriptor, self.size)


class FileSystem(NotFlushed):
    """Written and renamed, and the whole file system flushed (syncfs)."""

    def named(self, writer: int) -> None:
        if _libc.syncfs(self.descriptors[writer]):
            raise OSError(ctypes.get_errno(), "syncfs")


class GroupCommit(NotFlushed):
    """Written and renamed; one thread flushes the file system for all who wait (syncfs)."""

    def __init__(self, root: Path, writers: int, size: int, most: int) -> None:
        super().__init__(root, writers, size, most)
        self._changed = threading.Condition()
        self._asked = self._done = 0
        self._over = False
        self._thread = threading.Thread(target=self._commit)
        self._thread.start()

    def named(self, writer: int) -> None:
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._done >= mine)

    def _commit(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._over or self._asked > self._done)
                if self._over:
                    return
                group = self._asked
            if _libc.syncfs(self.descriptors[0]):
                raise OSError(ctypes.get_errno(), "syncfs")
            with self._changed:
                self._done = group
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join()
        super().close()


class Prepared(Way):
    """Over a file that is on the disk already and somewhat longer, and fdatasync; nothing else."""

    def __init__(self, root: Path, writers: int, size: int, most: int) -> None:
        super().__init__(root, writers, size, most)
        for folder in self.folders:
            for number in range(most):
                descriptor, _ = _open(folder, number)
                _fill(descriptor, int(size * (1 + _SURPLUS)))
                os.close(descriptor)
        os.sync()

    def store(self, writer: int, number: int) -> None:
        part = self.folders[writer] / f"{number}.part"
        descriptor = os.open(part, os.O_WRONLY)
        _write(descriptor, self.size)
        os.fdatasync(descriptor)
        self.durable(descriptor, part)

    def durable(self, descriptor: int, part: Path) -> None:
        os.close(descriptor)


class CutAndRenamed(Prepared):
    """The same, then cut to its length and renamed; no flush of that."""

    def durable(self, descriptor: int, part: Path) -> None:
        os.ftruncate(descriptor, self.size)
        part.rename(part.with_suffix(".dcm"))
        os.close(descriptor)


class NamedBehind(CutAndRenamed):
    """The same, cut and renamed by one thread for all writers, while they write the next: as the receiver does it."""

    def __init__(self, root: Path, writers: int, size: int, most: int) -> None:
        super().__init__(root, writers, size, most)
        self._naming = ThreadPoolExecutor(max_workers=1)

    def durable(self, descriptor: int, part: Path) -> None:
        self._naming.submit(super().durable, descriptor, part)

    def finish(self) -> None:
        self._naming.shutdown()


class Segment(Way):
    """Appended by all writers to one file that is on the disk already; one fdatasync for all who wait for one.

    Whoever finds nobody flushing flushes, for everything that is written by then.
    """

    def __init__(self, root: Path, writers: int, size: int, most: int) -> None:
        super().__init__(root, writers, size, most)
        self.each = size + -size % _PAGE  # who overwrites a part of a page may have to read it first
        self.path = root / "segment"
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        _fill(self._descriptor, self.each * writers * most)
        os.sync()
        self._changed = threading.Condition()
        self._begun = self._written = self._durable = 0
        self._flushing = False

    def store(self, writer: int, number: int) -> None:
        with self._changed:
            begin = self._begun * self.each
            self._begun += 1
        for at in range(0, self.size, PIECE):
            os.pwrite(self._descriptor, _DATA[at : min(at + PIECE, self.size)], begin + at)
        with self._changed:
            self._written += 1
            mine = self._written
            self._changed.wait_for(lambda: self._durable >= mine or not self._flushing)
            if self._durable >= mine:
                return
            self._flushing, group = True, self._written
        os.fdatasync(self._descriptor)
        with self._changed:
            self._flushing, self._durable = False, group
            self._changed.notify_all()

    @property
    def written(self) -> int:
        """Instances whose writers wait for a flush, or have had it."""
        with self._changed:
            return self._written

    def close(self) -> None:
        os.close(self._descriptor)
        super().close()


class Journal(Segment):
    """The same, and one thread makes a file of each, which nothing waits for.

    Another one flushes the files before their part of the segment may be written again (syncfs).
    """

    def __init__(self, root: Path, writers: int, size: int, most: int) -> None:
        super().__init__(root, writers, size, most)
        self._naming = ThreadPoolExecutor(max_workers=1)
        self._flushes = ThreadPoolExecutor(max_workers=1)
        self._unflushed = 0

    def store(self, writer: int, number: int) -> None:
        super().store(writer, number)
        self._naming.submit(self._name, writer, number)

    def _name(self, writer: int, number: int) -> None:
        descriptor, part = _open(self.folders[writer], number)
        _write(descriptor, self.size)
        os.close(descriptor)
        part.rename(part.with_suffix(".dcm"))
        self._unflushed += self.each
        if self._unflushed >= _LAP:
            self._unflushed = 0
            self._flushes.submit(self._flush, self.descriptors[writer])

    @staticmethod
    def _flush(descriptor: int) -> None:
        if _libc.syncfs(descriptor):
            raise OSError(ctypes.get_errno(), "syncfs")

    def finish(self) -> None:
        self._naming.shutdown()
        self._flushes.shutdown()


WAYS: Final[dict[str, type[Way]]] = {
    "not flushed": NotFlushed,
    "new file": NewFile,
    "new file, sync_file_range": EarlyWriteOut,
    "new file, fallocate": Reserved,
    "new file, syncfs": FileSystem,
    "group commit, syncfs": GroupCommit,
    "prepared file": Prepared,
    "prepared file, cut and renamed": CutAndRenamed,
    "prepared file, cut and renamed behind": NamedBehind,
    "segment file": Segment,
    "segment file, and a file behind": Journal,
}


def run(root: Path, way: type[Way], writers: int, size: int, most: int) -> float:
    """Instances a second, over all writers."""
    stored = way(root, writers, size, most)
    begin = threading.Barrier(writers + 1)

    def write(writer: int) -> None:
        begin.wait()
        for number in range(most):
            stored.store(writer, number)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    begin.wait()
    before = time.perf_counter()
    for thread in threads:
        thread.join()
    stored.finish()
    seconds = time.perf_counter() - before
    stored.close()
    os.sync()
    return writers * most / seconds


def measure(folder: Path, rounds: int, instances: int) -> list[dict[str, object]]:
    """Every way with every set and number of writers, in turns."""
    found: dict[tuple[str, int, str], list[float]] = {}
    for number in range(rounds):
        for name, size in SIZES.items():
            for writers in WRITERS:
                for way, kind in WAYS.items():
                    print(f"round {number + 1}: {name}, {writers}, {way}", file=sys.stderr, flush=True)
                    # a folder of its own each time: deleting makes later files slow to create
                    root = folder / f"{number}-{name}-{writers}-{way.replace(' ', '-')}"
                    rate = run(root, kind, writers, size, max(instances // writers, 1))
                    found.setdefault((name, writers, way), []).append(rate)
    return [
        {"set": name, "writers": writers, "way": way, "per_second": round(statistics.median(rates))}
        for (name, writers, way), rates in found.items()
    ]


def show(rows: Sequence[dict[str, object]]) -> None:
    """A table for each set."""
    rates = {(row["set"], row["way"], row["writers"]): row["per_second"] for row in rows}
    for name, size in SIZES.items():
        heads = (f"{count} writer{'s' if count > 1 else ''}" for count in WRITERS)
        table = Table("", *heads, title=f"instances of {size:,} bytes a second")
        for way in WAYS:
            table.add_row(way, *(str(rates[name, way, count]) for count in WRITERS))
        Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--folder", type=Path, help="on the disk that is measured (default: the folder for temporary files)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--instances", type=int, default=400, help="of each run, over all writers (default 400)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-flushes-", dir=given.folder) as folder:
        rows = measure(Path(folder), given.rounds, given.instances)
    show(rows)
    print(json.dumps({"benchmark": "flushes", "rows": rows}))


if __name__ == "__main__":
    main()
