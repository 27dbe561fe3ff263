"""How fast an association is: over the last seconds, not since it began."""

import pytest

from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.pace import Pace


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_last_five_seconds() -> None:
    clock, live = Clock(), LiveAssociation("a", "CT1", "CLARA", "192.0.2.7")
    pace = Pace(clock)
    pace.read(live)

    def rate() -> float:
        seen = pace.look(live, queued=0)
        assert seen.bytes_per_second == pytest.approx(1000 * seen.instances_per_second)
        return seen.instances_per_second

    assert rate() == 0
    for _ in range(100):  # ten a second, for ten seconds
        clock.now += 0.1
        live.instances, live.bytes = live.instances + 1, live.bytes + 1000
        pace.read(live)
    assert rate() == pytest.approx(10, rel=0.05)
    clock.now += 2.5
    assert rate() == pytest.approx(5, rel=0.05), "half of the window without any"
    clock.now += 5
    assert rate() == 0
    pace.forget("a")
    assert rate() == 0


def test_flushes_are_told_on_average_and_only_when_there_were_any() -> None:
    live = LiveAssociation("a", "CT1", "CLARA", "192.0.2.7", instances=4)
    assert Pace().look(live, queued=4).flush_ms is None
    live.flushes, live.flush_seconds = 4, 0.010
    assert Pace().look(live, queued=4).flush_ms == 2.5
