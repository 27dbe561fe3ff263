"""The JSON of 0.6: the examples of its documents, documents that can be sent back, and who chooses the shape."""

import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine
from support.api import dependencies, serving

from clara_dicom_adapter.configuration.settings import ApiSettings, DataFolder, Dialect, Settings

PAGE = Path(__file__).parents[2] / "docs" / "api.md"
API_VERSION = "dicom.clara.nvidia.com/v1beta2"
V6 = "application/vnd.clara.dicom.v0.6+json"
V8 = "application/vnd.clara.dicom.v0.8+json"
SOURCE = {"aeTitle": "Orthanc", "hostIp": "1.2.3.4"}
AE_TITLES, SOURCES, DESTINATIONS = (
    f"/api/config/{route}" for route in ("claraaetitle", "sourceaetitle", "destinationaetitle")
)


@pytest.fixture
async def old(tmp_path: Path, engine: Engine) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an adapter whose plain JSON is that of 0.6."""
    settings = Settings(api=ApiSettings(dialect=Dialect.V0_6))
    async with serving(dependencies(engine, DataFolder(tmp_path), settings)) as client:
        yield client


def examples() -> list[tuple[str, str, dict[str, str], str | None]]:
    """The curl commands on the page: method, path, headers, body."""
    text = re.sub(r"\\\n", " ", PAGE.read_text(encoding="utf-8"))
    found = []
    for line in text.splitlines():
        if line.startswith("curl --location"):
            words = shlex.split(line)[2:]
            method, url = words[1], words[2]
            options = dict(zip(words[3::2], words[4::2], strict=True))
            name, _, value = options.get("--header", "Accept: */*").partition(": ")
            found.append((method, url.removeprefix("http://localhost:5000"), {name: value}, options.get("--data-raw")))
    return found


async def test_the_examples_of_the_documents_are_answered_as_described_there(old: httpx.AsyncClient) -> None:
    answers: list[Any] = []
    for method, path, headers, body in examples():
        answer = await old.request(method, path, headers=headers, content=body)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        answers.append(answer.json())
    listed, brain, orthanc, pacs, deleted = answers
    assert listed == {"apiVersion": API_VERSION, "items": [], "kind": "DestinationList", "metadata": {}}
    assert (brain["apiVersion"], brain["kind"]) == (API_VERSION, "ClaraAeTitle")
    assert brain["metadata"] == {"name": "clara-brain-tumor"}
    assert (
        brain["spec"].items()
        >= {
            "name": "clara-brain-tumor",
            "aeTitle": "BrainTumorModel",
            "pipelineId": "7b9cda79ed834fdc87cd4169216c4011",
            "timeout": 0,
        }.items()
    )
    assert orthanc == {
        "apiVersion": API_VERSION,
        "kind": "Source",
        "metadata": {"name": "orthanc-1.2.3.4"},
        "spec": SOURCE,
    }
    assert pacs["spec"].items() >= {"name": "pacs", "aeTitle": "ARCHIVEX", "hostIp": "10.20.30.40", "port": 104}.items()
    assert deleted == {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Success",
        "details": {"name": "clara-brain-tumor", "kind": "ClaraAeTitle"},
    }
    assert (await old.get(AE_TITLES)).json()["items"] == []


async def test_a_timeout_of_0_6_collects_everything_of_the_ae_title_whatever_the_study(old: httpx.AsyncClient) -> None:
    body = {"name": "all", "aeTitle": "ALL", "pipelineId": "p1", "timeout": 5}
    assert (await old.post(AE_TITLES, json=body)).status_code == 200
    plain = (await old.get(f"{AE_TITLES}/ALL", headers={"Accept": V8})).json()
    assert plain["processorSettings"] == {"timeout": "5", "groupBy": "none", "pipeline-all": "p1"}
    more = {"aeTitle": "MORE", "pipelineId": "p1", "processors": ["series", "ae-title"], "overwriteSameInstance": True}
    assert (await old.post(AE_TITLES, json=more)).json()["spec"]["timeout"] == 0
    plain = (await old.get(f"{AE_TITLES}/MORE", headers={"Accept": V8})).json()
    assert (plain["processor"], plain["overwriteSameInstance"]) == ("series; ae-title", True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"aeTitle": "A", "pipelineId": 5}, "Invalid pipelineId '5': the id or name of a pipeline is expected."),
        (
            {"aeTitle": "A", "pipelineId": "p", "timeout": "soon", "processors": "one"},
            (
                "Invalid timeout 'soon': a number of seconds is expected, 0 or more.\n"
                "Invalid processors: a list of job processors is expected."
            ),
        ),
        ({"aeTitle": "A"}, "[ERROR] No pipeline defined for AE Title A."),
        (
            {"aeTitle": "A", "pipelineId": "p", "processorSettings": {"pipeline-x": "1", "pipeline-y": "2"}},
            "pipelineId 'p' is none of the pipelines in processorSettings; say it there.",
        ),
        (
            {"apiVersion": "v1", "kind": "Pod", "spec": {"aeTitle": "A", "pipelineId": "p"}},
            f"Invalid apiVersion 'v1': '{API_VERSION}' is expected.\nInvalid kind 'Pod': 'ClaraAeTitle' is expected.",
        ),
    ],
)
async def test_what_is_wrong_is_told_as_a_status(old: httpx.AsyncClient, body: dict[str, Any], message: str) -> None:
    answer = await old.post(AE_TITLES, json=body)
    assert answer.status_code == 400
    assert answer.json() == {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "Invalid",
        "code": 400,
    }


async def test_what_exists_is_400_and_what_does_not_404(old: httpx.AsyncClient) -> None:
    await old.post(SOURCES, json=SOURCE)
    again = await old.post(SOURCES, json=SOURCE)
    assert (again.status_code, again.json()["message"]) == (400, "Source with AE Title Orthanc already exists.")
    missing = await old.delete(f"{DESTINATIONS}/pacs")
    assert (missing.status_code, missing.json()["reason"]) == (404, "NotFound")


async def test_a_document_that_was_read_can_be_sent_back(old: httpx.AsyncClient, api: httpx.AsyncClient) -> None:
    """Whatever was left to defaults when it was made, which were others in 0.6."""
    settings = {"pipeline-x": "p1", "priority": "higher"}
    await api.post(AE_TITLES, json={"name": "new", "aeTitle": "NEW", "processorSettings": settings})
    for path in (f"{AE_TITLES}/new", f"{SOURCES}/orthanc-1.2.3.4", f"{DESTINATIONS}/pacs"):
        if path.startswith(SOURCES):
            await old.post(SOURCES, json=SOURCE)
        if path.startswith(DESTINATIONS):
            await old.post(DESTINATIONS, json={"name": "pacs", "hostIp": "h", "aeTitle": "A", "port": 104})
        read = (await old.get(path)).json()
        put = await old.put(path, json=read)
        assert (put.status_code, put.json()) == (200, read)
        assert (await old.get(path)).json() == read
    plain = (await api.get(f"{AE_TITLES}/new")).json()["processorSettings"]
    assert plain == settings | {"timeout": "5", "groupBy": "0020,000D"}
    changed = (await old.get(f"{AE_TITLES}/new")).json()
    changed["spec"] |= {"pipelineId": "p2", "timeout": 7}
    assert (await old.put(f"{AE_TITLES}/new", json=changed)).json()["spec"]["processorSettings"] == (
        plain | {"pipeline-x": "p2", "timeout": "7"}
    )


@pytest.mark.parametrize(
    ("headers", "kind", "media_type"),
    [
        ({}, None, "application/json"),
        ({"Accept": V6}, "Source", V6),
        ({"Accept": f"{V6};q=0.5, {V8}"}, None, V8),
        ({"Accept": f"text/html, {V6};q=0.1"}, "Source", V6),
        ({"Accept": f"application/json, {V6};q=0.1"}, None, "application/json"),
        ({"Content-Type": V6}, "Source", V6),
        ({"Content-Type": V6, "Accept": V8}, None, V8),
        ({"Content-Type": V6, "Accept": "*/*"}, "Source", V6),
        ({"Accept": "text/plain"}, None, "application/json"),
    ],
)
async def test_a_media_type_chooses_the_shape(
    api: httpx.AsyncClient, headers: dict[str, str], kind: str | None, media_type: str
) -> None:
    await api.post(SOURCES, json=SOURCE)
    answer = await api.put(f"{SOURCES}/Orthanc", json=SOURCE, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (answer.json().get("kind"), answer.headers["content-type"]) == (kind, media_type)


async def test_a_version_that_is_not_spoken_is_refused(api: httpx.AsyncClient) -> None:
    unknown = "application/vnd.clara.dicom.v0.5+json"
    asked = await api.get(SOURCES, headers={"Accept": unknown})
    sent = await api.post(SOURCES, json=SOURCE, headers={"Content-Type": unknown})
    assert (asked.status_code, sent.status_code) == (406, 415)
    assert V6 in asked.json()["detail"]
    assert (await api.post(SOURCES, content="a=b", headers={"Content-Type": "text/plain"})).status_code == 415


async def test_plain_json_in_openapi_is_that_of_the_setting(old: httpx.AsyncClient, api: httpx.AsyncClient) -> None:
    for client, default, other in ((old, V6, V8), (api, V8, V6)):
        post = (await client.get("/openapi.json")).json()["paths"][AE_TITLES]["post"]
        content = post["requestBody"]["content"]
        assert content["application/json"] == content[default] != content[other]
        assert set(post["responses"]["200"]["content"]) >= {V6}
        assert set(post["responses"]["201"]["content"]) >= {V8}
