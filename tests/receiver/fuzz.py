"""Fuzzes the receiver for as long as it is told to: ``make fuzz SECONDS=3600`` or ``make fuzz COUNT=1000000``.

Streams for the parser and the messages, and now and then associations with two listeners that live as long as the run:
one flushes and stores into prepared files, the other does neither. COUNT is of the streams; of each round of 20,000 the
first 400 are sent to each listener, too. It ends with exit status 1 at the first finding, and says with which ``SEED=``
and ``FIRST=`` that stream is played again; a finding is also a process that has grown by 32 MB since the first round.
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from support import fuzzed_listener, fuzzed_messages
from support.fuzzed_messages import Figures, Finding, resident_bytes
from support.mutations import corpus

from clara_dicom_adapter.configuration.settings import Durability

FINDINGS = Path("build") / "fuzz"
_STREAMS = 20_000
_ASSOCIATIONS = 400
_GROWTH = 32 << 20
"""Bytes by which this process or the listener may be larger than after the first round."""


def _options() -> argparse.Namespace:
    def given(name: str, default: int) -> int:
        return int(os.environ.get(name) or default)

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=given("SECONDS", 0))
    parser.add_argument("--count", type=int, default=given("COUNT", 0), help="of streams")
    parser.add_argument("--seed", type=int, default=given("SEED", secrets.randbits(32)))
    parser.add_argument("--first", type=int, default=given("FIRST", 0), help="number of the first stream")
    return parser.parse_args()


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


@dataclass
class Run:
    """What a run has been.

    Attributes:
        in_place: Instances that were received into prepared files.
        first_resident: Bytes of this process and of each listener after the first round, and ``resident`` now.
    """

    messages: Figures = field(default_factory=Figures)
    associations: Figures = field(default_factory=Figures)
    in_place: int = 0
    first_resident: list[int] = field(default_factory=list[int])
    resident: list[int] = field(default_factory=list[int])
    seconds: float = 0

    def tell(self) -> None:
        """How far it is."""
        played = f"{self.messages.streams} streams  {self.associations.streams} associations"
        _tell(f"{self.seconds:7.0f} s  {played}  {_megabytes(self.resident)} MB")


def _megabytes(sizes: list[int]) -> str:
    return ", ".join(str(size >> 20) for size in sizes)


def fuzz(seed: int, first: int, count: int, seconds: int) -> Run:
    """Play streams until there were enough of them or the time is over; one round at least."""
    recordings, run, begun = corpus(), Run(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        listeners = [
            stack.enter_context(fuzzed_listener.listener_under_test(Path(folder) / each, each)) for each in Durability
        ]
        while True:
            at = first + run.messages.streams
            streams = min(_STREAMS, count - run.messages.streams) if count else _STREAMS
            run.messages += fuzzed_messages.run(recordings, seed, range(at, at + streams), FINDINGS)
            at = first + run.associations.streams // len(listeners)
            several = range(at, at + min(_ASSOCIATIONS, streams))
            for listener in listeners:
                run.associations += fuzzed_listener.run(listener, recordings, seed, several)
            run.in_place = sum(listener.in_place for listener in listeners)
            run.resident = [resident_bytes(), *(resident_bytes(each.process.pid) for each in listeners)]
            run.first_resident = run.first_resident or run.resident
            run.seconds = time.monotonic() - begun
            run.tell()
            if any(now - before > _GROWTH for now, before in zip(run.resident, run.first_resident, strict=True)):
                raise Finding(f"memory has grown from {run.first_resident} to {run.resident} bytes")
            if run.messages.streams >= count > 0 or (run.seconds >= seconds and not count):
                break
        for listener in listeners:
            if status := listener.stop():
                raise Finding(f"a listener ended with exit status {status}")
    return run


def main() -> None:
    options = _options()
    _tell(f"SEED={options.seed}")
    try:
        run = fuzz(options.seed, options.first, options.count, options.seconds)
    except Finding as finding:
        sys.exit(f"{finding}\nthe bytes of a stream are in {FINDINGS}")
    for name, figures in (("streams", run.messages), ("associations", run.associations)):
        _tell(f"{figures.streams} {name}, {figures.stored} instances")
        for ending, times in figures.endings.most_common():
            _tell(f"{times:10} {ending}")
    _tell(f"{run.in_place} of the associations' instances were received into prepared files")
    _tell(
        f"resident {_megabytes(run.first_resident)} MB after the first round, {_megabytes(run.resident)} MB at the end"
    )


if __name__ == "__main__":
    main()
