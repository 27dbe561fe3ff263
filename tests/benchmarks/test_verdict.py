"""A large site: 1,000 AE titles, 5,000 sources and 500 destinations, from the store through REST to the verdict."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import verdict
from sqlalchemy import Engine
from support.api import dependencies, serving

from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.receiver.acceptance import Accept, AssociationRequest, Load, Policy, RejectReason
from clara_dicom_adapter.receiver.acceptance import verdict as decide
from clara_dicom_adapter.receiver.known import KnownCopy, snapshot
from clara_dicom_adapter.records.database import open_engine


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Path]]:
    folder = tmp_path_factory.mktemp("large")
    engine = open_engine("", DataFolder(folder))
    verdict.fill(engine)
    yield engine, folder
    engine.dispose()


def test_every_source_and_ae_title_is_decided_on_rightly(large: tuple[Engine, Path]) -> None:
    engine, folder = large
    keeper = verdict.keeper_of(engine, folder)
    assert keeper.refresh()
    keeper.resolve_now()
    copy = keeper.copy
    assert copy is not None
    told = snapshot(KnownCopy.model_validate_json(copy.model_dump_json()))  # as a listener gets it
    for known in (keeper.current, told):
        assert known is not None
        assert len(known.ae_titles) == 1000
        assert sum(map(len, known.sources.values())) == 5000
        store = ConfigurationStore(engine)
        for number, source in enumerate(store.sources()):
            called = f"CLARA{number % 1000}"
            request = AssociationRequest(source.ae_title, called, source.host_ip)
            found = decide(request, known, Policy(), Load())
            allowed = known.ae_titles[called].entity.allowed_sources
            if allowed and source.ae_title not in allowed:
                assert found.reason is RejectReason.CALLING_AE_TITLE_NOT_ALLOWED  # type: ignore[union-attr]
            else:
                assert isinstance(found, Accept)
                assert found.ae.entity.ae_title == called
            elsewhere = replace(request, peer="192.0.2.1")
            assert decide(elsewhere, known, Policy(), Load()).reason is RejectReason.PEER_ADDRESS_UNKNOWN  # type: ignore[union-attr]


async def test_all_of_it_is_listed_and_changed_over_rest(large: tuple[Engine, Path]) -> None:
    engine, folder = large
    async with serving(dependencies(engine, DataFolder(folder))) as api:
        for route, count in (("claraaetitle", 1000), ("sourceaetitle", 5000), ("destinationaetitle", 500)):
            assert len((await api.get(f"/api/config/{route}")).json()) == count
        one = (await api.get("/api/config/destinationaetitle/PACS499")).json()
        assert (await api.put("/api/config/destinationaetitle/PACS499", json={**one, "port": 105})).status_code == 200


def test_the_benchmark_tells_the_median_and_what_was_decided() -> None:
    result = verdict.measure(2000)
    assert result["median_seconds"] > 0
    assert sum(result["found"].values()) == 2000
    assert {"accepted", "calling-ae-title-unknown", "peer-address-unknown", "called-ae-title-unknown"} <= set(
        result["found"]
    )
