"""What an operator sees of an export, and how it is sent to another destination."""

from dataclasses import dataclass
from typing import Any

import httpx
from sqlalchemy import Engine

from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.records.exports import ExportRecords, ResultObject

TASK_ID = "0b6a8a0e-6f7c-4b8e-9a55-2f6f7c1d2e3f"


@dataclass(frozen=True)
class Task:
    task_id: str = TASK_ID
    job_id: str = "job-1"
    pipeline_id: str = "P1"
    payload_id: str = "payload-1"
    parameters: str = '["PACS", "ARCHIVE"]'
    retries: int = 3
    uris: tuple[str, ...] = ("/output/1.dcm", "/output/2.dcm")


@dataclass(frozen=True)
class Result:
    index: int
    verdict: str = "stored"
    status: int | None = 0
    reason: str = ""
    comment: str = ""

    @property
    def delivered(self) -> bool:
        return self.verdict == "stored"


def happened(engine: Engine) -> None:
    """One of two objects was refused by the PACS; the archive has both."""
    exports = ExportRecords(engine)
    exports.offer("ClaraSCU", Task(), 0)
    exports.save_objects(TASK_ID, [ResultObject(0, "1.2.1", "1.2", "1.2"), ResultObject(1, "1.2.2", "1.2", "1.2")])
    exports.save_results(TASK_ID, "PACS", [Result(0), Result(1, "refused", 0xA900, "status A900", "no such class")])
    exports.save_results(TASK_ID, "ARCHIVE", [Result(0), Result(1)])
    exports.reported(TASK_ID, 1, success=False, retry_later=False, accepted=True, message="PACS: 1 of 2 not stored")
    exports.note(TASK_ID, "NeedsAttention", "PACS: 1 of 2 not stored")


def places(body: Any) -> list[tuple[int, str, str]]:
    return [(item["number"], item["destination"], item["verdict"]) for item in body["items"]]


async def test_an_export_is_shown_with_each_object_at_each_destination(api: httpx.AsyncClient, engine: Engine) -> None:
    happened(engine)
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
    happened(engine)
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
