"""STOW-RS to Orthanc, and to a service of a few lines that misbehaves on request."""

import base64
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.authority import Authority
from support.dicom_objects import make_encoded, make_objects
from support.dicom_peers import free_port
from support.dicomweb_service import Answer, breaking_off, everything, serving, told
from support.orthanc import dicomweb, orthanc

from clara_dicom_adapter.dicom import delivery, stow, stow_service
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import ObjectResult, SendSettings, TimeLimits, Verdict
from clara_dicom_adapter.dicom.stow_service import WebPeer
from clara_dicom_adapter.dicom.tls import TlsClient
from clara_dicom_adapter.dicom.web_authentication import Authentication, Basic, Bearer, ClientCredentials

SETTINGS = SendSettings("SENDER", TimeLimits(connect=5, association=5, response=5), retries=2, retry_delay=0.01)


def uid(path: Path) -> str:
    return read_meta(path).sop_instance_uid


def store(files: list[Path], peer: WebPeer, settings: SendSettings = SETTINGS, **options: Any) -> list[ObjectResult]:
    """Results in the order of the files, each exactly one."""
    results: dict[int, ObjectResult] = {}

    def take(result: ObjectResult) -> None:
        assert result.index not in results
        results[result.index] = result

    totals = stow.store(files, peer, settings, take, **options)
    assert totals.sent + totals.failed == len(results)
    return [results[index] for index in sorted(results)]


def verdicts(results: list[ObjectResult]) -> list[Verdict]:
    return [result.verdict for result in results]


def test_orthanc_gets_every_object_with_its_dataset_as_it_is(tmp_path: Path) -> None:
    files = [*make_encoded(tmp_path / "encoded"), *make_objects(tmp_path / "many", 60)]
    with orthanc(tmp_path / "orthanc", Plugins=[dicomweb()], HttpServerEnabled=True) as one:
        results = store(files, WebPeer("ORTHANC", f"http://127.0.0.1:{one.http_port}/dicom-web"))
        assert set(verdicts(results)) == {Verdict.STORED}
        saved = one.save(tmp_path / "saved")
    by_uid = {uid(path): path for path in saved}
    assert set(by_uid) == {uid(path) for path in files}
    for path in files:
        assert dataset(by_uid[uid(path)]) == dataset(path)


def test_what_orthanc_answers_in_xml_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stow_service, "ACCEPTED", "application/dicom+xml")
    files = make_objects(tmp_path / "files", 3)
    with orthanc(tmp_path / "orthanc", Plugins=[dicomweb()], HttpServerEnabled=True) as one:
        results = store(files, WebPeer("ORTHANC", f"http://127.0.0.1:{one.http_port}/dicom-web"))
    # without a word of the object there would be no status
    assert [(result.verdict, result.status) for result in results] == [(Verdict.STORED, 0x0000)] * 3


def dataset(path: Path) -> bytes:
    return path.read_bytes()[read_meta(path).dataset_offset :]


