"""How long the verdict on an association takes where much is configured, and until a change of it is in force.

    make bench BENCH=verdict

1,000 AE titles, 5,000 sources and 500 destinations are in the SQL store, as at a large site. The receiver's own
snapshot is made of them, and the receiver's own function decides on associations: known and unknown senders, right and
wrong addresses. Nothing is decided from the database, so what a change costs is told apart: from the store to the
snapshot.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, insert

from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import Source
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.configuration.tables import ClaraAeTitleRow, DestinationRow, SourceRow
from clara_dicom_adapter.receiver.acceptance import Accept, AssociationRequest, Load, Policy, verdict
from clara_dicom_adapter.receiver.contexts import Service
from clara_dicom_adapter.receiver.known import KnownKeeper
from clara_dicom_adapter.records.database import open_engine

AE_TITLES, SOURCES, DESTINATIONS = 1_000, 5_000, 500
AIM_SECONDS: Final = 0.001
"""The median is to be below this."""
_SERVICES: Final = frozenset({Service.STORAGE})


def source(number: int) -> Source:
    """A source; every tenth AE title has a second host."""
    name = f"SOURCE{number if number % 10 else number - 1}"
    return Source(ae_title=name, host_ip=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")


def fill(engine: Engine) -> None:
    """Configure all of it at once."""
    settings = {"pipeline-a": "A1", "timeout": "5"}
    titles = [
        checks.clara_ae_title(
            {"aeTitle": f"CLARA{number}", "processorSettings": settings}
            | ({"allowedSources": [f"SOURCE{number + 1}", "SOURCE1"]} if number % 4 == 0 else {})
        )
        for number in range(AE_TITLES)
    ]
    destinations = [
        checks.destination({"name": f"PACS{n}", "aeTitle": "PACS", "hostIp": f"10.200.0.{n % 250}", "port": 104})
        for n in range(DESTINATIONS)
    ]
    with engine.begin() as connection:
        connection.execute(insert(ClaraAeTitleRow), [ae.model_dump(mode="json") | {"revision": 1} for ae in titles])
        connection.execute(insert(SourceRow), [source(number).model_dump() for number in range(SOURCES)])
        connection.execute(
            insert(DestinationRow),
            [each.model_dump(mode="json") | {"name_key": each.name.casefold()} for each in destinations],
        )


def requests(count: int, seed: int = 1) -> Sequence[AssociationRequest]:
    """Associations as they might come: most are right, some are strangers, some come from elsewhere."""
    chosen = random.Random(seed)  # the same ones each time
    found = []
    for _ in range(count):
        sender = source(chosen.randrange(SOURCES))
        calling = sender.ae_title if chosen.random() < 0.9 else "STRANGER"
        peer = sender.host_ip if chosen.random() < 0.95 else "192.0.2.1"
        called = f"CLARA{chosen.randrange(int(AE_TITLES * 1.02))}"
        found.append(AssociationRequest(calling, called, peer, _SERVICES))
    return found


def keeper_of(engine: Engine, folder: Path) -> KnownKeeper:
    """What keeps the receiver's snapshot."""
    return KnownKeeper(ConfigurationStore(engine), folder / "known.json")


def measure(count: int) -> dict[str, Any]:
    """Seconds of each verdict, and of a change."""
    with tempfile.TemporaryDirectory() as folder:
        engine = open_engine("", DataFolder(Path(folder)))
        fill(engine)
        keeper = keeper_of(engine, Path(folder))
        begun = time.perf_counter()
        keeper.refresh()
        loaded = time.perf_counter() - begun
        known = keeper.current
        assert known is not None
        policy, load = Policy(), Load()
        taken: list[float] = []
        words: Counter[str] = Counter()
        for request in requests(count):
            begun = time.perf_counter()
            found = verdict(request, known, policy, load)
            taken.append(time.perf_counter() - begun)
            words["accepted" if isinstance(found, Accept) else found.reason.word] += 1
        ConfigurationStore(engine).add_source(Source(ae_title="NEW", host_ip="10.99.99.99"))
        begun = time.perf_counter()
        keeper.refresh()
        changed = time.perf_counter() - begun
        assert keeper.current is not None
        assert "NEW" in keeper.current.sources
        engine.dispose()
    quantiles = statistics.quantiles(taken, n=1000)
    return {
        "ae_titles": AE_TITLES,
        "sources": SOURCES,
        "destinations": DESTINATIONS,
        "verdicts": count,
        "median_seconds": statistics.median(taken),
        "p99_seconds": quantiles[989],
        "p999_seconds": quantiles[998],
        "first_snapshot_seconds": loaded,
        "change_seconds": changed,
        "found": dict(words.most_common()),
        "met": statistics.median(taken) < AIM_SECONDS,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="associations to decide on (%(default)s)")
    given = parser.parse_args()
    result = measure(given.count)
    table = Table("what", "figure", title=f"{AE_TITLES} AE titles, {SOURCES} sources, {DESTINATIONS} destinations")
    for name in ("median_seconds", "p99_seconds", "p999_seconds"):
        table.add_row(f"verdict, {name.removesuffix('_seconds')}", f"{result[name] * 1e6:.1f} us")
    table.add_row("first snapshot", f"{result['first_snapshot_seconds'] * 1e3:.0f} ms")
    table.add_row("snapshot after a change", f"{result['change_seconds'] * 1e3:.0f} ms")
    for word, number in result["found"].items():
        table.add_row(word, str(number))
    table.add_row(f"aim: median below {AIM_SECONDS * 1e3:.0f} ms", "met" if result["met"] else "NOT MET")
    Console().print(table)
    print(json.dumps(result))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
