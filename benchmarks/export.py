"""Our sender beside others, to the same receivers: interleaved rounds, medians, ratios.

    make bench BENCH=export ARGS=--quick

Ours as an export runs it, journal and all; stock pynetdicom's send_c_store with TCP_NODELAY; dcmtk's and dicom-rs's
storescu, and dcm4che's where it is installed; and what the receiver takes at most (``limit``), of one that reads no
files. A goal that this does not reach either is ruled out by the receiver. Receivers: dcmtk's storescp, bit-preserving,
and our own. Several associations are as many processes, but of ours one process. In the first round every dataset that
arrived is compared with the one sent. Exit status 1: ours failed or altered something; the tables say which goals are
met.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from machine import filesystem
from receive import place, tell
from receivers import sets
from receivers.ours import OURS as OUR_RECEIVERS
from receivers.peers import PEERS, Load, Peer
from receivers.process import Failed, LeftOut
from receivers.run import Bench
from receivers.sets import Comparison, InstanceSet
from rich.console import Console
from rich.table import Table
from senders.programs import LIMIT, OURS, SENDERS, Sender, Sent, Share

RECEIVERS: Final[Mapping[str, Peer]] = {"dcmtk": PEERS["dcmtk_bit"], "ours": OUR_RECEIVERS["ours_os"]}
SETS: Final = ("ct", "small", "large")
ASSOCIATIONS: Final = (1, 4)
ROUNDS: Final = 5
GOALS: Final = {
    "ct_1/dcmtk": 1.0,
    "small_1/dcmtk": 1.0,
    "large_1/dcmtk": 1.0,
    "small_4/dcmtk": 1.5,
    "ct_1/pynetdicom": 8.0,
}
"""Our instances per second in the peer's, to dcmtk's receiver."""
MEMORY_MB: Final = 100


@dataclass(frozen=True)
class Cell:
    """One sender with one load: medians over the rounds."""

    rounds: int
    per_second: float
    lowest: float
    highest: float
    mb_per_second: float
    cpu_seconds_per_gb: float
    cpu_ms_per_instance: float
    memory_mb: float
    """The most of any round, all processes added up."""

    @classmethod
    def of(cls, samples: Sequence[Sent]) -> "Cell":
        rates = [sample.instances / sample.seconds for sample in samples]
        return cls(
            rounds=len(samples),
            per_second=round(statistics.median(rates), 1),
            lowest=round(min(rates), 1),
            highest=round(max(rates), 1),
            mb_per_second=round(statistics.median(sample.bytes / 1e6 / sample.seconds for sample in samples), 1),
            cpu_seconds_per_gb=round(statistics.median(s.cpu_seconds / (s.bytes / 1e9) for s in samples), 3),
            cpu_ms_per_instance=round(statistics.median(1000 * s.cpu_seconds / s.instances for s in samples), 3),
            memory_mb=round(max(sample.memory_mb for sample in samples), 1),
        )


Cells = Mapping[tuple[str, str], Cell]
"""Load and sender to what was measured."""


def ratios(cells: Cells) -> dict[str, float]:
    """Our instances per second in the others': ``<set>_<associations>/<sender>``, with ``_to_ours`` to our receiver."""
    return {
        f"{load}/{name}": round(cells[load, OURS].per_second / cell.per_second, 3)
        for (load, name), cell in cells.items()
        if name != OURS and (load, OURS) in cells
    }


def load_name(instances: str, associations: int, receiver: str) -> str:
    return f"{instances}_{associations}" + ("" if receiver == "dcmtk" else f"_to_{receiver}")


def verdict(cells: Cells, what: str, limit: float) -> str:
    """Whether a goal is met: our instances per second in those of a peer, at least so many times."""
    load, _, name = what.partition("/")
    if (load, OURS) not in cells or (load, name) not in cells:
        return "not measured"
    ours, peer, most = cells[load, OURS], cells[load, name], cells.get((load, LIMIT))
    if ours.per_second >= limit * peer.per_second:
        return "met"
    return "ruled out by the receiver" if most and most.per_second < limit * peer.per_second else "NOT MET"


class Campaign:
    """All runs of a benchmark, and what came of them."""

    def __init__(self, bench: Bench, senders: Sequence[str], receivers: Sequence[str]) -> None:
        self._bench = bench
        self.left_out: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.verified: dict[str, Comparison] = {}
        self._samples: defaultdict[tuple[str, str], list[Sent]] = defaultdict(list)
        self._receivers = {name: RECEIVERS[name].program(bench.root) for name in receivers}
        self._senders: dict[str, Path] = {}
        for name in senders:
            try:
                self._senders[name] = SENDERS[name].program(bench.root)
            except LeftOut as error:
                self.left_out[name] = str(error)
                tell(f"{name} is left out: {error}")

    def measure(self, sent: Sequence[tuple[InstanceSet, int]], rounds: int) -> None:
        """Every sender with every load, round by round; who begins changes from round to round."""
        names = list(self._senders)
        for number in range(rounds):
            for instances, associations in sent:
                for receiver in self._receivers:
                    for name in names[number % len(names) :] + names[: number % len(names)]:
                        load = load_name(instances.name, associations, receiver)
                        said = self._once(SENDERS[name], load, instances, associations, receiver)
                        tell(f"round {number + 1} of {rounds}, {load}, {name}: {said}")

    def _once(self, sender: Sender, load: str, sent: InstanceSet, associations: int, receiver: str) -> str:
        folder = self._bench.folder(f"{load}-{sender.name}")
        peer = RECEIVERS[receiver]
        try:
            running = peer.run(self._receivers[receiver], folder, Load(associations))
            try:
                shares = _shares(folder / "shares", sent, running.port, associations, sender)
                sample = sender.run(self._senders[sender.name], shares, sent.bytes)
            finally:
                running.end()
        except Failed as error:
            self.failed[f"{load}/{sender.name}"] = str(error)
            return f"FAILED: {error}"
        self._samples[load, sender.name].append(sample)
        what = f"{load}/{sender.name}"
        if what not in self.verified:
            self.verified[what] = sent.compare(peer.files(folder))
        return f"{sample.instances / sample.seconds:.0f} instances/s"

    @property
    def cells(self) -> dict[tuple[str, str], Cell]:
        return {key: Cell.of(samples) for key, samples in self._samples.items()}

    @property
    def ours_is_right(self) -> bool:
        """Whether ours sent everything, and as it was."""
        wrong = [what for what, found in self.verified.items() if not found.all_same_bytes]
        return not any(what.rpartition("/")[2] == OURS for what in [*wrong, *self.failed])