def test_files_are_sent_whole_in_batches_by_count_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stow, "MOST_OBJECTS", 3)
    monkeypatch.setattr(stow, "MOST_BYTES", 50_000)
    small = make_objects(tmp_path / "small", 4)
    large = make_objects(tmp_path / "large", 2, size=60_000)
    files = [*small, *large]
    with serving(everything) as service:
        results = store(files, service.peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    assert [len(request) for request in service.requests] == [3, 1, 1, 1]
    assert service.bodies == [path.read_bytes() for path in files]


def test_each_object_is_judged_by_what_is_said_of_it(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 4)
    first, second, third, fourth = (uid(path) for path in files)
    with serving(lambda _uids, _number: (202, told([first, second], {third: 0xA900}, {second: 0xB000}))) as service:
        results = store(files, service.peer)
        strict = store(files, service.peer, replace(SETTINGS, warnings_are_failures=True))
    assert verdicts(results) == [Verdict.STORED, Verdict.WARNING, Verdict.REFUSED, Verdict.UNKNOWN]
    assert [result.status for result in results] == [0, 0xB000, 0xA900, None]
    assert results[2].reason == "status A900"
    assert "no word of the object" in results[3].reason
    assert strict[1].verdict is Verdict.REFUSED
    assert [len(request) for request in service.requests] == [4, 1, 4, 1]
    assert service.requests[1] == [fourth]


def test_an_answer_that_says_nothing_of_what_was_sent_is_no_success(tmp_path: Path) -> None:
    with serving(lambda _uids, _number: (200, told([]))) as service:
        results = store(make_objects(tmp_path / "files", 2), service.peer)
    assert verdicts(results) == [Verdict.UNKNOWN] * 2


@pytest.mark.parametrize(
    ("body", "verdict"), [(b"", Verdict.STORED), (b"\r\n", Verdict.STORED), (b"<html>It works", Verdict.UNKNOWN)]
)
def test_status_200_is_a_success_only_without_a_body_or_with_one_that_is_understood(
    tmp_path: Path, body: bytes, verdict: Verdict
) -> None:
    """What answers may be a captive portal."""
    with serving(lambda _uids, _number: (200, body)) as service:
        results = store(make_objects(tmp_path / "files", 2), service.peer)
    assert verdicts(results) == [verdict] * 2
    assert len(service.requests) == 1
    assert ("an answer that cannot be read" in results[0].reason) is (verdict is Verdict.UNKNOWN)


def test_a_service_out_of_resources_is_waited_for(tmp_path: Path) -> None:
    """What it has stored meanwhile is not sent again."""
    files = make_objects(tmp_path / "files", 3)
    poor = uid(files[1])

    def answer(uids: list[str], number: int) -> Answer:
        full = {poor: 0xA700} if number <= 2 else {}
        return 202 if full else 200, told([each for each in uids if each not in full], full)

    with serving(answer) as service:
        results = store(files, service.peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    assert [len(request) for request in service.requests] == [3, 1, 1]


def test_a_service_that_stays_out_of_resources_is_waited_for_only_so_often(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 2)
    with serving(lambda uids, _number: (409, told([], dict.fromkeys(uids, 0xA700)))) as service:
        results = store(files, service.peer)
    assert verdicts(results) == [Verdict.REFUSED] * 2
    assert results[0].reason == "status A700"
    assert len(service.requests) == 1 + SETTINGS.retries


def test_a_batch_that_is_refused_as_a_whole_is_sent_one_by_one(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 3)
    poison = uid(files[1])
    with serving(lambda uids, _number: (400, b"bad") if poison in uids else (200, b"")) as service:
        results = store(files, service.peer)
    assert verdicts(results) == [Verdict.STORED, Verdict.REFUSED, Verdict.STORED]
    assert results[1].reason == "HTTP status 400"
    assert [len(request) for request in service.requests] == [3, 1, 1, 1]


@pytest.mark.parametrize("status", [400, 409, 413, 415])
@pytest.mark.parametrize("body", [b'{"HttpStatus": 415, "Message": "x"}', b"{}", b"[]", told([])])
def test_what_a_refusal_says_without_a_word_of_any_object_changes_nothing(
    tmp_path: Path, status: int, body: bytes
) -> None:
    files = make_objects(tmp_path / "files", 2)
    with serving(lambda _uids, _number: (status, body)) as service:
        results = store(files, service.peer)
    assert [(result.verdict, result.reason) for result in results] == [(Verdict.REFUSED, f"HTTP status {status}")] * 2
    assert [len(request) for request in service.requests] == [2, 1, 1]


def test_what_was_refused_together_is_not_unknown_when_the_service_goes(tmp_path: Path) -> None:
    with serving(lambda _uids, number: (415, told([])) if number == 1 else BUSY) as service:
        results = store(make_objects(tmp_path / "files", 2), service.peer)
    assert verdicts(results) == [Verdict.NOT_SENT] * 2


def test_an_answer_409_is_read_object_by_object(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 2)
    with serving(lambda uids, _number: (409, told([], dict.fromkeys(uids, 0x0110)))) as service:
        results = store(files, service.peer)
    assert verdicts(results) == [Verdict.REFUSED] * 2
    assert len(service.requests) == 1


def test_a_service_that_answers_in_xml_all_the_same_is_understood(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 2)
    stored, failed = (
        f'<DicomAttribute tag="{sequence}" vr="SQ"><Item number="1"><DicomAttribute tag="00081155" vr="UI">'
        f'<Value number="1">{uid(path)}</Value></DicomAttribute>{reason}</Item></DicomAttribute>'
        for sequence, path, reason in (
            ("00081199", files[0], ""),
            ("00081198", files[1], '<DicomAttribute tag="00081197" vr="US"><Value>49152</Value></DicomAttribute>'),
        )
    )
    body = f"<NativeDicomModel>{stored}{failed}</NativeDicomModel>".encode()
    with serving(lambda _uids, _number: (202, body)) as service:
        results = store(files, service.peer)
    assert verdicts(results) == [Verdict.STORED, Verdict.REFUSED]
    assert results[1].reason == "status C000"


BUSY = (503, b"", {"Retry-After": "0"})
"""Of a service that has done nothing."""


@pytest.mark.parametrize("trouble", [BUSY, (429, b"")])
def test_who_turns_a_request_away_gets_it_again_as_it_was(tmp_path: Path, trouble: Answer) -> None:
    files = make_objects(tmp_path / "files", 2)
    with serving(lambda uids, number: trouble if number <= 2 else everything(uids, number)) as service:
        results = store(files, service.peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    assert [len(request) for request in service.requests] == [2, 2, 2]


@pytest.mark.parametrize("trouble", [(500, b""), (503, b""), (504, b"<html>"), None])
def test_what_was_lost_on_its_way_is_sent_again_one_by_one(tmp_path: Path, trouble: Answer | None) -> None:
    files = make_objects(tmp_path / "files", 2)
    with serving(lambda uids, number: trouble if number <= 2 else everything(uids, number)) as service:
        results = store(files, service.peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    first, second = (uid(path) for path in files)
    assert service.requests == [[first, second], [first], [second], [first]]


def test_an_object_that_a_service_fails_at_each_time_costs_only_itself(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 4)
    poison = uid(files[1])
    with serving(lambda uids, number: (500, b"") if poison in uids else everything(uids, number)) as service:
        results = store(files, service.peer)
    assert verdicts(results) == [Verdict.STORED, Verdict.UNKNOWN, Verdict.STORED, Verdict.STORED]
    assert results[1].reason == "WEB: HTTP status 500"


@pytest.mark.parametrize(("retries", "poisonous"), [(1, [0]), (1, [3]), (2, [0, 1]), (2, [1, 2]), (2, [2, 3])])
@pytest.mark.parametrize("trouble", [(502, b""), None])
def test_objects_that_cost_the_connection_each_time_cost_the_others_nothing(
    tmp_path: Path, trouble: Answer | None, retries: int, poisonous: list[int]
) -> None:
    """As many in a row as there may be attempts; the request that they came in first is none of them."""
    files = make_objects(tmp_path / "files", 4)
    poison = {uid(files[index]) for index in poisonous}
    with serving(lambda uids, number: trouble if poison & set(uids) else everything(uids, number)) as service:
        results = store(files, service.peer, replace(SETTINGS, retries=retries))
    assert verdicts(results) == [Verdict.UNKNOWN if index in poisonous else Verdict.STORED for index in range(4)]


@pytest.mark.parametrize("first", [0, 5, 20])
def test_many_objects_in_a_row_that_cost_the_connection_cost_the_others_nothing(tmp_path: Path, first: int) -> None:
    files = make_objects(tmp_path / "files", 30)
    poison = {uid(path) for path in files[first : first + 10]}
    with serving(lambda uids, number: None if poison & set(uids) else everything(uids, number)) as service:
        results = store(files, service.peer, replace(SETTINGS, retries=2))
    assert verdicts(results) == [
        Verdict.UNKNOWN if first <= index < first + 10 else Verdict.STORED for index in range(30)
    ]


def test_a_service_that_is_lost_with_every_object_is_given_up(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 9)
    with serving(lambda _uids, _number: None) as service:
        results = store(files, service.peer)
    assert set(verdicts(results)) == {Verdict.UNKNOWN}
    assert [len(request) for request in service.requests] == [9, 1, 1, 1]


def test_a_service_that_asks_for_time_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not more than a minute."""
    monkeypatch.setattr(delivery, "LONGEST_PAUSE_SECONDS", 0.05)
    trouble = iter([(503, b"", {"Retry-After": "7200"})])
    with serving(lambda uids, number: next(trouble, everything(uids, number))) as service, capture_logs() as lines:
        results = store(make_objects(tmp_path / "files", 1), service.peer)
    assert verdicts(results) == [Verdict.STORED]
    assert [line["seconds"] for line in lines if line["event"] == "peer_tried_again"] == [0.05]


def test_what_was_sent_and_never_answered_is_unknown_and_the_rest_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow, "MOST_OBJECTS", 1)
    with serving(lambda _uids, _number: None) as service:
        results = store(make_objects(tmp_path / "files", 2), service.peer, replace(SETTINGS, retries=0))
    assert verdicts(results) == [Verdict.UNKNOWN, Verdict.NOT_SENT]


def test_of_a_request_that_broke_off_only_what_had_been_begun_is_unknown(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 3, size=8_000_000)
    with breaking_off(after=100_000) as peer:
        results = store(files, peer, replace(SETTINGS, retries=0))
    assert verdicts(results) == [Verdict.UNKNOWN, Verdict.NOT_SENT, Verdict.NOT_SENT]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ((408, b""), Verdict.UNKNOWN),
        ((425, b""), Verdict.NOT_SENT),
        ((429, b""), Verdict.NOT_SENT),
        ((500, b""), Verdict.UNKNOWN),
        ((502, b""), Verdict.UNKNOWN),
        ((503, b""), Verdict.UNKNOWN),
        (BUSY, Verdict.NOT_SENT),
        ((504, b""), Verdict.UNKNOWN),
        ((507, b""), Verdict.UNKNOWN),
        ((520, b""), Verdict.UNKNOWN),
        ((500, b'{"HttpStatus": 500, "Message": "Internal error"}'), Verdict.UNKNOWN),
        ((501, b'{"HttpStatus": 501}'), Verdict.REFUSED),
        ((413, b""), Verdict.REFUSED),
    ],
)
@pytest.mark.parametrize("count", [1, 2])
def test_a_status_says_no_more_than_it_means(tmp_path: Path, count: int, answer: Answer, verdict: Verdict) -> None:
    with serving(lambda _uids, _number: answer) as service:
        results = store(make_objects(tmp_path / "files", count), service.peer)
    assert verdicts(results) == [verdict] * count
    assert f"HTTP status {answer[0]}" in results[0].reason


def test_what_was_lost_stays_unknown_when_the_last_answer_is_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stow, "MOST_OBJECTS", 1)
    with serving(lambda _uids, number: (504, b"") if number == 1 else BUSY) as service:
        results = store(make_objects(tmp_path / "files", 2), service.peer)
    assert verdicts(results) == [Verdict.UNKNOWN, Verdict.NOT_SENT]
    assert results[0].reason == "WEB: HTTP status 504; then WEB: HTTP status 503"


def test_a_failure_that_speaks_of_the_objects_is_believed(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 2)
    with serving(lambda uids, _number: (500, told(uids[:1], {uids[1]: 0xC000}))) as service:
        results = store(files, service.peer)
    assert verdicts(results) == [Verdict.STORED, Verdict.REFUSED]
    assert len(service.requests) == 1


def test_what_was_sent_before_a_file_that_cannot_be_read_is_unknown_when_the_service_goes(tmp_path: Path) -> None:
    """The file ends while the request that holds it is on its way."""
    files = make_objects(tmp_path / "files", 2)
    asked: list[bool] = []

    def goes() -> bool:
        if not asked:
            files[1].unlink()
        asked.append(True)
        return False

    with serving(lambda _uids, _number: BUSY) as service:
        results = store(files, service.peer, stop=goes)
    assert verdicts(results) == [Verdict.UNKNOWN, Verdict.UNREADABLE]
    assert results[0].reason.startswith("WEB: broken off")


def test_what_orthanc_leaves_out_of_its_answer_is_refused(tmp_path: Path) -> None:
    """It answers 400 to a request of which it has stored all but one, and lists what it has stored."""
    files = make_objects(tmp_path / "files", 3)
    meta = read_meta(files[1])
    files[1].write_bytes(files[1].read_bytes()[: meta.dataset_offset] + b"\xff" * 300)
    with orthanc(tmp_path / "orthanc", Plugins=[dicomweb()], HttpServerEnabled=True) as one:
        results = store(files, WebPeer("ORTHANC", f"http://127.0.0.1:{one.http_port}/dicom-web"))
        held = set(one.instances())
    assert verdicts(results) == [Verdict.STORED, Verdict.REFUSED, Verdict.STORED]
    assert results[1].reason == "HTTP status 400"
    assert held == {uid(files[0]), uid(files[2])}


def test_what_was_sent_without_a_word_of_it_is_unknown_when_the_service_goes(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 2)
    with serving(lambda uids, number: (200, told(uids[:1])) if number == 1 else BUSY) as service:
        results = store(files, service.peer)
    assert verdicts(results) == [Verdict.STORED, Verdict.UNKNOWN]


def test_who_stops_is_told_whose_answers_were_lost(tmp_path: Path) -> None:
    with serving(lambda _uids, _number: (504, b"")) as service:
        files = make_objects(tmp_path / "files", 2)
        totals = stow.store(files, service.peer, SETTINGS, lambda _: None, stop=lambda: bool(service.requests))
    assert totals.stopped
    assert list(totals.unanswered) == [0, 1]


def test_nobody_there(tmp_path: Path) -> None:
    results = store(make_objects(tmp_path / "files", 2), WebPeer("WEB", f"http://127.0.0.1:{free_port()}/dicom-web"))
    assert verdicts(results) == [Verdict.NOT_SENT] * 2
    assert "cannot connect" in results[0].reason


@pytest.mark.parametrize(("status", "hint"), [(401, "authentication"), (404, "url")])
def test_who_is_refused_does_not_go_on(tmp_path: Path, status: int, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stow, "MOST_OBJECTS", 1)
    with serving(lambda _uids, _number: (status, b"")) as service:
        results = store(make_objects(tmp_path / "files", 3), service.peer)
    assert verdicts(results) == [Verdict.NOT_SENT] * 3
    assert hint in results[0].reason
    assert len(service.requests) == 1


def test_what_is_no_part_10_file_has_a_result_and_harms_nothing(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no DICOM")
    with serving(everything) as service:
        results = store([text, *make_objects(tmp_path / "files", 1), tmp_path / "missing.dcm"], service.peer)
    assert verdicts(results) == [Verdict.UNREADABLE, Verdict.STORED, Verdict.UNREADABLE]


def test_a_file_that_goes_while_it_is_sent_costs_only_itself(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 3)
    asked: list[bool] = []

    def goes() -> bool:
        if not asked:
            files[1].unlink()
        asked.append(True)
        return False

    with serving(everything) as service:
        results = store(files, service.peer, stop=goes)
    assert verdicts(results) == [Verdict.STORED, Verdict.UNREADABLE, Verdict.STORED]


def test_sending_stops_between_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stow, "MOST_OBJECTS", 1)
    with serving(everything) as service:
        results = store(make_objects(tmp_path / "files", 3), service.peer, stop=lambda: len(service.requests) >= 2)
    assert len(results) == 2


class Slow:
    """A service that gets on within each time limit of a wait, and does not get done."""

    def __init__(self, context: ssl.SSLContext | None, *, answers: bool) -> None:
        self._answers = answers
        self._context = context
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        scheme = "https" if context else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/"

    def __enter__(self) -> "Slow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(30)
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with suppress(OSError), self._context.wrap_socket(connection, True) if self._context else connection as peer:
            while not self._over.wait(0.05):
                if self._answers:
                    peer.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                elif not peer.recv(100_000):
                    return


@pytest.mark.timeout(60)  # it is the time limit that has to end this
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("answers", [False, True])
def test_the_time_limit_breaks_a_request_off(tmp_path: Path, secure: bool, answers: bool) -> None:
    """While the body is taken by and by, and while the answer comes by and by."""
    first, second = make_objects(tmp_path / "files", 2)
    with first.open("r+b") as file:
        file.truncate(2000 if answers else 1_000_000_000)
    context, tls = None, None
    if secure:
        authority = Authority(tmp_path / "ca")
        issued = authority.issue("web", host="web.hospital")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(issued.certificate, issued.key)
        tls = TlsClient(authority.ca, server_name="web.hospital")
    results: list[ObjectResult] = []
    with Slow(context, answers=answers) as service:
        peer = WebPeer("SLOW", service.url, tls=tls)
        totals = stow.store([first, second], peer, SETTINGS, results.append, seconds=1)
    assert totals.stopped
    assert totals.unanswered[0] == "SLOW: broken off by us, because the time limit is over"
    assert results == []


# ---- who we are ----


def secret(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{text}\n")
    return path


def test_basic_and_bearer(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 1)
    with serving(everything) as service:
        store(files, replace(service.peer, authentication=Basic("us", secret(tmp_path, "pw"))))
        store(files, replace(service.peer, authentication=Bearer(secret(tmp_path, "token"))))
    assert service.authorizations == [f"Basic {base64.b64encode(b'us:pw').decode()}", "Bearer token"]


def test_a_token_is_asked_for_once_and_used_for_every_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stow, "MOST_OBJECTS", 1)
    with serving(everything) as service:
        grant = ClientCredentials(
            service.url.replace("/dicom-web/", "/token"), "us", secret(tmp_path, "pw"), "dicom.write"
        )
        results = store(make_objects(tmp_path / "files", 2), replace(service.peer, authentication=grant))
    assert set(verdicts(results)) == {Verdict.STORED}
    assert service.authorizations == ["Bearer T1", "Bearer T1"]
    login = base64.b64encode(b"us:pw").decode()
    assert service.tokens == [f"grant_type=client_credentials&scope=dicom.write Basic {login}".encode()]


def test_a_secret_that_is_missing_and_a_token_that_is_refused_are_named(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 1)
    with serving(everything) as service:
        nowhere = tmp_path / "nowhere"
        missing = store(files, replace(service.peer, authentication=Bearer(nowhere)))
        grant = ClientCredentials(f"{service.url}no-such-path", "us", secret(tmp_path, "pw"))
        refused = store(files, replace(service.peer, authentication=grant))
    assert str(nowhere) in missing[0].reason
    assert "gave no token: HTTP status 404" in refused[0].reason
    assert verdicts([*missing, *refused]) == [Verdict.NOT_SENT] * 2
    assert not service.requests


@pytest.mark.timeout(30)  # it is the time limit of the connection that has to end this
def test_a_token_server_that_is_silent_holds_up_nobody(tmp_path: Path) -> None:
    limits = TimeLimits(connect=5, association=5, response=0.2)
    with serving(everything) as service, socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/token"
        grant = ClientCredentials(url, "us", secret(tmp_path, "pw"))
        peer = replace(service.peer, authentication=grant)
        results = store(make_objects(tmp_path / "files", 1), peer, replace(SETTINGS, limits=limits, retries=0))
    assert verdicts(results) == [Verdict.NOT_SENT]
    assert f"the token server {url}: no answer in time" in results[0].reason


@pytest.mark.parametrize("token", ["SECRET\nSECRET", "SECRET SECRET", "SECRET\u00e4", "SECRET\x00", ""])
def test_what_is_no_token_is_refused_without_being_quoted(tmp_path: Path, token: str) -> None:
    files = make_objects(tmp_path / "files", 1)
    with serving(everything) as service, capture_logs() as lines:
        service.issued = f"{token} "
        file = secret(tmp_path, token)
        from_file = store(files, replace(service.peer, authentication=Bearer(file)))
        grant = ClientCredentials(service.url.replace("/dicom-web/", "/token"), "us", secret(tmp_path, "pw"))
        received = store(files, replace(service.peer, authentication=grant))
    assert not service.requests
    assert verdicts([*from_file, *received]) == [Verdict.NOT_SENT] * 2
    assert str(file) in from_file[0].reason
    assert grant.token_url in received[0].reason
    assert "SECRET" not in f"{from_file} {received} {lines}"


@pytest.mark.parametrize("kind", [Bearer, lambda path: Basic("us", path)])
def test_a_secret_that_is_renewed_between_two_requests_is_used_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Callable[[Path], Authentication]
) -> None:
    monkeypatch.setattr(stow, "MOST_OBJECTS", 1)
    said: list[str] = []

    def answer(uids: list[str], number: int) -> Answer:
        said.append(service.authorizations[-1])
        if number == 1:
            secret(tmp_path, "new")
            return everything(uids, number)
        return (401, b"") if said[-1] == said[0] else everything(uids, number)

    with serving(answer) as service:
        results = store(
            make_objects(tmp_path / "files", 3), replace(service.peer, authentication=kind(secret(tmp_path, "old")))
        )
    assert verdicts(results) == [Verdict.STORED] * 3
    assert len(said) == 3


@pytest.mark.parametrize("kind", [Bearer, lambda path: Basic("us", path)])
def test_a_secret_that_is_renewed_while_a_request_is_under_way_is_used_for_it_once_more(
    tmp_path: Path, kind: Callable[[Path], Authentication]
) -> None:
    def answer(uids: list[str], number: int) -> Answer:
        secret(tmp_path, "new")
        return (401, b"") if number == 1 else everything(uids, number)

    files = make_objects(tmp_path / "files", 2)
    with serving(answer) as service:
        results = store(files, replace(service.peer, authentication=kind(secret(tmp_path, "old"))))
    assert verdicts(results) == [Verdict.STORED] * 2
    assert service.bodies == [path.read_bytes() for path in (*files, *files)]


def test_a_secret_that_is_refused_and_not_renewed_is_not_said_again(tmp_path: Path) -> None:
    with serving(lambda _uids, _number: (401, b"")) as service:
        peer = replace(service.peer, authentication=Bearer(secret(tmp_path, "token")))
        results = store(make_objects(tmp_path / "files", 1), peer)
    assert verdicts(results) == [Verdict.NOT_SENT]
    assert len(service.requests) == 1


@pytest.mark.parametrize(("refused", "verdict"), [(1, Verdict.STORED), (99, Verdict.NOT_SENT)])
def test_a_token_that_is_revoked_is_replaced_once(tmp_path: Path, refused: int, verdict: Verdict) -> None:
    with serving(lambda uids, number: (401, b"") if number <= refused else everything(uids, number)) as service:
        grant = ClientCredentials(service.url.replace("/dicom-web/", "/token"), "us", secret(tmp_path, "pw"))
        results = store(make_objects(tmp_path / "files", 1), replace(service.peer, authentication=grant))
    assert verdicts(results) == [verdict]
    assert service.authorizations == ["Bearer T1", "Bearer T2"]


def test_the_token_server_has_a_tls_of_its_own(tmp_path: Path) -> None:
    """The archive's authority is not asked for it, and it is not shown what the archive is shown."""
    files = make_objects(tmp_path / "files", 1)
    private, public = Authority(tmp_path / "private"), Authority(tmp_path / "public", "public", key=1)
    us = private.issue("us")
    with serving(everything) as service, serving(everything, public.issue("login", host="login.example")) as login:
        grant = ClientCredentials(
            login.url.replace("/dicom-web/", "/token"),
            "us",
            secret(tmp_path, "pw"),
            tls=TlsClient(public.ca, server_name="login.example"),
        )
        to_archive = TlsClient(private.ca, us.certificate, us.key)
        peer = replace(service.peer, authentication=grant, tls=to_archive)
        assert verdicts(store(files, peer)) == [Verdict.STORED]
        by_system = replace(peer, authentication=replace(grant, tls=None), tls=TlsClient(public.ca))
        not_trusted = store(files, by_system, replace(SETTINGS, retries=0))
        nowhere = tmp_path / "nowhere.pem"
        unusable = store(files, replace(peer, authentication=replace(grant, tls=TlsClient(nowhere))))
    assert len(login.tokens) == 1
    reason = not_trusted[0].reason
    assert f"the token server {grant.token_url}: cannot connect: its certificate was not accepted" in reason
    assert "see tokenTls.caFile and tokenTls.serverName" in reason
    assert f"tokenTls.caFile {nowhere} cannot be read" in unusable[0].reason


def test_tls_with_an_authority_of_its_own(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 1)
    authority = Authority(tmp_path / "ca")
    with serving(everything, authority.issue("web", host="web.hospital")) as service:
        trusted = TlsClient(authority.ca, server_name="web.hospital")
        assert verdicts(store(files, replace(service.peer, tls=trusted))) == [Verdict.STORED]
        wrong_name = store(files, replace(service.peer, tls=TlsClient(authority.ca)))
        not_trusted = store(files, service.peer)
    assert "tls.serverName" in wrong_name[0].reason
    assert "its certificate was not accepted" in not_trusted[0].reason
