"""Fuzzes the receiver for as long as it is told to: ``make fuzz SECONDS=3600`` or ``make fuzz COUNT=1000000``.

Streams for the parser and the messages, and now and then associations with a listener that lives as long as the run.
It ends with exit status 1 at the first finding, and says with which ``SEED=`` and ``FIRST=`` that stream is played
again.
"""

import argparse
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

from support import fuzzed_listener, fuzzed_messages
from support.fuzzed_messages import Figures, Finding
from support.mutations import corpus

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


def fuzz(seed: int, first: int, count: int, seconds: int) -> tuple[Figures, Figures]:
    """Play streams until there were enough of them or the time is over; one round at least."""
    recordings = corpus()
    messages, associations = Figures(), Figures()
    begun = time.monotonic()
    first_resident: list[int] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        fuzzed_listener.listener_under_test(Path(folder)) as listener,
    ):
        while True:
            at = first + messages.streams
            streams = min(_STREAMS, count - messages.streams) if count else _STREAMS
            messages += fuzzed_messages.run(recordings, seed, range(at, at + streams), FINDINGS)
            at = first + associations.streams
            several = min(_ASSOCIATIONS, streams)
            associations += fuzzed_listener.run(listener, recordings, seed, range(at, at + several))
            resident = [fuzzed_messages.resident_bytes(), fuzzed_messages.resident_bytes(listener.process.pid)]
            first_resident = first_resident or resident
            spent, memory = time.monotonic() - begun, " and ".join(str(size >> 20) for size in resident)
            _tell(f"{spent:7.0f} s  {messages.streams} streams  {associations.streams} associations  {memory} MB")
            if any(now - before > _GROWTH for now, before in zip(resident, first_resident, strict=True)):
                raise Finding(f"memory has grown from {first_resident} to {resident} bytes")
            if messages.streams >= count > 0 or (spent >= seconds and not count):
                break
        if status := listener.stop():
            raise Finding(f"the listener ended with exit status {status}")
    return messages, associations


def main() -> None:
    options = _options()
    _tell(f"SEED={options.seed}")
    try:
        messages, associations = fuzz(options.seed, options.first, options.count, options.seconds)
    except Finding as finding:
        sys.exit(f"{finding}\nthe bytes of a stream are in {FINDINGS}")
    for name, figures in (("streams", messages), ("associations", associations)):
        _tell(f"{figures.streams} {name}, {figures.stored} instances")
        for ending, times in figures.endings.most_common():
            _tell(f"{times:10} {ending}")


if __name__ == "__main__":
    main()
