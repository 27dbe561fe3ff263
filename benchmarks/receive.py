"""Our receiver beside others, and beside what the disk allows: one sender, one disk, interleaved rounds, medians.

    make bench BENCH=receive ARGS=--quick

Ours with ``storage.durability`` ``flush`` (durable) and ``os``; dcmtk's storescp, plain and bit-preserving; Orthanc
with and without SyncStorageArea; dicom-rs; stock pynetdicom; and a loop in C that only writes, with flushing (raw) and
without (raw_os).
Each run is a fresh process with a fresh folder, started with nothing left to write, and no folder is deleted before the
end: on ext4, files deleted a moment ago make every new one slow. In the first round every dataset that was stored is
compared with the one sent. Exit status 1: ours failed or stored something else; the tables say which floors are met.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from machine import filesystem
from receivers import sets
from receivers.floors import Cell, Sample, Verdict, ratios, verdicts
from receivers.ours import OURS
from receivers.peers import DCM4CHE, PEERS, Peer, dcmtk_sender
from receivers.process import Failed, LeftOut
from receivers.run import Bench
from receivers.sets import Comparison, InstanceSet
from rich.console import Console
from rich.table import Table

RECEIVERS: Mapping[str, Peer] = {**OURS, **PEERS}
ASSOCIATIONS = (1, 4, 8)
ROUNDS = 3
IDLE_SECONDS = 5.0
ASSOCIATIONS_OPENED = 1000
OURS_AS_SHIPPED = ["ours_durable", "ours_os"]
CROSS_CHECKED = ("ours_durable", "ours_os", "dcmtk", "dcmtk_bit")


def tell(what: str) -> None:
    """Say on standard error how far it is."""
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


class Campaign:
    """All runs of a benchmark, and what came of them."""

    def __init__(self, bench: Bench, wanted: Sequence[str]) -> None:
        self._bench = bench
        self.programs: dict[str, Path] = {}
        self.left_out = {"dcm4che": DCM4CHE}
        self.failed: dict[str, str] = {}
        self.verified: dict[str, Comparison] = {}
        """``<set>_<associations>/<receiver>`` to what of the set was stored as it was sent."""
        self._samples: defaultdict[tuple[str, str], list[Sample]] = defaultdict(list)
        for name in wanted:
            try:
                self.programs[name] = RECEIVERS[name].program(bench.root)
            except LeftOut as error:
                self.left_out[name] = str(error)
                tell(f"{name} is left out: {error}")

    def measure(self, sent: Sequence[tuple[InstanceSet, int]], rounds: int) -> None:
        """Every receiver with every set, round by round; who begins changes from round to round."""
        names = list(self.programs)
        for number in range(rounds):
            for instances, associations in sent:
                load = f"{instances.name}_{associations}"
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    said = self._once(name, load, instances, associations)
                    tell(f"round {number + 1} of {rounds}, {load}, {name}: {said}")

    def _once(self, name: str, load: str, sent: InstanceSet, associations: int) -> str:
        peer = RECEIVERS[name]
        try:
            sample, folder = self._bench.sample(peer, self.programs[name], sent, associations)
        except Failed as error:
            self.failed[f"{load}/{name}"] = str(error)
            return f"FAILED: {error}"
        self._samples[load, name].append(sample)
        if not peer.raw and f"{load}/{name}" not in self.verified:
            self.verified[f"{load}/{name}"] = sent.compare(peer.files(folder))
        return f"{sample.instances / sample.seconds:.0f} instances/s"

    @property
    def cells(self) -> dict[tuple[str, str], Cell]:
        return {key: Cell.of(samples) for key, samples in self._samples.items()}

    def idle(self, sent: InstanceSet, seconds: float) -> dict[str, float]:
        """Share of a core by receiver."""
        found = {}
        for name in self._dicom():
            try:
                found[name] = round(self._bench.idle_share(RECEIVERS[name], self.programs[name], sent, seconds), 4)
                tell(f"20 idle associations, {name}: {found[name]:.1%} of a core")
            except Failed as error:
                self.failed[f"idle/{name}"] = str(error)
        return found

    def associations(self, sent: InstanceSet, count: int) -> dict[str, float]:
        """Associations per second by receiver."""
        found = {}
        for name in self._dicom():
            if name in CROSS_CHECKED:
                try:
                    rate = self._bench.associations_per_second(RECEIVERS[name], self.programs[name], sent, count)
                    found[name] = round(rate, 1)
                    tell(f"associations that store nothing, {name}: {rate:.0f}/s")
                except Failed as error:
                    self.failed[f"associations/{name}"] = str(error)
        return found

    def storescu(self, sent: InstanceSet) -> dict[str, float]:
        """Instances per second by receiver, sent by dcmtk."""
        found: dict[str, float] = {}
        try:
            program = dcmtk_sender(self._bench.root)
        except LeftOut as error:
            self.left_out["storescu"] = str(error)
            return found
        for name in self._dicom():
            if name in CROSS_CHECKED:
                try:
                    rate = self._bench.with_storescu(RECEIVERS[name], self.programs[name], sent, program)
                    found[name] = round(rate, 1)
                    tell(f"sent by storescu, {name}: {rate:.0f} instances/s")
                except Failed as error:
                    self.failed[f"storescu/{name}"] = str(error)
        return found

    def _dicom(self) -> list[str]:
        return [name for name in self.programs if not RECEIVERS[name].raw]

    @property
    def ours_is_right(self) -> bool:
        """Whether ours took everything and stored what was sent."""
        wrong = [load for load, found in self.verified.items() if not found.all_same_bytes]
        return not any(load.rpartition("/")[2] in OURS for load in [*wrong, *self.failed])


def show(
    campaign: Campaign,
    found: Sequence[Verdict],
    idle: Mapping[str, float],
    associations: Mapping[str, float],
    storescu: Mapping[str, float],
) -> None:
    """The tables."""
    console = Console() if sys.stdout.isatty() else Console(width=140)
    columns = (
        "instances/s", "lowest to highest", "MB/s", "CPU s/GB", "CPU s/1000", "peak MB", "ms", "99 % ms", "same bytes"
    )  # fmt: skip
    cells = campaign.cells
    for load in dict.fromkeys(load for load, _ in cells):
        table = Table("receiver", *columns, title=f"{load} (set_associations)")
        for name in RECEIVERS:
            cell = cells.get((load, name))
            if cell is not None:
                low, high = cell.per_second_range
                table.add_row(
                    name,
                    f"{cell.per_second:.1f}",
                    f"{low:.1f} to {high:.1f}",
                    f"{cell.mb_per_second:.0f}",
                    f"{cell.cpu_seconds_per_gb:.2f}",
                    f"{cell.cpu_seconds_per_1000:.2f}",
                    f"{cell.memory_mb:.0f}",
                    f"{cell.response_ms:.2f}",
                    f"{cell.response_p99_ms:.2f}",
                    campaign.verified[f"{load}/{name}"].words if f"{load}/{name}" in campaign.verified else "",
                )
        console.print(table)
    table = Table(
        "receiver", "20 idle associations, share of a core", "associations/s", "ct sent by storescu, instances/s"
    )
    for name in RECEIVERS:
        if name in idle or name in associations or name in storescu:
            share = f"{idle[name]:.1%}" if name in idle else ""
            table.add_row(name, share, str(associations.get(name, "")), str(storescu.get(name, "")))
    console.print(table)
    table = Table("floor", "limit", "ours", "raw", "", title="floors, as ratios to the peer")
    for verdict in found:
        raw = "" if verdict.raw is None else f"{verdict.raw:g}"
        ours = "" if verdict.value is None else f"{verdict.value:g}"
        table.add_row(verdict.floor, f"{verdict.limit:g}", ours, raw, verdict.words)
    console.print(table)
    for name, reason in campaign.left_out.items():
        console.print(f"left out: {name}: {reason}", markup=False)
    for what, reason in campaign.failed.items():
        console.print(f"failed: {what}: {reason}", markup=False)


@contextmanager
def place(parent: Path | None, needed: int) -> Iterator[Path]:
    """A folder on a disk that has room for everything and really flushes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # nothing is left running
    with tempfile.TemporaryDirectory(prefix="bench-receive-", dir=parent) as folder:
        root = Path(folder)
        if filesystem(root) in {"tmpfs", "ramfs", "overlay"}:
            raise SystemExit(f"{root} is on a {filesystem(root)}, which tells nothing of a disk: give another --folder")
        if shutil.disk_usage(root).free < needed * 1.2:
            raise SystemExit(f"{needed / 1e9:.0f} GB are written below {root}: give another --folder, or fewer rounds")
        yield root


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", choices=sets.KINDS, default=list(sets.KINDS), help="default: all")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="beside ours; default: all")
    parser.add_argument("--ours", nargs="+", choices=OURS, default=OURS_AS_SHIPPED, help="default: as shipped")
    parser.add_argument("--associations", nargs="+", type=int, default=ASSOCIATIONS, help="default: 1 4 8")
    parser.add_argument("--rounds", type=int, help=f"default: {ROUNDS}")
    parser.add_argument("--quick", action="store_true", help="a few instances, one round: to see that it works")
    parser.add_argument("--folder", type=Path, help="on the disk to be measured; default: the temporary folder")
    given = parser.parse_args()
    rounds = given.rounds or (1 if given.quick else ROUNDS)
    wanted = [*given.ours, *given.peers]
    loads = [
        (name, associations)
        for name in given.sets
        for associations in ((1,) if sets.KINDS[name].only_one else given.associations)
    ]
    needed = sum(sets.volume(name, quick=given.quick) for name, _ in loads) * rounds * len(wanted)
    with place(given.folder, needed) as root:
        tell(f"{len(loads) * rounds * len(wanted)} runs on {filesystem(root)}, load {os.getloadavg()[0]:.1f}")
        load_average = os.getloadavg()
        made = {name: sets.make(name, root / "sets", quick=given.quick) for name in dict.fromkeys((*given.sets, "ct"))}
        campaign = Campaign(Bench(root), wanted)
        campaign.measure([(made[name], associations) for name, associations in loads], rounds)
        idle = campaign.idle(made["ct"], 2.0 if given.quick else IDLE_SECONDS)
        associations = campaign.associations(made["ct"], 20 if given.quick else ASSOCIATIONS_OPENED)
        storescu = campaign.storescu(made["ct"])
        found = verdicts(campaign.cells, idle.get("ours_durable"), associations.get("ours_durable"))
        tell("deleting what was received")
    show(campaign, found, idle, associations, storescu)
    print(
        json.dumps(
            {
                "benchmark": "receive",
                "ratios": ratios(campaign.cells),
                "floors": [asdict(verdict) | {"verdict": verdict.words} for verdict in found],
                "figures": {f"{load}/{name}": cell.figures() for (load, name), cell in campaign.cells.items()},
                "idle": idle,
                "associations_per_second": associations,
                "storescu": storescu,
                "verified": {what: asdict(compared) for what, compared in campaign.verified.items()},
                "left_out": campaign.left_out,
                "failed": campaign.failed,
                "quick": given.quick,
                "rounds": rounds,
                "processors": os.cpu_count(),
                "load_average_before": load_average,
            }
        )
    )
    return 0 if campaign.ours_is_right else 1


if __name__ == "__main__":
    sys.exit(main())