def _shares(root: Path, sent: InstanceSet, port: int, associations: int, sender: Sender) -> list[Share]:
    """Folders with links to the files: one for each process."""
    count = 1 if sender.threads else associations
    files = sorted(sent.files.values())
    shares = []
    for number in range(count):
        folder, scratch = root / str(number), root / f"{number}-scratch"
        folder.mkdir(parents=True)
        scratch.mkdir()
        for path in files[number::count]:
            os.link(path, folder / path.name)
        shares.append(Share(port, folder, associations if sender.threads else 1, scratch))
    return shares


def show(campaign: Campaign) -> None:
    """The tables."""
    console = Console() if sys.stdout.isatty() else Console(width=140)
    cells, found = campaign.cells, ratios(campaign.cells)
    columns = (
        "instances/s", "lowest to highest", "ours: times", "MB/s", "CPU s/GB", "CPU ms each", "peak MB", "same bytes"
    )  # fmt: skip
    for load in dict.fromkeys(load for load, _ in cells):
        table = Table("sender", *columns, title=f"{load} (set_associations)")
        for name in SENDERS:
            if (load, name) in cells:
                cell = cells[load, name]
                table.add_row(
                    name,
                    f"{cell.per_second:.1f}",
                    f"{cell.lowest:.1f} to {cell.highest:.1f}",
                    f"{found[f'{load}/{name}']:.2f}" if f"{load}/{name}" in found else "",
                    f"{cell.mb_per_second:.0f}",
                    f"{cell.cpu_seconds_per_gb:.2f}",
                    f"{cell.cpu_ms_per_instance:.3f}",
                    f"{cell.memory_mb:.0f}",
                    campaign.verified[f"{load}/{name}"].words,
                )
        console.print(table)
    table = Table("goal", "limit", "ours", "", title="goals")
    for what, limit in GOALS.items():
        value = found.get(what)
        words = verdict(cells, what, limit)
        table.add_row(what, f"{limit:g}", "" if value is None else f"{value:g}", words)
    most = max((cell.memory_mb for (_, name), cell in cells.items() if name == OURS), default=None)
    if most is not None:
        table.add_row("our memory, MB", f"{MEMORY_MB}", f"{most:g}", "met" if most <= MEMORY_MB else "NOT MET")
    console.print(table)
    for what, reason in {**campaign.left_out, **campaign.failed}.items():
        console.print(f"{what}: {reason}", markup=False)


def outcome(campaign: Campaign, **more: Any) -> dict[str, Any]:
    """For machines."""
    return {
        "benchmark": "export",
        "ratios": ratios(campaign.cells),
        "goals": GOALS,
        "figures": {f"{load}/{name}": asdict(cell) for (load, name), cell in campaign.cells.items()},
        "verified": {what: asdict(compared) for what, compared in campaign.verified.items()},
        "left_out": campaign.left_out,
        "failed": campaign.failed,
        **more,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="default: all")
    parser.add_argument("--senders", nargs="+", choices=SENDERS, default=list(SENDERS), help="default: all")
    parser.add_argument("--receivers", nargs="+", choices=RECEIVERS, default=list(RECEIVERS), help="default: both")
    parser.add_argument("--associations", nargs="+", type=int, default=ASSOCIATIONS, help="default: 1 4")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="a few instances, one round: to see that it works")
    parser.add_argument("--folder", type=Path, help="where what is received goes; default: the temporary folder")
    given = parser.parse_args()
    rounds = given.rounds or (1 if given.quick else ROUNDS)
    loads = [
        (name, associations)
        for name in given.sets
        for associations in ((1,) if sets.KINDS[name].only_one else given.associations)
    ]
    runs = len(loads) * rounds * len(given.senders) * len(given.receivers)
    needed = sum(sets.volume(name, quick=given.quick) for name, _ in loads) * runs // len(loads)
    begun = time.monotonic()
    with place(given.folder, needed) as root:
        tell(f"{runs} runs on {filesystem(root)}, load {os.getloadavg()[0]:.1f}")
        load_average = os.getloadavg()
        made = {name: sets.make(name, root / "sets", quick=given.quick) for name in given.sets}
        campaign = Campaign(Bench(root), given.senders, given.receivers)
        campaign.measure([(made[name], associations) for name, associations in loads], rounds)
        tell("deleting what was received")
    show(campaign)
    more = {"quick": given.quick, "rounds": rounds, "load_average_before": load_average}
    seconds = round(time.monotonic() - begun, 1)
    print(json.dumps(outcome(campaign, **more, processors=os.cpu_count(), seconds=seconds)))
    return 0 if campaign.ours_is_right else 1


if __name__ == "__main__":
    sys.exit(main())
