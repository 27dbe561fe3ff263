"""The dry run: what it says of a file is what the receiver and the worker would do."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from sqlalchemy import Engine
from support.api import dependencies, serving
from support.dicom_objects import CT, EXPLICIT, make_objects

from clara_dicom_adapter.configuration.settings import (
    ApiSettings,
    DataFolder,
    DicomSettings,
    PlatformSettings,
    ScpSettings,
    ServicesSettings,
    Settings,
)
from clara_dicom_adapter.receiver import grouping
from clara_dicom_adapter.records.secret import SiteSecret

PLATFORM = PlatformSettings(upload_metadata=True, metadata_dicom_source=("0020,000D", "0010,0020"))
AE_TITLE = {"aeTitle": "LUNG", "processorSettings": {"pipeline-a": "A1", "pipeline-b": "B1", "priority": "higher"}}


@pytest.fixture
def file(tmp_path: Path) -> bytes:
    [path] = make_objects(tmp_path / "objects", 1)
    ds = pydicom.dcmread(path)
    ds.PatientID = "PID-1"
    ds.save_as(path)
    return path.read_bytes()


@pytest.fixture
async def api(tmp_path: Path, engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(services=ServicesSettings(platform=PLATFORM))
    async with serving(dependencies(engine, DataFolder(tmp_path), settings)) as client:
        yield client


async def explained(api: httpx.AsyncClient, file: bytes, ae_title: dict[str, Any], **query: str) -> dict[str, Any]:
    await api.post("/api/config/claraaetitle", json=ae_title)
    answer = await api.post(f"/api/config/claraaetitle/{ae_title['aeTitle']}/explain", content=file, params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_group_jobs_and_metadata_are_foretold(api: httpx.AsyncClient, engine: Engine, file: bytes) -> None:
    found = await explained(api, file, AE_TITLE)
    assert found["source"] is None
    assert (found["readable"], found["ignored"]) == (True, False)
    assert (found["sopClassUid"], found["transferSyntaxUid"]) == (CT, EXPLICIT)
    secret = bytes.fromhex(SiteSecret(engine).get_or_create())
    key = grouping.keyed(secret, "window", "LUNG", "0020,000D", "2.25.1")
    assert found["group"] == {
        "by": "attribute",
        "attribute": "0020,000D",
        "hasValue": True,
        "timeoutSeconds": 5,
        "workflowId": f"receive-LUNG-{key}",
    }
    assert [(job["name"], job["pipeline"], job["priority"]) for job in found["jobs"]] == [
        ("a", "A1", "higher"),
        ("b", "B1", "higher"),
    ]
    assert found["jobs"][0]["metadata"].items() >= {"Instances": "1", "0020000D": "2.25.1", "00100020": "PID-1"}.items()
    assert found["summary"] == (
        "It would be received, and its group submitted to A1, B1 when nothing has come for 5 s."
    )


async def test_an_ignored_sop_class_is_said_to_be_answered_and_not_kept(api: httpx.AsyncClient, file: bytes) -> None:
    found = await explained(api, file, {**AE_TITLE, "ignoredSopClasses": [CT]})
    assert (found["ignored"], found["group"], found["jobs"]) == (True, None, [])
    assert found["summary"] == "It would be answered 0000 and not kept: LUNG ignores its SOP class."


@pytest.mark.parametrize(
    ("query", "accepted", "reason"),
    [
        ({"callingAeTitle": "CT1"}, True, ""),
        ({"callingAeTitle": "CT1", "hostIp": "10.1.2.3"}, True, ""),
        ({"callingAeTitle": "CT1", "hostIp": "::ffff:10.1.2.3"}, True, ""),
        ({"callingAeTitle": "CT1", "hostIp": "10.1.2.4"}, False, "peer-address-unknown"),
        ({"callingAeTitle": "CT2"}, False, "calling-ae-title-not-allowed"),
        ({"callingAeTitle": "CT3"}, False, "calling-ae-title-unknown"),
    ],
)
async def test_the_sender_is_judged_as_the_receiver_would(
    api: httpx.AsyncClient, file: bytes, query: dict[str, str], reason: str, *, accepted: bool
) -> None:
    for name in ("CT1", "CT2"):
        await api.post("/api/config/sourceaetitle", json={"aeTitle": name, "hostIp": "10.1.2.3"})
    found = await explained(api, file, {**AE_TITLE, "allowedSources": ["CT1"]}, **query)
    assert (found["source"]["accepted"], found["source"]["reason"]) == (accepted, reason)
    assert bool(found["jobs"]) is accepted
    assert ("would be rejected" in found["summary"]) is not accepted


async def test_without_a_check_of_sources_strangers_are_accepted(tmp_path: Path, engine: Engine, file: bytes) -> None:
    settings = Settings(api=ApiSettings(), dicom=DicomSettings(scp=ScpSettings(reject_unknown_sources=False)))
    async with serving(dependencies(engine, DataFolder(tmp_path), settings)) as api:
        found = await explained(api, file, AE_TITLE, callingAeTitle="STRANGER", hostIp="10.9.9.9")
    assert found["source"]["accepted"]


@pytest.mark.parametrize(
    ("settings", "group"),
    [
        ({"timeout": "0"}, ("association", None, False)),
        ({"groupBy": "none"}, ("AE title", None, False)),
        ({"groupBy": "0010,0020"}, ("attribute", "0010,0020", True)),
        ({"groupBy": "0008,0050"}, ("attribute", "0008,0050", False)),
    ],
)
async def test_groups_are_by_association_attribute_or_ae_title(
    api: httpx.AsyncClient, file: bytes, settings: dict[str, str], group: tuple[str, str | None, bool]
) -> None:
    found = (await explained(api, file, {**AE_TITLE, "processorSettings": {"pipeline-a": "A", **settings}}))["group"]
    assert (found["by"], found["attribute"], found["hasValue"]) == group
    assert (found["workflowId"] is None) is (group[0] == "association")


async def test_a_processor_may_make_no_job_of_it(api: httpx.AsyncClient, file: bytes) -> None:
    settings = {"pipeline-a": "A", "minimumInstances": "2"}
    found = await explained(api, file, {"aeTitle": "S", "processor": "series", "processorSettings": settings})
    assert (found["processor"], found["jobs"]) == ("series", [])
    assert "its job processor would make no job of it" in found["summary"]


@pytest.mark.parametrize("content", [b"", b"no DICOM", bytes(128) + b"DICM" + b"\xff" * 64])
async def test_what_is_no_dicom_file_is_told(api: httpx.AsyncClient, content: bytes) -> None:
    found = await explained(api, content, AE_TITLE)
    assert (found["readable"], found["jobs"]) == (False, [])
    assert found["summary"] == "This is no DICOM file (PS3.10), so nobody can send it."


async def test_of_a_large_file_only_the_head_is_kept(
    api: httpx.AsyncClient, file: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr("clara_dicom_adapter.api.bodies.HEAD_BYTES", 100_000)
    from clara_dicom_adapter.receiver.dry_run import DryRun

    judge = DryRun.explain

    def explain(self: DryRun, ae: Any, head: bytes, *sender: Any) -> Any:
        seen.append(len(head))
        return judge(self, ae, head, *sender)

    monkeypatch.setattr(DryRun, "explain", explain)
    assert len((await explained(api, file + bytes(1_000_000), AE_TITLE))["jobs"]) == 2
    assert seen == [100_000]


async def test_nothing_is_kept_and_an_unknown_ae_title_is_404(
    api: httpx.AsyncClient, tmp_path: Path, file: bytes
) -> None:
    before = set(tmp_path.rglob("*"))
    await explained(api, file, AE_TITLE)
    assert set(tmp_path.rglob("*")) == before
    assert (await api.get("/api/receptions")).json()["total"] == 0
    assert (await api.post("/api/config/claraaetitle/NONE/explain", content=file)).status_code == 404
