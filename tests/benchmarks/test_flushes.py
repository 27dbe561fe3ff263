"""Every way that `make bench BENCH=flushes` measures stores what it is measured for."""

import os
import threading
from pathlib import Path

import flushes
import pytest
from support.site import wait_until

SIZE = 300_000
WRITERS, EACH = 3, 4


@pytest.mark.parametrize("name", flushes.WAYS)
def test_every_way_stores_all_instances_whole(tmp_path: Path, name: str) -> None:
    assert flushes.run(tmp_path / "run", flushes.WAYS[name], WRITERS, SIZE, EACH) > 0
    sent = bytes(flushes._DATA[:SIZE])
    files = [path for path in sorted((tmp_path / "run").rglob("*")) if path.is_file()]
    if name == "segment file, and a file behind":  # both
        files = [path for path in files if path.name != "segment"]
    if name == "segment file":
        (segment,) = files
        whole = segment.read_bytes()
        each = SIZE + -SIZE % 4096
        stored = [whole[at : at + SIZE] for at in range(0, len(whole), each)]
    else:
        stored = [path.read_bytes() for path in files]
        assert {path.suffix for path in files} == {".part" if name == "prepared file" else ".dcm"}
    if name == "prepared file":
        assert {len(one) > SIZE for one in stored} == {True}
        stored = [one[:SIZE] for one in stored]
    assert stored == [sent] * WRITERS * EACH


def test_a_flush_of_a_segment_is_for_all_who_had_written_when_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = flushes.Segment(tmp_path / "run", 1, SIZE, 3)
    begun, goes_on, flushed = threading.Event(), threading.Event(), []

    def flush(descriptor: int) -> None:
        flushed.append(descriptor)
        begun.set()
        assert goes_on.wait(10)

    monkeypatch.setattr(os, "fdatasync", flush)
    writers = [threading.Thread(target=way.store, args=(0, number)) for number in range(3)]
    writers[0].start()
    assert begun.wait(10)
    for writer in writers[1:]:
        writer.start()
    wait_until("both have written", lambda: way.written == 3)
    assert len(flushed) == 1
    goes_on.set()
    for writer in writers:
        writer.join(10)
        assert not writer.is_alive()
    assert len(flushed) == 2, "one for the first, and one for the others together"
    way.close()
