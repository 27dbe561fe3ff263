"""The Results Service: our client against the embedded one, and against answers that others may give."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from support.platform import RunningPlatform
from support.results_service import FakeResultsService

from clara_dicom_adapter.clara import results
from clara_dicom_adapter.clara.results import ResultsServiceClient, destinations
from clara_dicom_adapter.errors import ResultsServiceRefused, ResultsServiceUnreachable

Answer = tuple[int, bytes]


@pytest.fixture
def service() -> Iterator[Callable[[Answer], str]]:
    """Serves one fixed answer; returns its URL."""
    servers: list[HTTPServer] = []

    def serve(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

            do_PUT = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", ()),
        ("  ", ()),
        ("null", ()),
        ('""', ()),
        ('"MYPACS"', ("MYPACS",)),
        ('["A", " B ", "A", null, ""]', ("A", "B")),
        ("[]", ()),
        ("MYPACS", ("MYPACS",)),
        ('["A"', ('["A"',)),
        ("5", ("5",)),
        ('{"a": 1}', ('{"a": 1}',)),
    ],
)
def test_destinations_in_parameters(parameters: str, expected: tuple[str, ...]) -> None:
    assert destinations(parameters) == expected


@pytest.mark.parametrize("body", [b"", b"  ", b"null", b"[]"])
def test_no_tasks_in_any_form(service: Callable[[Answer], str], body: bytes) -> None:
    with ResultsServiceClient(service((200, body))) as client:
        assert client.pending("ClaraSCU") == []


def test_keys_are_read_in_any_case_and_tasks_without_id_left_out(service: Callable[[Answer], str]) -> None:
    body = b'[{"TaskId":"t1","PAYLOADID":"p","retries":2,"Uris":["a","b"],"parameters":["X"]},{"jobId":"j"},7]'
    with ResultsServiceClient(service((200, body))) as client:
        (task,) = client.pending("ClaraSCU")
    assert (task.task_id, task.payload_id, task.retries, task.uris) == ("t1", "p", 2, ("a", "b"))
    assert destinations(task.parameters) == ("X",)


@pytest.mark.parametrize(
    ("uris", "expected"),
    [
        ("null", ()),
        ("[]", ()),
        ('""', ()),
        ('"a"', ("a",)),
        ("7", ("7",)),
        ('{"uri": "a"}', ('{"uri": "a"}',)),
        ('["a", null, {"b": 1}]', ("a", "null", '{"b": 1}')),
    ],
)
def test_whatever_stands_for_files_is_not_taken_for_none(
    service: Callable[[Answer], str], uris: str, expected: tuple[str, ...]
) -> None:
    """A task without files is a success."""
    with ResultsServiceClient(service((200, f'[{{"taskId": "t", "uris": {uris}}}]'.encode()))) as client:
        (task,) = client.pending("ClaraSCU")
    assert task.uris == expected


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((500, b""), ResultsServiceUnreachable),
        ((503, b""), ResultsServiceUnreachable),
        ((429, b""), ResultsServiceUnreachable),
        ((404, b""), ResultsServiceRefused),
        ((400, b"{}"), ResultsServiceRefused),
        ((200, b"<html>"), ResultsServiceUnreachable),
        ((200, b"{}"), ResultsServiceUnreachable),
    ],
)
def test_what_goes_wrong_is_ours_to_name(
    service: Callable[[Answer], str], answer: Answer, error: type[Exception]
) -> None:
    with ResultsServiceClient(service(answer)) as client, pytest.raises(error):
        client.pending("ClaraSCU")


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 405, 407, 408, 413, 429, 500, 503])
def test_a_report_that_the_service_itself_has_not_settled_waits(service: Callable[[Answer], str], status: int) -> None:
    with ResultsServiceClient(service((status, b""))) as client:
        with pytest.raises(ResultsServiceUnreachable, match=f"HTTP status {status}"):
            client.report_success("t")
        with pytest.raises(ResultsServiceUnreachable, match=f"HTTP status {status}"):
            client.report_failure("t", retry_later=True)


@pytest.mark.parametrize("status", [404, 409, 410])
def test_a_report_of_a_task_that_is_gone_or_settled_is_refused(service: Callable[[Answer], str], status: int) -> None:
    with (
        ResultsServiceClient(service((status, b""))) as client,
        pytest.raises(ResultsServiceRefused, match=f"HTTP status {status}"),
    ):
        client.report_success("t")


def test_a_task_is_looked_for_behind_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_LOOKED_THROUGH", 2)
    with FakeResultsService() as service, ResultsServiceClient(service.url) as client:
        for number in range(5):
            service.add(f"t-{number}", [], "")
        assert client.offers("ClaraSCU", "t-4")
        assert not client.offers("ClaraSCU", "t-5")
        assert service.sizes == [2, 4, 8, 2, 4, 8]


def test_who_refuses_to_list_tasks_says_nothing_of_one(service: Callable[[Answer], str]) -> None:
    with ResultsServiceClient(service((404, b""))) as client, pytest.raises(ResultsServiceUnreachable, match="404"):
        client.offers("ClaraSCU", "t")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://nowhere.invalid", "http://[", "ftp://x", "x"])
def test_no_httpx_error_leaks(endpoint: str) -> None:
    try:
        client = ResultsServiceClient(endpoint, timeout=2)
    except ResultsServiceUnreachable:
        return
    with client:
        for call in (
            lambda: client.pending("A"),
            lambda: client.report_success("t"),
            lambda: client.report_failure("t", retry_later=True),
        ):
            with pytest.raises(ResultsServiceUnreachable):
                call()


def registered(platform: RunningPlatform, agent: str = "ClaraSCU", **fields: object) -> str:
    body = {"jobId": "j", "payloadId": "p", "agent": agent, "parameters": '"PACS"', "uris": ["a.dcm"], **fields}
    answer = httpx.post(f"{platform.service.results_endpoint}/embedded/tasks", json=body, trust_env=False)
    assert answer.status_code == 201, answer.text
    task_id: str = answer.json()["taskId"]
    return task_id


def test_a_task_stays_listed_until_it_is_reported(platform: RunningPlatform) -> None:
    task_id = registered(platform)
    registered(platform, agent="DICOMweb")
    with ResultsServiceClient(platform.service.results_endpoint) as client:
        for _ in range(2):
            (task,) = client.pending("ClaraSCU")
            assert (task.task_id, task.state, task.uris) == (task_id, "Pending", ("a.dcm",))
        client.report_success(task_id)
        client.report_success(task_id.upper())
        assert client.pending("ClaraSCU") == []
        with pytest.raises(ResultsServiceRefused, match="409"):
            client.report_failure(task_id, retry_later=True)
        with pytest.raises(ResultsServiceRefused, match="404"):
            client.report_success("00000000-0000-0000-0000-000000000000")


def test_a_failure_that_asks_for_it_is_offered_again_behind_the_others(impatient: RunningPlatform) -> None:
    first, second = registered(impatient), registered(impatient)
    with ResultsServiceClient(impatient.service.results_endpoint) as client:
        client.report_failure(first, retry_later=True)
        assert [(task.task_id, task.retries) for task in client.pending("ClaraSCU")] == [(second, 0), (first, 1)]
        assert [task.task_id for task in client.pending("ClaraSCU", size=1)] == [second]
        client.report_failure(first, retry_later=False)
        assert [task.task_id for task in client.pending("ClaraSCU")] == [second]
    states = httpx.get(f"{impatient.service.results_endpoint}/embedded/tasks?state=Failed", trust_env=False).json()
    assert [task["taskId"] for task in states] == [first]


def test_a_failed_task_rests_before_it_is_offered_again(platform: RunningPlatform) -> None:
    """A PACS that is away for a minute must not use up a task's attempts."""
    first, second = registered(platform), registered(platform)
    with ResultsServiceClient(platform.service.results_endpoint) as client:
        client.report_failure(first, retry_later=True)
        assert [task.task_id for task in client.pending("ClaraSCU")] == [second]
    tasks = httpx.get(f"{platform.service.results_endpoint}/embedded/tasks", trust_env=False).json()
    assert {task["taskId"]: task["retries"] for task in tasks} == {first: 1, second: 0}


def test_the_wire_is_the_documented_one(impatient: RunningPlatform) -> None:
    """Keys in camelCase, and the body of a failure as the original adapter sends it."""
    task_id = registered(impatient)
    base = impatient.service.results_endpoint
    (task,) = httpx.get(f"{base}/api/tasks/ClaraSCU/pending?size=10", trust_env=False).json()
    assert set(task) == {
        "taskId", "jobId", "pipelineId", "payloadId", "parameters", "state", "agent", "retries", "uris",
    }  # fmt: skip
    answer = httpx.put(
        f"{base}/api/tasks/failure/{task_id}",
        content=b'{"RetryLater":true}',
        headers={"Content-Type": "application/json; charset=utf-8"},
        trust_env=False,
    )
    assert answer.is_success
    (task,) = httpx.get(f"{base}/api/tasks/ClaraSCU/pending", trust_env=False).json()
    assert task["retries"] == 1
