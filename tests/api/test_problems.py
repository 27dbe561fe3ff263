"""Every error is a problem document, and foreign pages get nowhere."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text
from structlog.testing import capture_logs

from clara_dicom_adapter.api import Dependencies, RunFolder, TemporalControl, create_app
from clara_dicom_adapter.configuration.settings import TemporalSettings
from clara_dicom_adapter.configuration.store import ConfigurationStore


@pytest.mark.parametrize(
    ("method", "path", "status", "detail"),
    [
        ("GET", "/nowhere", 404, "GET /nowhere is not offered."),
        ("PUT", "/api/config/claraaetitle", 405, "PUT /api/config/claraaetitle is not offered."),
        ("GET", "/api/associations?limit=0", 422, "query.limit: Input should be greater than or equal to 1"),
        ("GET", "/api/exports?stat=x", 422, "query.stat: Extra inputs are not permitted"),
        ("GET", "/api/config/claraaetitle/NONE", 404, "Clara AE Title 'NONE' does not exist"),
        ("POST", "/api/receptions/none/retry", 404, "reception 'none' does not exist"),
        (
            "GET",
            "/api/trace/1.2.3",
            404,
            "study, series, instance, association, group, job or export '1.2.3' does not exist",
        ),
    ],
)
async def test_errors_are_problem_documents(
    api: httpx.AsyncClient, method: str, path: str, status: int, detail: str
) -> None:
    answer = await api.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"] == detail
    assert answer.json()["title"]


async def test_a_body_that_is_no_json_is_a_bad_request(api: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    answer = await api.post("/api/config/sourceaetitle", content=b"{", headers=headers)
    assert (answer.status_code, answer.json()["title"]) == (400, "Validation error.")


async def test_a_defect_is_a_problem_document_without_its_inside(engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE counter SET value = 0"))
        connection.execute(text("INSERT INTO source VALUES ('', 'not acceptable')"))
    deps = Dependencies(ConfigurationStore(engine), engine, RunFolder(tmp_path), TemporalControl(TemporalSettings()))
    transport = httpx.ASGITransport(create_app(deps), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        with capture_logs() as logs:
            answer = await client.get("/api/config/sourceaetitle")
    assert [(entry["event"], entry["route"]) for entry in logs] == [("request_failed", "/api/config/sourceaetitle")]
    assert answer.json() == {
        "title": "Internal error.",
        "status": 500,
        "detail": "The cause is in the log (ValidationError).",
    }


async def test_an_unreachable_database_is_told_as_such(engine: Engine, api: httpx.AsyncClient) -> None:
    engine.dispose()
    database = Path(str(engine.url.database))
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()
    database.mkdir()
    answer = await api.get("/api/config/sourceaetitle")
    assert (answer.status_code, answer.json()["title"]) == (503, "Error querying database.")
    ready = await api.get("/health/ready", params={"role": "api"})
    assert ready.status_code == 503
    assert "SQLite database cannot be used" in ready.json()["roles"]["api"]["reason"]
    assert (await api.get("/health/live")).status_code == 200
    assert (await api.get("/metrics")).status_code == 200


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"host": "evil.example:5000"}, 403),
        ("GET", {"host": "localhost:5000"}, 200),
        ("GET", {"host": "[::1]:5000"}, 200),
        ("POST", {"origin": "http://evil.example"}, 403),
        ("POST", {"origin": "null"}, 403),
        ("POST", {"host": "localhost:5000", "origin": "http://localhost:5000"}, 200),
    ],
)
async def test_other_peoples_web_pages_are_kept_out(
    api: httpx.AsyncClient, method: str, headers: dict[str, str], status: int
) -> None:
    path = "/api/attention" if method == "GET" else "/api/attention/retry"
    assert (await api.request(method, path, headers=headers)).status_code == status


async def test_openapi_describes_every_operation_with_its_errors(api: httpx.AsyncClient) -> None:
    document = (await api.get("/openapi.json")).json()
    operations = {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(ids) == len(set(ids)) == 38
    known_tags = {tag["name"] for tag in document["tags"]}
    for where, operation in operations.items():
        assert operation["summary"], where
        assert set(operation["tags"]) <= known_tags, where
        errors = {status: answer for status, answer in operation["responses"].items() if int(status) >= 400}
        assert errors or where[0] == "/health/live", where
        assert all("description" in answer for answer in errors.values())
        assert all(each.get("description") for each in operation.get("parameters", [])), where
        if where[0].startswith("/api"):
            assert all("application/problem+json" in answer["content"] for answer in errors.values()), where
        if method_body := operation.get("requestBody"):
            assert all("schema" in media for media in method_body["content"].values()), where
    assert "HTTPValidationError" not in str(document)
    _references_resolve(document, document)


def _references_resolve(part: object, document: dict[str, object]) -> None:
    if isinstance(part, dict):
        reference = part.get("$ref")
        if isinstance(reference, str):
            here: object = document
            for name in reference.removeprefix("#/").split("/"):
                assert isinstance(here, dict)
                here = here[name]
        for below in part.values():
            _references_resolve(below, document)
    if isinstance(part, list):
        for below in part:
            _references_resolve(below, document)
