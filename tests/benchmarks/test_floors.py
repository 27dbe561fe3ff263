"""Medians, ratios and floors."""

from typing import Any

import pytest
from receivers.floors import Cell, Cells, Sample, Verdict, ratios, verdicts


def sample(per_second: float, *, cpu_seconds: float = 1.0, process_mb: float = 50.0, **changed: Any) -> Sample:
    given = {
        "instances": 100,
        "bytes": 500_000_000,
        "seconds": 100 / per_second,
        "cpu_seconds": cpu_seconds,
        "memory_mb": 2 * process_mb,
        "receiving_process_mb": process_mb,
    }
    return Sample(**given | changed)


def cell(per_second: float, **changed: Any) -> Cell:
    return Cell.of([sample(per_second, **changed)])


def verdict_of(floor: str, cells: Cells, idle: float | None = None, associations: float | None = None) -> Verdict:
    [found] = [verdict for verdict in verdicts(cells, idle, associations) if verdict.floor == floor]
    return found


def test_a_cell_is_the_median_over_its_rounds() -> None:
    found = Cell.of([sample(100, cpu_seconds=3), sample(400, cpu_seconds=1), sample(200, cpu_seconds=2)])
    assert found.rounds == 3
    assert found.per_second == pytest.approx(200)
    assert found.per_second_range == pytest.approx((100, 400))
    assert found.mb_per_second == pytest.approx(1000)
    assert found.cpu_seconds_per_gb == pytest.approx(4)
    assert found.cpu_seconds_per_1000 == pytest.approx(20)


def test_memory_is_the_most_of_any_round() -> None:
    found = Cell.of([sample(1, process_mb=60), sample(1, process_mb=80), sample(1, process_mb=70)])
    assert (found.memory_mb, found.receiving_process_mb) == (160, 80)


def test_response_times_are_of_all_rounds() -> None:
    found = Cell.of([sample(1, responses=[0.001] * 98), sample(1, responses=[0.5, 0.5])])
    assert (found.response_ms, found.response_p99_ms) == pytest.approx((1, 500))


def test_ratios_are_named_by_load_durability_and_peer() -> None:
    cells = {
        ("ct_1", "ours_durable"): cell(100),
        ("ct_1", "ours_os"): cell(300),
        ("ct_1", "dcmtk"): cell(200),
        ("ct_1", "raw"): cell(400),
        ("ct_1", "raw_os"): cell(600),
        ("small_4", "ours_durable"): cell(50),
        ("small_4", "orthanc"): cell(10),
        ("small_4", "orthanc_nosync"): cell(20),
    }
    assert ratios(cells) == {
        "ct_1_durable/dcmtk": 0.5,
        "ct_1_durable/raw": 0.25,
        "ct_1_os/dcmtk": 1.5,
        "ct_1_os/raw": 0.5,
        "small_4_durable/orthanc": 5.0,
    }


@pytest.mark.parametrize(
    ("ours", "raw", "words"),
    [(45, 90, "met"), (44, 90, "NOT MET"), (44, 44.9, "ruled out by raw"), (45, 44, "met")],
)
def test_a_floor_is_met_or_not_or_ruled_out(ours: float, raw: float, words: str) -> None:
    cells = {("ct_1", "ours_durable"): cell(ours), ("ct_1", "dcmtk"): cell(100), ("ct_1", "raw"): cell(raw)}
    assert verdict_of("ct_1_durable/dcmtk", cells).words == words


def test_what_does_not_flush_is_ruled_out_only_by_a_limit_that_does_not_either() -> None:
    cells = {("ct_1", "ours_os"): cell(50), ("ct_1", "dcmtk_bit"): cell(100), ("ct_1", "raw"): cell(10)}
    assert verdict_of("ct_1_os/dcmtk_bit", cells).words == "NOT MET"
    assert verdict_of("ct_1_os/dcmtk_bit", {**cells, ("ct_1", "raw_os"): cell(80)}).words == "ruled out by raw"


def test_a_floor_without_its_peer_is_not_measured() -> None:
    assert verdict_of("ct_1_durable/dcmtk", {("ct_1", "ours_durable"): cell(45)}).words == "not measured"


@pytest.mark.parametrize(("ours", "met"), [(1.1, True), (1.2, False)])
def test_processor_time_has_a_ceiling(ours: float, met: bool) -> None:
    cells = {("ct_1", "ours_os"): cell(1, cpu_seconds=ours), ("ct_1", "dcmtk"): cell(1, cpu_seconds=1)}
    assert verdict_of("CPU per GB, ct_1_os/dcmtk", cells).met is met


@pytest.mark.parametrize(("megabytes", "met"), [(99, True), (101, False)])
def test_memory_is_that_of_the_largest_process_of_ours(megabytes: float, met: bool) -> None:
    cells = {
        ("ct_1", "ours_os"): cell(1, process_mb=50),
        ("small_8", "ours_durable"): cell(1, process_mb=megabytes),
        ("ct_1", "orthanc"): cell(1, process_mb=500),
    }
    assert verdict_of("largest receiving process, MB", cells).met is met


@pytest.mark.parametrize(("share", "met"), [(0.029, True), (0.031, False), (None, None)])
def test_idling_has_a_ceiling(share: float | None, met: bool | None) -> None:
    assert verdict_of("share of a core with 20 idle associations", {}, share).met is met


@pytest.mark.parametrize(("rate", "met"), [(300.0, True), (299.0, False), (None, None)])
def test_associations_have_a_floor(rate: float | None, met: bool | None) -> None:
    assert verdict_of("associations a second, opened and released", {}, None, rate).met is met
