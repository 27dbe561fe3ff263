"""What docs/compatibility.md says of the routes of 0.8 and 0.6."""

import httpx
import pytest

V6 = "application/vnd.clara.dicom.v0.6+json"
SOURCE = {"aeTitle": "Orthanc", "hostIp": "1.2.3.4"}
CLARA = {"name": "lungs", "aeTitle": "LUNGS", "processorSettings": {"pipeline-lung": "abc"}}
DESTINATION = {"name": "pacs", "hostIp": "10.20.30.40", "aeTitle": "ARCHIVEX", "port": 104}
SOURCES = "/api/config/sourceaetitle"


async def test_an_ae_title_may_have_16_characters(api: httpx.AsyncClient) -> None:
    """Seeds 000 and 003, and PS3.5; the original allowed 15."""
    for number, status in ((15, 201), (16, 201), (17, 400)):
        assert (await api.post(SOURCES, json={**SOURCE, "aeTitle": "X" * number})).status_code == status


async def test_paths_are_in_lower_case_and_fields_in_any_case(api: httpx.AsyncClient) -> None:
    assert (await api.get("/api/config/SourceAeTitle")).status_code == 404
    assert (await api.post(SOURCES, json={"AETITLE": "Orthanc", "hostip": "1.2.3.4"})).json() == SOURCE


@pytest.mark.parametrize(
    ("route", "body"), [("claraaetitle", CLARA), ("sourceaetitle", SOURCE), ("destinationaetitle", DESTINATION)]
)
async def test_what_is_added_has_its_place_in_both_shapes(
    api: httpx.AsyncClient, route: str, body: dict[str, object]
) -> None:
    for headers, status in (({}, 201), ({"Accept": V6}, 200)):
        added = await api.post(f"/api/config/{route}", json=body, headers=headers)
        assert added.status_code == status
        assert (await api.get(added.headers["location"], headers=headers)).json() == added.json()
        assert (await api.delete(added.headers["location"])).status_code == 200


async def test_a_source_is_found_by_the_name_of_its_resource(api: httpx.AsyncClient) -> None:
    """Seed 001 deletes by "name of the Kubernetes custom resource", which "can be found in the metadata section"."""
    added = (await api.post(SOURCES, json=SOURCE, headers={"Accept": V6})).json()
    name = added["metadata"]["name"]
    assert name == "orthanc-1.2.3.4"
    assert (await api.get(f"{SOURCES}/{name}", headers={"Accept": V6})).json() == added
    moved = await api.put(f"{SOURCES}/{name}", json={**SOURCE, "hostIp": "1.2.3.5"})
    assert moved.json()["hostIp"] == "1.2.3.5"
    deleted = await api.delete(f"{SOURCES}/orthanc-1.2.3.5", headers={"Accept": V6})
    assert (deleted.json()["kind"], deleted.json()["status"]) == ("Status", "Success")
    assert (await api.get(SOURCES)).json() == []
