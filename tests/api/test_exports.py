"""What an operator sees of an export, and how it is sent to another destination."""

from typing import Any

import httpx
from sqlalchemy import Engine
from support.recorded_export import TASK_ID, record

from clara_dicom_adapter.configuration.store import ConfigurationStore


def places(body: Any) -> list[tuple[int, str, str]]:
    return [(item["number"], item["destination"], item["verdict"]) for item in body["items"]]


async def test_an_export_is_shown_with_each_object_at_each_destination(api: httpx.AsyncClient, engine: Engine) -> None:
    record(engine)
    export = (await api.get(f"/api/exports/{TASK_ID}")).json()
    assert export["destinations"] == [
        {"name": "ARCHIVE", "delivered": 2, "failed": 0},
        {"name": "PACS", "delivered": 1, "failed": 1},
    ]
    assert export["links"]["temporal"] == f"http://temporal/export-ClaraSCU-{TASK_ID}"
    everything = (await api.get(f"/api/exports/{TASK_ID}/objects")).json()
    assert everything["total"] == 4
    assert places(everything) == [
        (0, "ARCHIVE", "stored"),
        (0, "PACS", "stored"),
        (1, "ARCHIVE", "stored"),
        (1, "PACS", "refused"),
    ]
    second = (await api.get(f"/api/exports/{TASK_ID}/objects", params={"limit": 1, "offset": 1})).json()
    assert places(second) == [(0, "PACS", "stored")]
    failed = (await api.get(f"/api/exports/{TASK_ID}/objects", params={"verdict": "refused"})).json()
    (item,) = failed["items"]
    assert (item["sopInstanceUid"], item["status"], item["reason"]) == ("1.2.2", 0xA900, "status A900")
    assert item["comment"] == "no such class"
    of_archive = (await api.get(f"/api/exports/{TASK_ID}/objects", params={"destination": "ARCHIVE"})).json()
    assert of_archive["total"] == 2
    for path in ("/api/exports/unknown", "/api/exports/unknown/objects"):
        assert (await api.get(path)).status_code == 404
    assert (await api.get(f"/api/exports/{TASK_ID}/objects", params={"what": "x"})).status_code == 422


async def test_an_export_is_sent_to_another_destination(api: httpx.AsyncClient, engine: Engine, control: Any) -> None:
    record(engine)
    store = ConfigurationStore(engine)
    await api.post(
        "/api/config/destinationaetitle", json={"name": "Backup", "aeTitle": "B", "hostIp": "h", "port": 104}
    )
    assert store.destination("backup").maximum_associations == 2
    path = f"/api/exports/{TASK_ID}/retry"
    assert (await api.post(path, json={"to": "backup", "item": "PACS"})).json()["done"]
    assert (await api.post(path, json={"item": "PACS"})).json()["done"]
    assert [(type(request).__name__, request.model_dump()) for _, request in control.asked] == [
        ("SendElsewhereInput", {"destination": "Backup", "instead_of": "PACS"}),
        ("RetryInput", {"item": "PACS"}),
    ]
    unknown = await api.post(path, json={"to": "typo"})
    assert (unknown.status_code, len(control.asked)) == (404, 2)
    assert "typo" in unknown.json()["detail"]


async def test_tls_of_a_destination_is_configured_and_checked(api: httpx.AsyncClient) -> None:
    tls = {"caFile": "/ca.pem", "certificateFile": None, "keyFile": None, "serverName": "pacs.hospital"}
    body = {"name": "PACS", "aeTitle": "P", "hostIp": "h", "port": 2762, "maximumAssociations": 4, "tls": tls}
    created = await api.post("/api/config/destinationaetitle", json=body)
    assert (created.status_code, created.json()) == (201, body)
    assert (await api.get("/api/config/destinationaetitle/pacs")).json() == body
    relative = await api.post(
        "/api/config/destinationaetitle", json={**body, "name": "B", "tls": {"caFile": "ca.pem", "crl": "x"}}
    )
    assert relative.status_code == 400
    lines = relative.json()["detail"].splitlines()
    assert lines == [
        "Invalid value 'ca.pem' for tls.caFile: Value error, an absolute path is expected.",
        "Invalid value 'x' for tls.crl: Extra inputs are not permitted.",
    ]
