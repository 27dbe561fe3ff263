"""A run of the benchmark with each receiver, a few instances long."""

import os
import shutil
from pathlib import Path

import pytest
from receivers import sets
from receivers.ours import OURS
from receivers.peers import PEERS
from receivers.process import Failed, LeftOut
from receivers.run import Bench
from receivers.sets import InstanceSet

RECEIVERS = {**OURS, **PEERS}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def small(bench: Bench) -> InstanceSet:
    return sets.make("small", bench.root / "sets", quick=True)


@pytest.fixture(scope="module")
def each(bench: Bench) -> InstanceSet:
    return sets.make("each", bench.root / "sets", quick=True)


def program(bench: Bench, name: str) -> Path:
    try:
        return RECEIVERS[name].program(bench.root)
    except LeftOut as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error))
        pytest.skip(str(error))


# dicom-rs is not here: it is built for minutes when it is not in the cache
@pytest.mark.parametrize(
    "name", ["ours_durable", "ours_os", "ours_segments", "dcmtk", "dcmtk_bit", "orthanc", "pynetdicom"]
)
def test_every_dataset_arrives_over_several_associations(bench: Bench, small: InstanceSet, name: str) -> None:
    sample, folder = bench.sample(RECEIVERS[name], program(bench, name), small, 3)
    assert sample.instances == len(sample.responses) == small.instances == 80
    assert sample.seconds > 0
    assert sample.cpu_seconds > 0
    assert sample.memory_mb >= sample.receiving_process_mb > 1
    assert small.compare(RECEIVERS[name].files(folder)).all_same_bytes


@pytest.mark.parametrize("name", ["ours_os", "dcmtk"])
def test_an_association_for_each_instance(bench: Bench, each: InstanceSet, name: str) -> None:
    sample, folder = bench.sample(RECEIVERS[name], program(bench, name), each, 1)
    assert sample.instances == each.instances
    assert each.compare(RECEIVERS[name].files(folder)).all_same_bytes


@pytest.mark.parametrize("name", ["raw", "raw_os"])
@pytest.mark.parametrize("kind", ["small", "each"])
def test_the_raw_limit_writes_the_same_files(
    bench: Bench, request: pytest.FixtureRequest, name: str, kind: str
) -> None:
    sent: InstanceSet = request.getfixturevalue(kind)
    sample, folder = bench.sample(RECEIVERS[name], program(bench, name), sent, 1 if kind == "each" else 2)
    assert sample.instances == sent.instances
    written = sorted(path.read_bytes() for path in folder.rglob("*.dcm"))
    assert written == sorted(path.read_bytes() for path in sent.files.values())


def test_a_receiver_that_ends_at_once_is_reported_with_its_words(bench: Bench, small: InstanceSet) -> None:
    false = shutil.which("false")
    assert false is not None
    with pytest.raises(Failed, match="ended with 1"):
        bench.sample(RECEIVERS["raw"], Path(false), small, 1)


def test_what_is_altered_or_lost_is_seen(bench: Bench, small: InstanceSet, tmp_path: Path) -> None:
    received = [Path(shutil.copy(path, tmp_path)) for path in small.files.values()]
    assert small.compare(received).all_same_bytes
    received[0].unlink()
    content = bytearray(received[1].read_bytes())
    content[-1] ^= 1
    received[1].write_bytes(content)
    (tmp_path / "log").write_text("not an instance")
    found = small.compare(tmp_path.iterdir())
    assert not found.all_same_bytes
    assert (found.same_bytes, found.same_elements, found.words) == (78, 0, "78 of 80")
