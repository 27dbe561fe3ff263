"""From an association's release to the started job: latency, throughput, and what limits them.

    make bench BENCH=flow

The real adapter under its supervisor, its embedded Temporal server with a database file, and an embedded platform on
another Temporal server, all on this machine, with the senders. Every association carries one small instance for an
AE title with timeout 0, so it becomes a group, a submission and a job of its own. The clock starts when the sender has
the A-RELEASE-RP, and stops at the note in the records that Jobs.Start was answered.

The started jobs run on the same machine. Their share of the processors is in the table; ``--held`` measures once more
with the platform's Temporal server frozen, so that started jobs wait and nothing but the flow itself is measured.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import CpuMeter, cpu_seconds, memory_mb
from objects import as_stored, write_small
from rich.console import Console
from rich.table import Table
from rig import CALLING, Rig, wait_until
from temporalio.client import Client

from clara_dicom_adapter.dicom.connecting import Peer
from clara_dicom_adapter.dicom.requestor import StorageAssociation, StoredObject, TimeLimits
from clara_dicom_adapter.temporal.exit import run_and_leave

AE_TITLE = "FLOW"
WARM_UP = 10
GROUPS = {1: 60, 20: 240, 100: 400}
"""Concurrent associations to how many are sent altogether."""


class Sender:
    """Sends objects, each in an association of its own, and remembers when it was released."""

    def __init__(self, port: int, objects: Sequence[StoredObject]) -> None:
        self._peer = Peer(AE_TITLE, "127.0.0.1", port)
        self._fresh = list(objects)
        self.released: dict[str, float] = {}

    def send_one(self) -> str:
        """Send the next object; returns its SOP instance UID once the A-RELEASE-RP is there."""
        stored = self._fresh.pop()
        association = StorageAssociation.request(CALLING, self._peer, [stored.context], TimeLimits(association=120))
        response = association.store(stored)
        association.release()
        self.released[stored.sop_instance_uid] = time.time()
        if response.status != 0:
            raise SystemExit(f"C-STORE was answered {response.status:04X}")
        return stored.sop_instance_uid


@dataclass
class Rate:
    """One run with so many concurrent associations."""

    concurrent: int
    groups: int
    seconds: float
    association_seconds: float
    """From the first request to the last release."""
    latencies: list[float]
    cpu: Mapping[str, float]

    @property
    def per_second(self) -> float:
        return self.groups / self.seconds

    def figures(self) -> dict[str, Any]:
        return {
            "concurrent": self.concurrent,
            "groups": self.groups,
            "groups_per_second": round(self.per_second, 1),
            "associations_per_second": round(self.groups / self.association_seconds, 1),
            "median_ms": round(statistics.median(self.latencies) * 1000),
            "cpu_ms_per_group": {name: round(1000 * used / self.groups, 1) for name, used in self.cpu.items()},
        }


def tell(what: str) -> None:
    """Say on standard error what is being measured now."""
    print(f"measuring: {what}", file=sys.stderr, flush=True)


def settled(rig: Rig, groups: int) -> None:
    """Wait until all of so many groups have been submitted and the notes are written."""
    wait_until(f"{groups} groups are submitted", lambda: rig.submissions("Submitted") >= groups, 600)


def latency(rig: Rig, sender: Sender, samples: int) -> list[float]:
    """One association at a time, each when the one before has gone all the way."""
    sent = []
    for _ in range(samples):
        before = rig.submissions("Submitted")
        sent.append(sender.send_one())
        settled(rig, before + 1)
        time.sleep(random.uniform(0.05, 0.2))  # not in step with anybody's timer
    started = rig.started_at()
    return [started[uid] - sender.released[uid] for uid in sent]


def rate(rig: Rig, sender: Sender, concurrent: int, groups: int) -> Rate:
    """So many senders at once, each one association after the other."""
    tell(f"{concurrent} concurrent associations")
    before, families = rig.submissions("Submitted"), rig.processes()
    own = cpu_seconds([_own_pid()])
    meter, begun = CpuMeter(families), time.time()
    with ThreadPoolExecutor(concurrent) as threads:
        uids = list(threads.map(lambda _: sender.send_one(), range(groups)))
    wait_until(
        f"{groups} groups are submitted", lambda: rig.submissions("Submitted") >= before + groups, 600, pause=0.2
    )
    cpu = meter.read(families) | {"senders and benchmark": cpu_seconds([_own_pid()]) - own}
    started = rig.started_at()
    releases = [sender.released[uid] for uid in uids]
    return Rate(
        concurrent=concurrent,
        groups=groups,
        seconds=max(started[uid] for uid in uids) - min(releases),
        association_seconds=max(releases) - begun,
        latencies=[started[uid] - sender.released[uid] for uid in uids],
        cpu=cpu,
    )


def _own_pid() -> int:
    return int(Path("/proc/self").readlink().name)


async def histories(address: str, workflows: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Events, workflow tasks and bytes of the histories of some workflows."""
    client = await Client.connect(address)
    found = {}
    for name, workflow_id in workflows.items():
        handle = client.get_workflow_handle(workflow_id)
        history = await handle.fetch_history()
        tasks = sum(event.HasField("workflow_task_completed_event_attributes") for event in history.events)
        size = (await handle.describe()).raw_description.workflow_execution_info.history_size_bytes
        found[name] = {"events": len(history.events), "workflow_tasks": tasks, "bytes": size}
    return found


