"""A minute of what ``make fuzz`` does for hours; FUZZ_SECONDS and SEED say for how long, and with which streams."""

import os
import secrets
import sys
import time
from collections.abc import Iterator
from itertools import count, repeat, takewhile
from pathlib import Path

import pytest
from support import fuzzed_listener, fuzzed_messages
from support.fuzzed_messages import Figures, Finding, accepted, complete_in, play
from support.mutations import Recording, corpus

from clara_dicom_adapter.configuration.settings import Durability
from clara_dicom_adapter.receiver.dimse import StoreMessages
from clara_dicom_adapter.receiver.pdata import PDataParser

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 60)
SEED = int(os.environ.get("SEED") or secrets.randbits(32))
GROWTH = 16 << 20


def within(seconds: float) -> Iterator[int]:
    """Numbers until the time is over."""
    end = time.monotonic() + seconds
    return takewhile(lambda _: time.monotonic() < end, count())


def tell(capsys: pytest.CaptureFixture[str], what: str, figures: Figures) -> None:
    with capsys.disabled():  # on standard error, because the output of several processes of tests goes nowhere
        print(f"\n{figures.streams} {what}, {figures.stored} instances, SEED={SEED}", file=sys.stderr)  # noqa: T201


@pytest.mark.parametrize("recording", corpus(), ids=lambda recording: recording.name)
def test_what_real_senders_say_is_understood_whatever_its_pieces(recording: Recording) -> None:
    data = b"".join(recording.pdus)
    there = complete_in(data)
    assert bool(there) == (recording.name != "dcmtk-echoscu")
    for size in (1, 7, 1000, 1 << 20):
        told = play(data, repeat(size), accepted(recording), 65536)
        assert told.stored == there
        assert told.ending in {"PDU 5", "PDU 7"}, "released or aborted"


@pytest.mark.timeout(SECONDS * 2 + 120)
def test_changed_streams_are_stood_by_parser_and_messages(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    figures = fuzzed_messages.run(corpus(), SEED, within(SECONDS * 0.6), tmp_path)
    tell(capsys, "changed streams", figures)
    assert figures.grown_bytes < GROWTH
    assert figures.stored > 0
    assert len(figures.endings) > 10, "they all end in the same way"


@pytest.mark.timeout(SECONDS * 2 + 120)
@pytest.mark.parametrize("durability", Durability)
def test_changed_associations_are_stood_by_a_listener(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, durability: Durability
) -> None:
    with fuzzed_listener.listener_under_test(tmp_path, durability) as listener:
        figures = fuzzed_listener.run(listener, corpus(), SEED, within(SECONDS * 0.2))
        tell(capsys, f"changed associations, {listener.in_place} of their instances in place", figures)
        assert set(figures.endings) >= {"released", "aborted", "connection-lost"}
        assert (listener.in_place > 0) == (durability is Durability.FLUSH)
        assert listener.stop() == 0


def test_a_header_that_is_forgotten_at_the_end_of_a_buffer_would_be_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Forgetful(PDataParser):
        def free(self) -> memoryview:
            self._at = self._end
            return super().free()

    monkeypatch.setattr(fuzzed_messages, "PDataParser", Forgetful)
    with pytest.raises(Finding, match="FIRST="):
        fuzzed_messages.run(corpus(), 1, range(1000), tmp_path)
    assert list(tmp_path.iterdir()), "its bytes are kept"


def test_an_instance_that_is_stored_before_its_end_would_be_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Hasty(StoreMessages):
        def _write(self) -> None:
            super()._write()
            self._finish()

    monkeypatch.setattr(fuzzed_messages, "StoreMessages", Hasty)
    with pytest.raises(Finding):
        fuzzed_messages.run(corpus(), 1, range(1000), tmp_path)
