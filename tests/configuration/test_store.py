"""The store of AE titles: what a change does, and what an association is pinned to."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine

from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import Destination, Source
from clara_dicom_adapter.configuration.settings import DataFolder, ScpSettings, StorageSettings
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.errors import AlreadyExists, ConfigurationInvalid, NotFound
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.workflows.models import InterruptedPolicy


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine("", DataFolder(tmp_path))
    yield engine
    engine.dispose()


@pytest.fixture
def store(engine: Engine) -> ConfigurationStore:
    return ConfigurationStore(engine)


def ae(**settings: str) -> dict[str, object]:
    return {"aeTitle": "CLARA", "processorSettings": {"pipeline-x": "P", **settings}}


def test_every_change_moves_the_revision_and_a_refused_one_does_not(store: ConfigurationStore, engine: Engine) -> None:
    source = Source(ae_title="CT1", host_ip="10.1.2.3")
    destination = Destination(name="PACS", ae_title="PACS", host_ip="h", port=104)
    seen = [store.revision()]
    for change in (
        lambda: store.add_clara_ae_title(checks.clara_ae_title(ae())),
        lambda: store.add_source(source),
        lambda: store.add_destination(destination),
        lambda: store.remove_clara_ae_title("CLARA"),
        lambda: store.remove_source("CT1"),
        lambda: store.remove_destination("pacs"),
    ):
        change()
        seen.append(ConfigurationStore(engine).revision())
    assert seen == sorted(set(seen))
    store.add_source(source)
    before = store.revision()
    with pytest.raises(AlreadyExists):
        store.add_source(source)
    with pytest.raises(NotFound):
        store.remove_destination("PACS")
    assert store.revision() == before
    assert store.sources() == [source]


def test_an_ae_title_is_pinned_with_what_it_says_and_with_defaults_for_the_rest(engine: Engine) -> None:
    store = ConfigurationStore(engine, ScpSettings(interrupted_hold_seconds=9), StorageSettings())
    store.add_clara_ae_title(checks.clara_ae_title(ae()))
    [(entity, pinned)] = store.ae_titles()
    assert pinned == store.pinned(entity)
    assert (pinned.timeout_seconds, pinned.group_by, pinned.maximum_window_seconds) == (5.0, "0020,000D", None)
    assert (pinned.interrupted, pinned.interrupted_hold_seconds) == (None, 9)
    assert pinned.quarantine_retention_seconds == 168 * 3600
    assert pinned.revision == store.revision()
    said = ae(timeout="0", GroupBy="(0010, 0020)", maximumWindow="60.5") | {
        "aeTitle": "OTHER",
        "interrupted": "discard",
        "overwriteSameInstance": True,
    }
    pinned = store.pinned(store.add_clara_ae_title(checks.clara_ae_title(said)))
    assert (pinned.timeout_seconds, pinned.group_by, pinned.maximum_window_seconds) == (0, "0010,0020", 60.5)
    assert (pinned.interrupted, pinned.overwrite_same_instance) == (InterruptedPolicy.DISCARD, True)
    assert store.pinned(checks.clara_ae_title(ae(groupBy="NONE"))).group_by == "none"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (ae(timeout="inf"), "[ERROR] Invalid processor setting 'timeout' specified for AE Title CLARA."),
        (ae(maximumWindow="-1"), "[ERROR] Invalid processor setting 'maximumWindow' specified for AE Title CLARA."),
        ({"aeTitle": "A\\B"}, "'A\\B' is not a valid AE Title (source: ClaraApplicationEntity)."),
        ({}, "'' is not a valid AE Title (source: ClaraApplicationEntity)."),
        (
            ae() | {"allowedSources": ["CT1", ""]},
            "'' is not a valid AE Title (source: ClaraApplicationEntity.allowedSources).",
        ),
        (ae() | {"interrupted": "forget"}, "Invalid value 'forget' for interrupted: "),
        (ae() | {"name": "x" * 64}, f"Invalid name '{'x' * 64}' specified for ClaraApplicationEntity: "),
    ],
)
def test_what_is_wrong_with_an_ae_title_is_told(body: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigurationInvalid) as caught:
        checks.clara_ae_title(body)
    assert any(line.startswith(problem) for line in caught.value.problems), caught.value.problems


def test_the_case_of_field_names_does_not_matter() -> None:
    assert checks.source({"AETitle": "CT1", "HostIP": "10.1.2.3"}) == Source(ae_title="CT1", host_ip="10.1.2.3")


def test_an_ae_title_that_only_a_program_could_make_wrong_is_refused_too(store: ConfigurationStore) -> None:
    wrong = checks.clara_ae_title(ae()).model_copy(update={"processor_settings": {}})
    with pytest.raises(ConfigurationInvalid, match="No pipeline defined"):
        store.add_clara_ae_title(wrong)
    assert store.clara_ae_titles() == []


def test_names_and_ae_titles_are_each_unique(store: ConfigurationStore) -> None:
    store.add_clara_ae_title(checks.clara_ae_title(ae() | {"name": "first"}))
    with pytest.raises(AlreadyExists, match="Clara AE Title first already exists"):
        store.add_clara_ae_title(checks.clara_ae_title(ae() | {"name": "first", "aeTitle": "B"}))
    with pytest.raises(AlreadyExists, match="Clara AE Title CLARA already exists"):
        store.add_clara_ae_title(checks.clara_ae_title(ae() | {"name": "second"}))


def test_of_many_who_add_the_same_at_once_one_succeeds(store: ConfigurationStore) -> None:
    entity = Destination(name="PACS", ae_title="PACS", host_ip="h", port=104)

    def add(_: int) -> bool:
        try:
            store.add_destination(entity)
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 1
    assert store.destinations() == [entity]
