"""The alarm for parked data: when it begins, when it is over, and who is told."""

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from support.receiving import Configured, receiving
from support.site import wait_until

from clara_dicom_adapter.cli.parts.receiver import _condition
from clara_dicom_adapter.receiver.parked import ParkedAlarm
from clara_dicom_adapter.receiver.service import ReceiverHealth
from clara_dicom_adapter.spool import Spool, SpoolUsage
from clara_dicom_adapter.spool.space import Space, StorageSpace

GB = 10**9
PARKED = SpoolUsage(instances=7, bytes=700, parked=3, parked_bytes=300)


class Disk:
    """A disk of 1000 GB of which 250 have to stay free."""

    def __init__(self) -> None:
        self.free = 1000 * GB
        self.usage = PARKED
        self.counted = 0
        self.broken = False

    def measure(self) -> Space:
        if self.broken:
            raise OSError("it does not answer")
        return Space(1000 * GB, self.free, 250 * GB)

    def count(self) -> SpoolUsage:
        self.counted += 1
        return self.usage


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def alarm(disk: Disk) -> ParkedAlarm:
    return ParkedAlarm(disk.measure, disk.count, fresh_seconds=0)


def test_it_begins_within_five_points_of_the_watermark_and_is_said_once(disk: Disk, alarm: ParkedAlarm) -> None:
    with capture_logs() as lines:
        disk.free = 301 * GB
        assert alarm() == ""
        assert disk.counted == 0, "while there is room nothing is counted"
        disk.free = 300 * GB
        for _ in range(3):
            assert alarm() == ("3 instances are parked, 300 bytes, and 5.0 % of the disk are left up to its watermark")
        disk.free = 100 * GB  # beyond it
        assert "0.0 %" in alarm()
        disk.free = 301 * GB
        assert alarm() == ""
    assert [(line["event"], line["log_level"]) for line in lines] == [
        ("parked_near_watermark", "warning"),
        ("parked_near_watermark_over", "info"),
    ]


def test_a_full_disk_on_which_nothing_is_parked_is_no_such_alarm(disk: Disk, alarm: ParkedAlarm) -> None:
    disk.free = 0
    disk.usage = replace(PARKED, parked=0, parked_bytes=0)
    assert alarm() == ""
    disk.usage = PARKED
    assert alarm() != ""
    disk.broken = True
    assert alarm() != "", "a disk that does not answer ends no alarm"


def test_it_is_looked_at_now_and_then(disk: Disk) -> None:
    alarm = ParkedAlarm(disk.measure, disk.count, fresh_seconds=3600)
    disk.free = 0
    assert alarm() != ""
    disk.free = 1000 * GB
    assert alarm() != "", "not asked again so soon"
    assert disk.counted == 1


def test_log_health_and_metrics_tell_it_and_the_log_without_being_asked(
    tmp_path: Path, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.free = 0
    monkeypatch.setattr(StorageSpace, "measure", lambda _space: disk.measure())
    monkeypatch.setattr(Spool, "usage", lambda _spool: disk.count())
    with capture_logs() as lines, receiving(tmp_path / "spool", Configured()) as receiver:
        wait_until("it is logged", lambda: "parked_near_watermark" in [line["event"] for line in lines], 20)
        health = receiver.service.health()
        assert health.ready, "the receiver says itself when it cannot store"
        assert _condition(health, [])["warnings"] == [health.parked_near_watermark]
        assert health.parked_near_watermark.startswith("3 instances are parked")
        metrics = receiver.service.metrics.registry
        assert metrics.get_sample_value("clara_dicom_parked_near_watermark") == 1.0
        assert metrics.get_sample_value("clara_dicom_listeners") == 1.0


@pytest.mark.parametrize(
    ("listening", "ready", "warnings"),
    [(2, True, []), (1, True, ["1 of 2 listener processes listen"]), (0, False, [])],
)
def test_a_receiver_works_with_one_listener_and_not_with_none(listening: int, ready: bool, warnings: list[str]) -> None:
    health = ReceiverHealth(
        listeners=2,
        listening=listening,
        listener_pids=(1, 2)[:listening],
        can_store=True,
        configured=True,
        configuration_reachable=True,
        temporal_reachable=True,
        open_associations=0,
        waiting_to_be_told=0,
    )
    told = _condition(health, [])
    assert (told["ready"], told["warnings"], told["listeners"], told["listening"]) == (ready, warnings, 2, listening)
    assert told["reason"] == ("" if ready else "none of its 2 listener processes listens")
