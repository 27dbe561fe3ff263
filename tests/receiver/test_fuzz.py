"""What real senders said, changed: a minute of it here, hours with ``make fuzz SECONDS=3600`` or ``COUNT=1000000``."""

import sys
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.database import InMemoryExampleDatabase
from support import fuzzed_messages
from support.fuzzed_associations import Listeners
from support.fuzzed_messages import Figures, accepted, complete_in, play, stand
from support.fuzzing import COUNT, EXAMPLE_BYTES, FINDINGS, SECONDS, fuzz, target
from support.mutations import Arriving, Association, arriving, associations
from support.recordings import CORPUS, Recording

from clara_dicom_adapter.configuration.settings import Durability
from clara_dicom_adapter.receiver.dimse import StoreMessages
from clara_dicom_adapter.receiver.pdata import PDataParser

Tell = Callable[[str], None]
LIMIT = pytest.mark.timeout(0 if COUNT else SECONDS * 2 + 600)  # making a finding small takes up to 300 s


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Tell:
    def tell(text: str) -> None:
        with capsys.disabled():  # on standard error, because the output of several processes of tests goes nowhere
            sys.stderr.write(f"\n{request.node.name}: {text}")

    return tell


def show(figures: Figures) -> None:
    for ending, times in figures.endings.most_common():
        sys.stdout.write(f"{times:10} {ending}\n")


@pytest.mark.parametrize("recording", CORPUS, ids=lambda recording: recording.name)
def test_what_real_senders_say_is_understood_whatever_its_pieces(recording: Recording) -> None:
    data = b"".join(recording.pdus)
    there = complete_in(data)
    assert bool(there) == (recording.name != "dcmtk-echoscu")
    for size in (1, 7, 1000, 1 << 20):
        told = play(data, repeat(size), accepted(recording), 65536)
        assert told.stored == there
        assert told.ending in {"PDU 5", "PDU 7"}, "released or aborted"


@LIMIT
def test_changed_streams_are_stood_by_parser_and_messages(tell: Tell) -> None:
    figures = Figures()

    @FINDINGS
    @given(arriving())
    def streams(arriving: Arriving) -> None:
        stand(arriving, figures)

    fuzz(streams, figures, tell, time_share=0.6, count_share=1)
    show(figures)
    assert figures.stored > 0
    assert len(figures.endings) > 10, "they all end in the same way"


@LIMIT
@pytest.mark.parametrize("durability", Durability)
def test_changed_associations_are_stood_by_a_listener(tell: Tell, tmp_path: Path, durability: Durability) -> None:
    figures = Figures()
    with Listeners(tmp_path, durability) as listeners:

        @FINDINGS
        @given(st.lists(associations(), min_size=1))
        def one_after_the_other(several: list[Association]) -> None:
            listeners.stand(several, figures)

        fuzz(one_after_the_other, figures, tell, time_share=0.2, count_share=0.02, pid=listeners.pid)
        tell(
            f"{listeners.sealed} instances, the good ones between them too, were received into segments and prepared "
            "files"
        )
        show(figures)
        assert set(figures.endings) >= {"released", "aborted", "connection-lost"}
        assert listeners.sealed > 0
        assert listeners.stop() == 0


def found() -> str:
    """What is said of a fault in the receiver, made small."""

    @settings(FINDINGS, database=InMemoryExampleDatabase())
    @given(arriving())
    def streams(arriving: Arriving) -> None:
        stand(arriving, Figures())

    def many() -> None:
        play, random = target(streams), Random(1)
        for _ in range(300):
            play(random.randbytes(EXAMPLE_BYTES))

    with pytest.raises(AssertionError) as caught:
        many()
    return "\n".join([str(caught.value), *caught.value.__notes__])


def test_a_header_that_is_forgotten_at_the_end_of_a_buffer_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(PDataParser):
        def free(self) -> memoryview:
            self._at = self._end
            return super().free()

    monkeypatch.setattr(fuzzed_messages, "PDataParser", Forgetful)
    said = found()
    assert "it depends on how the bytes arrive" in said
    assert "changes=()" in said, "nothing has to be changed for it"
    assert "@reproduce_failure" in said


def test_an_instance_that_is_stored_before_its_end_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Hasty(StoreMessages):
        def _write(self) -> None:
            super()._write()
            self._finish()

    monkeypatch.setattr(fuzzed_messages, "StoreMessages", Hasty)
    assert found().count("Stream(") == 1, "one is enough"


def test_a_stream_that_does_not_come_to_an_end_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(PDataParser):
        def take(self, count: int) -> bytes:
            while True:
                super().take(0)

    monkeypatch.setattr(fuzzed_messages, "PDataParser", Endless)
    monkeypatch.setattr(fuzzed_messages, "HANG_SECONDS", 0.2)
    assert "it hangs" in found()


def test_a_process_that_grows_would_be_found(tell: Tell) -> None:
    kept = bytearray()

    @settings(FINDINGS, database=InMemoryExampleDatabase())
    @given(st.booleans())
    def leaks(_: bool) -> None:
        kept.extend(bytes(2_000_000))

    with pytest.raises(AssertionError, match="memory has grown"):
        fuzz(leaks, Figures(), tell, time_share=1, count_share=1)


def test_a_listener_that_has_ended_is_found_and_replaced(tmp_path: Path) -> None:
    with Listeners(tmp_path, Durability.OS) as listeners:
        ended = listeners.pid()
        assert listeners.stop() == 0
        with pytest.raises((AssertionError, OSError)):
            listeners.stand([], Figures())
        assert listeners.pid() != ended
        listeners.stand([], Figures())