def measure(
    rig: Rig, objects: Sequence[StoredObject], samples: int, rounds: Mapping[int, int], *, held: bool
) -> dict[str, Any]:
    """Everything, as the figures of the last line."""
    sender = Sender(rig.dicom_port, objects)
    tell("one association at a time")
    latency(rig, sender, WARM_UP)
    one_at_a_time = latency(rig, sender, samples)
    rates = [rate(rig, sender, concurrent, groups).figures() for concurrent, groups in rounds.items()]
    held_rates = []
    if held:
        with rig.jobs_held(True):
            held_rates = [rate(rig, sender, concurrent, groups).figures() for concurrent, groups in rounds.items()]
    received_by, submission_id = rig.submission_of(next(iter(sender.released)))
    return {
        "latency": {
            "samples": samples,
            "median_ms": round(statistics.median(one_at_a_time) * 1000),
            "p95_ms": round(statistics.quantiles(one_at_a_time, n=20)[18] * 1000),
            "maximum_ms": round(max(one_at_a_time) * 1000),
        },
        "rates": rates,
        "rates_while_jobs_wait": held_rates,
        "history": asyncio.run(
            histories(rig.temporal_address, {"ReceiveWorkflow": received_by, "SubmissionWorkflow": submission_id})
        ),
        "memory_mb": {name: round(memory_mb(pids), 1) for name, pids in rig.processes().items()},
    }


def show(figures: Mapping[str, Any]) -> None:
    """The tables."""
    console = Console()
    delay = figures["latency"]
    table = Table("from release to Jobs.Start answered", "ms", "aim", title="one association at a time")
    table.add_row(f"median of {delay['samples']}", str(delay["median_ms"]), "150")
    table.add_row("95th percentile", str(delay["p95_ms"]), "300")
    table.add_row("longest", str(delay["maximum_ms"]), "")
    console.print(table)

    table = Table("concurrent", "started jobs", "groups", "groups/s", "associations/s", "median ms", title="rates")
    for jobs, rates in (("run", figures["rates"]), ("wait", figures["rates_while_jobs_wait"])):
        for each in rates:
            keys = ("groups", "groups_per_second", "associations_per_second", "median_ms")
            table.add_row(str(each["concurrent"]), jobs, *(str(each[key]) for key in keys))
    console.print(table)

    last = figures["rates"][-1]
    table = Table("part", "CPU ms per group", "resident MB", title=f"parts ({last['concurrent']} concurrent)")
    for name, used in last["cpu_ms_per_group"].items():
        table.add_row(name, str(used), str(figures["memory_mb"].get(name, "")))
    console.print(table)

    table = Table("history", "events", "workflow tasks", "bytes", title="per group")
    for name, history in figures["history"].items():
        table.add_row(name, *(str(history[key]) for key in ("events", "workflow_tasks", "bytes")))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=60, help="associations one at a time (default 60)")
    parser.add_argument("--held", action="store_true", help="the rates once more, while started jobs wait")
    parser.add_argument("--concurrent", type=int, action="append", help="only with so many (default 1, 20 and 100)")
    parser.add_argument("--groups", type=int, help="so many groups each (default 60, 240 and 400)")
    given = parser.parse_args()
    rounds = {number: given.groups or GROUPS.get(number, 240) for number in given.concurrent or GROUPS}
    count = WARM_UP + given.samples + sum(rounds.values()) * (2 if given.held else 1)
    with tempfile.TemporaryDirectory(prefix="bench-flow-") as folder:
        root = Path(folder)
        objects = [as_stored(path) for path in write_small(root / "objects", count)]
        with Rig.running(root) as rig:
            rig.create_ae_title(AE_TITLE, timeout=0)
            time.sleep(2)  # the receiver looks for changes of the configuration now and then
            figures = measure(rig, objects, given.samples, rounds, held=given.held)
    show(figures)
    print(json.dumps({"benchmark": "flow", **figures}))


if __name__ == "__main__":
    run_and_leave(main)
