"""Medians, ratios to the peers, and the floors they are held against: arithmetic only."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

OURS: Final[Mapping[str, str]] = {"durable": "ours_durable", "os": "ours_os", "segments": "ours_segments"}
"""Our durability to the receiver's name."""
PEERS: Final = ("dcmtk", "dcmtk_bit", "orthanc", "dicom_rs", "pynetdicom", "raw")
RAW: Final[Mapping[str, str]] = {"durable": "raw", "os": "raw_os", "segments": "raw"}
"""Our durability to the raw limit with the same."""


@dataclass(frozen=True)
class Sample:
    """One receiver with one set, once."""

    instances: int
    bytes: int
    seconds: float
    cpu_seconds: float
    """Of the receiver, all its processes."""
    memory_mb: float
    """The most that was resident, all processes added up."""
    receiving_process_mb: float
    responses: Sequence[float] = ()
    """Seconds to each response."""


@dataclass(frozen=True)
class Cell:
    """One receiver with one set: medians over the rounds."""

    rounds: int
    per_second: float
    per_second_range: tuple[float, float]
    mb_per_second: float
    cpu_seconds_per_gb: float
    cpu_seconds_per_1000: float
    memory_mb: float
    receiving_process_mb: float
    response_ms: float
    response_p99_ms: float

    @classmethod
    def of(cls, samples: Sequence[Sample]) -> "Cell":
        rates = [sample.instances / sample.seconds for sample in samples]
        waits = sorted(1000 * wait for sample in samples for wait in sample.responses) or [0.0]

        def median(values: Iterator[float]) -> float:
            return statistics.median(values)

        return cls(
            rounds=len(samples),
            per_second=statistics.median(rates),
            per_second_range=(min(rates), max(rates)),
            mb_per_second=median(sample.bytes / 1e6 / sample.seconds for sample in samples),
            cpu_seconds_per_gb=median(sample.cpu_seconds / (sample.bytes / 1e9) for sample in samples),
            cpu_seconds_per_1000=median(1000 * sample.cpu_seconds / sample.instances for sample in samples),
            memory_mb=max(sample.memory_mb for sample in samples),
            receiving_process_mb=max(sample.receiving_process_mb for sample in samples),
            response_ms=statistics.median(waits),
            response_p99_ms=waits[min(len(waits) - 1, round(0.99 * (len(waits) - 1)))],
        )

    def figures(self) -> dict[str, Any]:
        return {name: _rounded(value) for name, value in asdict(self).items()}


Cells = Mapping[tuple[str, str], Cell]
"""``<set>_<associations>`` and receiver to what was measured."""


def ratios(cells: Cells) -> dict[str, float]:
    """Our instances per second in the peer's: ``<set>_<associations>_<durability>/<peer>``."""
    found = {}
    for load in dict.fromkeys(load for load, _ in cells):
        for durability, ours in OURS.items():
            for peer in PEERS:
                own, other = cells.get((load, ours)), cells.get((load, _receiver(peer, durability)))
                if own is not None and other is not None:
                    found[f"{load}_{durability}/{peer}"] = round(own.per_second / other.per_second, 3)
    return found


def _receiver(peer: str, durability: str) -> str:
    return RAW[durability] if peer == "raw" else peer


@dataclass(frozen=True)
class Floor:
    """Our instances per second are at least so many times the peer's."""

    load: str
    durability: str
    peer: str
    at_least: float


@dataclass(frozen=True)
class CpuCeiling:
    """Our processor time per GB is at most so many times the peer's."""

    load: str
    durability: str
    peer: str
    at_most: float


