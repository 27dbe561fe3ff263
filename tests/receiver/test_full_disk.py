"""A disk that is really full: what does not fit is answered A700, and nothing else is hurt."""

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from support.receiver_wire import established, message_with, store_message, store_response
from support.site import wait_until
from support.started import in_a_small_disk, receiver_process

from clara_dicom_adapter.spool.association import AssociationFolder
from clara_dicom_adapter.spool.prepared import PREPARED, SIZES, size_of
from clara_dicom_adapter.spool.seal import seal_of

DISK_MB = 8
LARGER_DISK_MB = 60
PREPARED_MB = 8
SUCCESS = 0
OUT_OF_RESOURCES = 0xA700


def store(peer: socket.socket, uid: str, size: int) -> int:
    """Status of one instance."""
    peer.sendall(store_message(uid, size, pdu_length=16384))
    answered, status = store_response(peer)
    assert answered == uid
    return status


def fill(ballast: Path) -> None:
    """Take what is left of a disk."""
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def that_are(prepared: Path, what: Callable[[Path], bool]) -> list[Path]:
    """Prepared files of a receiver that makes some, and takes some away, meanwhile."""
    found = []
    for path in prepared.iterdir():
        with suppress(FileNotFoundError):
            if size_of(path.name) is not None and what(path):
                found.append(path)
    return found


def outgrown(path: Path) -> bool:
    """Whether a prepared file is longer than it was made."""
    return path.stat().st_size > (size_of(path.name) or 0)


def test_what_does_not_fit_is_answered_a700_and_everything_else_goes_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with receiver_process(disk / "spool", before=in_a_small_disk(disk, DISK_MB), log=tmp_path / "log") as (
        process,
        port,
    ):
        inside = Path(f"/proc/{process.pid}/root{disk}")
        assert disk.stat().st_dev != inside.stat().st_dev
        parts = inside / "spool" / "associations"
        with established(port) as first, established(port) as second:
            whole = message_with("1.2.2.1", b"\2" * 200_000, pdu_length=16384)
            second.sendall(whole[:100_000])
            wait_until("it is in the middle of an instance", lambda: len(list(parts.glob("*/[0-9]*.part"))) == 1, 10)
            (of_second,) = parts.glob("*/[0-9]*.part")

            assert store(first, "1.2.1.1", 500_000) == SUCCESS
            assert store(first, "1.2.1.2", 2 * DISK_MB * 1_000_000) == OUT_OF_RESOURCES
            assert list(parts.glob("*/[0-9]*.part")) == [of_second]
            assert store(first, "1.2.1.3", 500_000) == SUCCESS
            second.sendall(whole[100_000:])
            assert store_response(second) == ("1.2.2.1", SUCCESS)

            fill(inside / "ballast")
            assert store(first, "1.2.1.4", 500_000) == OUT_OF_RESOURCES
            assert store(second, "1.2.2.2", 500_000) == OUT_OF_RESOURCES
            assert list(parts.glob("*/[0-9]*.part")) == []
            (inside / "ballast").unlink()
            again = iter(range(5, 1000))  # space is looked at once a second
            wait_until("there is space", lambda: store(first, f"1.2.1.{next(again)}", 100_000) == SUCCESS, 10)
            assert store(second, "1.2.2.3", 100_000) == SUCCESS

        folders = [AssociationFolder.read(path, durable=False) for path in parts.iterdir()]
        wait_until("both have ended", lambda: all(folder.outcome is not None for folder in folders), 10)
        stored = {one.sop_instance_uid: one for folder in folders for one in folder.stored()}
        last = f"1.2.1.{next(again) - 1}"
        assert set(stored) == {"1.2.1.1", "1.2.1.3", last, "1.2.2.1", "1.2.2.3"}
        assert stored["1.2.2.1"].path.read_bytes().endswith(b"\2" * 200_000)
        assert stored["1.2.1.3"].path.read_bytes().endswith(bytes(500_000))
        failed = sorted(folder.outcome.failed_instances for folder in folders if folder.outcome is not None)
        assert failed[0] == 1
        assert failed[1] >= 2


def test_what_outgrows_its_prepared_file_on_a_full_disk_hurts_no_other(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    before = in_a_small_disk(disk, LARGER_DISK_MB)
    with receiver_process(disk / "spool", before=before, log=tmp_path / "log", prepared_mb=PREPARED_MB) as (
        process,
        port,
    ):
        inside = Path(f"/proc/{process.pid}/root{disk}")
        (mount,) = (
            line for line in Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines() if str(disk) in line
        )
        if " - ext4 " not in mount:
            pytest.skip("no loop device: a small disk cannot be ext4 here")
        prepared, associations = inside / "spool" / PREPARED, inside / "spool" / "associations"
        wait_until("files are prepared", lambda: {size_of(path.name) for path in prepared.iterdir()} >= {*SIZES[:2]})
        with established(port) as first, established(port) as second:
            whole = message_with("1.2.2.1", b"\2" * 500_000, pdu_length=16384)
            second.sendall(whole[:300_000])
            assert store(first, "1.2.1.1", 500_000) == SUCCESS
            assert len(list(associations.glob("*/*.part"))) == 0, "both are in prepared files"

            assert store(first, "1.2.1.2", 2 * LARGER_DISK_MB * 1_000_000) == OUT_OF_RESOURCES
            assert that_are(prepared, outgrown) == []
            assert store(first, "1.2.1.3", 500_000) == SUCCESS

            fill(inside / "ballast")
            second.sendall(whole[300_000:])
            assert store_response(second) == ("1.2.2.1", SUCCESS), "its blocks were its own"
            (inside / "ballast").unlink()
            again = iter(range(4, 1000))  # space is looked at once a second
            wait_until("there is space", lambda: store(first, f"1.2.1.{next(again)}", 100_000) == SUCCESS, 10)

        folders = [AssociationFolder.read(path, durable=False) for path in associations.iterdir()]
        wait_until("both have ended", lambda: all(folder.outcome is not None for folder in folders), 10)
        stored = {one.sop_instance_uid: one for folder in folders for one in folder.stored()}
        assert set(stored) == {"1.2.1.1", "1.2.1.3", f"1.2.1.{next(again) - 1}", "1.2.2.1"}
        assert stored["1.2.2.1"].path.read_bytes().endswith(b"\2" * 500_000)
        sealed = [seal_of(stored[uid].path) is not None for uid in ("1.2.1.1", "1.2.1.3", "1.2.2.1")]
        assert sealed == [True, True, True]
        assert that_are(prepared, lambda path: seal_of(path) is not None) == []
