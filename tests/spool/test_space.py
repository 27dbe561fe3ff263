"""The watermark rule of the original (reserved is the stricter of the two; free must be more)."""

import os
from pathlib import Path

import pytest

from clara_dicom_adapter.configuration.settings import StorageSettings
from clara_dicom_adapter.errors import StorageFull
from clara_dicom_adapter.spool.space import Space, StorageSpace, reserved_bytes

GB = 1_000_000_000


@pytest.mark.parametrize(
    ("total", "watermark", "reserve", "reserved"),
    [
        (100 * GB, 75, 5, 25 * GB),
        (100 * GB, 99, 5, 5 * GB),
        (100 * GB, 100, 0, 0),
        (10 * GB, 75, 5, 5 * GB),
        (100 * GB, 1, 5, 99 * GB),
    ],
)
def test_the_stricter_of_the_two_counts(total: int, watermark: int, reserve: float, reserved: int) -> None:
    settings = StorageSettings(watermark_percent=watermark, reserve_space_gb=reserve)
    assert reserved_bytes(total, settings) == reserved


def test_just_as_much_as_is_reserved_is_not_enough() -> None:
    assert not Space(total_bytes=100, free_bytes=25, reserved_bytes=25).available
    assert Space(total_bytes=100, free_bytes=26, reserved_bytes=25).available


def test_the_disk_is_asked(tmp_path: Path) -> None:
    roomy = StorageSpace(tmp_path, StorageSettings(watermark_percent=100, reserve_space_gb=0))
    roomy.check()
    disk = os.statvfs(tmp_path)
    assert roomy.measure().total_bytes == disk.f_blocks * disk.f_frsize
    with pytest.raises(StorageFull) as full:
        StorageSpace(tmp_path, StorageSettings(reserve_space_gb=10**9)).check()
    assert full.value.reserved_bytes == 10**9 * GB
    with pytest.raises(OSError, match="No such file"):
        StorageSpace(tmp_path / "absent", StorageSettings()).check()
