"""A large site as resources: 1,000 AE titles, 5,000 sources and 500 destinations on a real API server."""

import uuid
from typing import Any

import pytest
from support.kubernetes_place import KIND_OF, Place
from support.site import wait_until

from clara_dicom_adapter.configuration.chosen import Configuration
from clara_dicom_adapter.receiver.acceptance import KnownApplicationEntities
from clara_dicom_adapter.receiver.known import KnownKeeper
from clara_dicom_adapter.resources.kinds import API_VERSION, GROUP

AE_TITLES, SOURCES, DESTINATIONS = 1000, 5000, 500


def resource(place: Place, plural: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """As the API server keeps one."""
    metadata = {
        "name": name,
        "namespace": place.namespace,
        "uid": str(uuid.uuid4()),
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return {"apiVersion": API_VERSION, "kind": KIND_OF[plural], "metadata": metadata, "spec": spec}


def fill(place: Place) -> None:
    """Each source has two hosts, so that there are half as many calling AE titles."""
    many: dict[str, list[dict[str, Any]]] = {
        "claraaetitles": [{"aeTitle": f"CLARA{n}", "pipelineId": f"p{n}"} for n in range(AE_TITLES)],
        "sources": [{"aeTitle": f"CT{n // 2}", "hostIp": f"10.1.{n // 250}.{n % 250}"} for n in range(SOURCES)],
        "destinations": [{"aeTitle": f"PACS{n}", "hostIp": "10.2.0.1", "port": 104} for n in range(DESTINATIONS)],
    }
    for plural, specs in many.items():
        place.cluster.store(GROUP, plural, [resource(place, plural, f"r{n}", spec) for n, spec in enumerate(specs)])


def counts(known: KnownApplicationEntities | None, configuration: Configuration) -> tuple[int, int, int]:
    if known is None:
        return 0, 0, 0
    return len(known.ae_titles), sum(map(len, known.sources.values())), len(configuration.destinations())


@pytest.mark.timeout(180)
def test_a_large_site_is_known_and_followed_and_a_change_waits_for_nobodys_condition(place: Place) -> None:
    fill(place)
    with (
        place.configuration("receiver", data="receiver") as configuration,
        place.configuration("worker", report=True, data="worker"),
    ):
        keeper = KnownKeeper(configuration, place.folder / "known.json")
        keeper.start()
        try:
            everything = (AE_TITLES, SOURCES, DESTINATIONS)
            wait_until("the receiver knows all of it", lambda: counts(keeper.current, configuration) == everything)
            place.declare("sources", "new", {"aeTitle": "NEW", "hostIp": "10.3.0.1"})
            assert place.accepted("sources", "new")[:2] == ("True", "Accepted")
            wait_until("it knows the new one", lambda: keeper.current is not None and "NEW" in keeper.current.sources)
            place.withdraw("sources", "r0")
            place.withdraw("sources", "r1")
            wait_until(
                "and that CT0 is gone", lambda: keeper.current is not None and "CT0" not in keeper.current.sources
            )
        finally:
            keeper.stop()
