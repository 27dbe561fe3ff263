"""DICOMweb destinations over REST."""

from typing import Any

import httpx
import pytest

BODY: dict[str, Any] = {
    "name": "ARCHIVE",
    "url": "https://archive.hospital/dicom-web",
    "authentication": {"kind": "basic", "user": "clara", "passwordFile": "/etc/clara/password"},
    "tls": {"caFile": "/etc/clara/ca.pem"},
    "maximumRequests": 4,
}
PATH = "/api/config/dicomwebdestination"


async def test_a_destination_is_added_found_in_any_case_and_removed(api: httpx.AsyncClient) -> None:
    made = await api.post(PATH, json=BODY)
    assert (made.status_code, made.headers["Location"]) == (201, f"{PATH}/ARCHIVE")
    found = (await api.get(f"{PATH}/archive")).json()
    assert found["authentication"]["passwordFile"] == "/etc/clara/password"
    assert (found["tls"]["caFile"], found["maximumRequests"]) == ("/etc/clara/ca.pem", 4)
    assert (await api.get(PATH)).json() == [found]
    assert (await api.delete(f"{PATH}/Archive")).json() == found
    assert (await api.get(f"{PATH}/archive")).status_code == 404


async def test_the_token_server_may_have_a_tls_of_its_own(api: httpx.AsyncClient) -> None:
    grant = {"kind": "oauth2", "tokenUrl": "https://login.hospital/token", "clientId": "us", "clientSecretFile": "/s"}
    body = {**BODY, "authentication": {**grant, "tokenTls": {"caFile": "/etc/clara/login.pem"}}}
    assert (await api.post(PATH, json=body)).status_code == 201
    found = (await api.get(f"{PATH}/archive")).json()
    assert found["authentication"]["tokenTls"]["caFile"] == "/etc/clara/login.pem"
    await api.delete(f"{PATH}/archive")
    refused = await api.post(PATH, json={**BODY, "authentication": {**BODY["authentication"], "tokenTls": {}}})
    assert (refused.status_code, "tokenTls is for oauth2" in refused.json()["detail"]) == (400, True)


async def test_a_name_belongs_to_one_destination_of_either_kind(api: httpx.AsyncClient) -> None:
    other = {"name": "archive", "aeTitle": "A", "hostIp": "h", "port": 104}
    assert (await api.post(PATH, json=BODY)).status_code == 201
    assert (await api.post(PATH, json=BODY)).status_code == 400
    refused = await api.post("/api/config/destinationaetitle", json=other)
    assert (refused.status_code, refused.json()["detail"]) == (400, "Destination with name archive already exists.")
    await api.delete(f"{PATH}/ARCHIVE")
    assert (await api.post("/api/config/destinationaetitle", json=other)).status_code == 201
    assert (await api.post(PATH, json=BODY)).status_code == 400


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"url": "archive.hospital"}, "for url"),
        ({"url": "https://us:secret@archive.hospital/dicom-web"}, "for url"),
        ({"authentication": {"kind": "basic", "user": "clara"}}, "basic needs passwordFile"),
        ({"authentication": {"kind": "bearer"}}, "bearer needs tokenFile"),
        ({"authentication": {"kind": "oauth2", "clientId": "us"}}, "oauth2 needs tokenUrl, clientSecretFile"),
        ({"authentication": {"kind": "bearer", "tokenFile": "token"}}, "absolute path"),
        ({"name": ""}, "Invalid name"),
        ({"aeTitle": "A"}, "Unknown field 'aeTitle'"),
    ],
)
async def test_what_is_wrong_is_told(api: httpx.AsyncClient, change: dict[str, Any], problem: str) -> None:
    refused = await api.post(PATH, json={**BODY, **change})
    assert refused.status_code == 400
    assert problem in refused.json()["detail"]
