"""What a 0.6 file lists comes into the store once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import Destination, Source
from clara_dicom_adapter.configuration.given import GivenEntities
from clara_dicom_adapter.configuration.importing import import_once
from clara_dicom_adapter.configuration.reader import read
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.records.database import open_engine

SAMPLE = Path(__file__).parent / "samples" / "mapping-0.6.yaml"


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine("", DataFolder(tmp_path))
    yield engine
    engine.dispose()


@pytest.fixture
def given(tmp_path: Path) -> GivenEntities:
    return read(SAMPLE, DataFolder(tmp_path), {}).given


def test_what_the_sample_lists_is_configured_and_pinned_as_0_6_means_it(engine: Engine, given: GivenEntities) -> None:
    store = ConfigurationStore(engine)
    before = store.revision()
    assert len(import_once(engine, given)) == 5
    assert store.revision() > before
    assert store.clara_ae_titles() == list(given.ae_titles)
    assert store.sources() == list(given.sources)
    assert store.destinations() == list(given.destinations)
    for _, pinned in store.ae_titles():
        assert (pinned.timeout_seconds, pinned.group_by) == (0, "none")


def test_what_an_operator_deletes_or_changes_does_not_come_back(engine: Engine, given: GivenEntities) -> None:
    store = ConfigurationStore(engine)
    import_once(engine, given)
    store.remove_clara_ae_title("NVIDIADGX100")
    store.remove_source("DCM4CHEE")
    changed = store.remove_destination("PACS").model_copy(update={"port": 11112})
    store.add_destination(changed)
    revision = store.revision()
    assert import_once(engine, given) == []
    assert store.revision() == revision
    assert [ae.ae_title for ae in store.clara_ae_titles()] == ["NVIDIADGX101"]
    assert store.sources() == []
    assert store.destination("PACS").port == 11112


def test_what_is_new_in_the_file_is_added_later(engine: Engine, given: GivenEntities) -> None:
    import_once(engine, given)
    added = Source(ae_title="DCM4CHEE", host_ip="10.0.0.9")
    assert import_once(engine, [*given, added]) == [added]


def test_what_is_configured_already_stays_as_it_is(engine: Engine, given: GivenEntities) -> None:
    store = ConfigurationStore(engine)
    mine = checks.clara_ae_title({"aeTitle": "NVIDIADGX100", "processorSettings": {"pipeline-mine": "M"}})
    theirs = Destination(name="pacs", ae_title="OTHER", host_ip="h", port=1)
    store.add_clara_ae_title(mine)
    store.add_destination(theirs)
    assert len(import_once(engine, given)) == 3
    assert store.clara_ae_title("NVIDIADGX100") == mine
    assert store.destination("PACS") == theirs
    store.remove_clara_ae_title("NVIDIADGX100")
    assert import_once(engine, given) == []


def test_processes_that_import_at_the_same_time_import_once(engine: Engine, given: GivenEntities) -> None:
    with ThreadPoolExecutor(8) as threads:
        added = list(threads.map(lambda _: import_once(engine, given), range(8)))
    assert sorted(map(len, added)) == [0] * 7 + [5]
    assert len(ConfigurationStore(engine).clara_ae_titles()) == 2


def test_a_long_list_is_imported_whole(engine: Engine) -> None:
    many = [Source(ae_title=f"CT{number}", host_ip="10.0.0.1") for number in range(5000)]
    assert len(import_once(engine, many)) == 5000
    assert len(ConfigurationStore(engine).sources()) == 5000