FLOORS: Final = (
    Floor("ct_1", "durable", "dcmtk", 0.45),
    Floor("ct_1", "durable", "dicom_rs", 1.4),
    Floor("ct_1", "durable", "orthanc", 3),
    Floor("ct_1", "durable", "pynetdicom", 4),
    Floor("small_1", "durable", "dcmtk", 0.4),
    Floor("small_1", "durable", "orthanc", 2.5),
    Floor("small_1", "durable", "pynetdicom", 4),
    Floor("large_1", "durable", "dcmtk", 1.5),
    Floor("ct_4", "durable", "dcmtk", 0.5),
    Floor("ct_8", "durable", "dcmtk", 0.6),
    Floor("ct_1", "os", "dcmtk_bit", 0.9),
    Floor("small_1", "os", "dcmtk_bit", 0.9),
    Floor("large_1", "os", "dcmtk_bit", 1.3),
    Floor("each_1", "os", "dcmtk", 0.8),
)
CEILINGS: Final = tuple(CpuCeiling(load, "os", "dcmtk", 1.1) for load in ("ct_1", "small_1", "large_1"))
MEMORY_MB: Final = 100
"""No process of our receiver is larger, whatever it receives."""
IDLE_SHARE: Final = 0.03
"""Of one core, with idle associations."""

ASSOCIATIONS_PER_SECOND: Final = 300
"""Opened and released."""


@dataclass(frozen=True)
class Verdict:
    """What became of a floor.

    Attributes:
        raw: What the raw limit of the same run reaches, in the same ratio; None without it.
        ruled_out_by_raw: The raw limit itself is beyond the floor, so no receiver can meet it here.
    """

    floor: str
    limit: float
    value: float | None
    met: bool | None
    raw: float | None = None
    ruled_out_by_raw: bool = False

    @property
    def words(self) -> str:
        if self.met is None:
            return "not measured"
        if self.met:
            return "met"
        return "ruled out by raw" if self.ruled_out_by_raw else "NOT MET"


def verdicts(cells: Cells, idle_share: float | None, associations_per_second: float | None) -> list[Verdict]:
    """Every floor, measured or not."""
    found = [_rate(cells, floor) for floor in FLOORS]
    found += [_cpu(cells, ceiling) for ceiling in CEILINGS]
    largest = [cell.receiving_process_mb for (_, receiver), cell in cells.items() if receiver in OURS.values()]
    found.append(_at_most("largest receiving process, MB", MEMORY_MB, max(largest) if largest else None))
    found.append(_at_most("share of a core with 20 idle associations", IDLE_SHARE, idle_share))
    enough = None if associations_per_second is None else associations_per_second >= ASSOCIATIONS_PER_SECOND
    name = "associations a second, opened and released"
    found.append(Verdict(name, ASSOCIATIONS_PER_SECOND, _rounded(associations_per_second), enough))
    return found


def _rate(cells: Cells, floor: Floor) -> Verdict:
    name = f"{floor.load}_{floor.durability}/{floor.peer}"
    own, peer = cells.get((floor.load, OURS[floor.durability])), cells.get((floor.load, floor.peer))
    if own is None or peer is None:
        return Verdict(name, floor.at_least, None, None)
    value = own.per_second / peer.per_second
    limit = cells.get((floor.load, RAW[floor.durability]))
    raw = limit.per_second / peer.per_second if limit else None
    return Verdict(
        name,
        floor.at_least,
        round(value, 3),
        value >= floor.at_least,
        _rounded(raw),
        ruled_out_by_raw=raw is not None and raw < floor.at_least,
    )


def _cpu(cells: Cells, ceiling: CpuCeiling) -> Verdict:
    name = f"CPU per GB, {ceiling.load}_{ceiling.durability}/{ceiling.peer}"
    own, peer = cells.get((ceiling.load, OURS[ceiling.durability])), cells.get((ceiling.load, ceiling.peer))
    if own is None or peer is None or not peer.cpu_seconds_per_gb:
        return Verdict(name, ceiling.at_most, None, None)
    value = own.cpu_seconds_per_gb / peer.cpu_seconds_per_gb
    limit = cells.get((ceiling.load, RAW[ceiling.durability]))
    raw = limit.cpu_seconds_per_gb / peer.cpu_seconds_per_gb if limit else None
    return Verdict(
        name,
        ceiling.at_most,
        round(value, 3),
        value <= ceiling.at_most,
        _rounded(raw),
        ruled_out_by_raw=raw is not None and raw > ceiling.at_most,
    )


def _at_most(name: str, limit: float, value: float | None) -> Verdict:
    return Verdict(name, limit, _rounded(value), None if value is None else value <= limit)


def _rounded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_rounded(each) for each in value)
    return round(value, 3) if isinstance(value, float) else value
