"""The sender against real SCPs, and against one that misbehaves."""

import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydicom
import pytest
from pynetdicom.events import Event
from structlog.testing import capture_logs
from support.dicom_objects import CT, EXPLICIT, MR, make_objects
from support.dicom_peers import SUCCESS, ScriptedScp, free_port, pynetdicom_scp, storescp

from clara_dicom_adapter.dicom import delivery, dimse, requestor
from clara_dicom_adapter.dicom.delivery import pause_before
from clara_dicom_adapter.dicom.negotiation import AssociationRejected, Context
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.requestor import StorageAssociation
from clara_dicom_adapter.dicom.sender import (
    ObjectResult,
    Peer,
    SendSettings,
    TimeLimits,
    Verdict,
    WireLog,
    send,
)
from clara_dicom_adapter.log import KEYS

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
SENDABLE = Path(__file__).parent / "sendable.txt"
SETTINGS = SendSettings("SENDER", TimeLimits(connect=5, association=5, response=5), retries=2, retry_delay=0.01)
NO_ROOM = b"\x00\xa7"
HASTY = SendSettings("SENDER", TimeLimits(connect=1, association=1, response=0.3), retries=1, retry_delay=0.01)


def sendable() -> list[Path]:
    return [TEST_FILES / line for line in SENDABLE.read_text().splitlines() if line]


def dataset_of(path: Path) -> bytes:
    return path.read_bytes()[read_meta(path).dataset_offset :]


def collect(
    files: list[Path], peer: Peer, settings: SendSettings = SETTINGS, **options: Any
) -> dict[int, ObjectResult]:
    """Send, and check that each file has exactly one result."""
    results: dict[int, ObjectResult] = {}

    def take(result: ObjectResult) -> None:
        assert result.index not in results
        results[result.index] = result

    totals = send(files, peer, settings, take, **options)
    assert totals.sent == sum(result.delivered for result in results.values())
    assert totals.failed == len(results) - totals.sent
    return results


def verdicts(results: dict[int, ObjectResult]) -> list[Verdict]:
    return [results[index].verdict for index in sorted(results)]


def test_every_file_of_pydicom_that_can_be_sent_arrives_byte_for_byte() -> None:
    """Every transfer syntax, private classes and odd files among them; nothing is re-encoded."""
    files = sendable()
    with pynetdicom_scp(files) as (peer, received):
        results = collect(files, peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    by_uid = {read_meta(path).sop_instance_uid: path for path in files}
    assert set(received.datasets) == set(by_uid)
    last = {read_meta(path).sop_instance_uid: dataset_of(path) for path in files}  # some UIDs occur more than once
    assert received.datasets == last


def test_the_list_of_sendable_files_is_complete() -> None:
    """Every part-10 file of pydicom that names its class, instance and transfer syntax, except directories."""
    listed = set(SENDABLE.read_text().splitlines())
    for path in sorted(p for p in TEST_FILES.rglob("*") if p.is_file()):
        name = str(path.relative_to(TEST_FILES))
        try:
            can_be_sent = read_meta(path).sop_class_uid != "1.2.840.10008.1.3.10"
        except Exception:
            can_be_sent = False
        assert can_be_sent == (name in listed), name


def test_dcmtk_stores_the_same_bytes(tmp_path: Path) -> None:
    """storescp +B keeps what came over the wire; its file has our dataset bytes behind its own meta header."""
    files = [path for path in sendable() if path.name in {"CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "rtplan.dcm"}]
    assert len(files) == 4
    with storescp(tmp_path / "in", "+B", "+xa") as peer:
        results = collect(files, peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    stored = {read_meta(path).sop_instance_uid: dataset_of(path) for path in (tmp_path / "in").iterdir()}
    assert stored == {read_meta(path).sop_instance_uid: dataset_of(path) for path in files}


def test_a_fast_peer_never_costs_an_association(tmp_path: Path) -> None:
    """The race of ``send_c_store``: responses that come at once. 3000 of them, on one association."""
    files = make_objects(tmp_path / "files", 60) * 50
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        results = collect(files, scp.peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    assert scp.associations == 1
    assert len(scp.instances) == len(files)


def test_dcmtk_takes_many_small_objects_on_one_association(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 500)
    with storescp(tmp_path / "in", "+B", "--ignore") as peer:
        results = collect(files, peer)
    assert set(verdicts(results)) == {Verdict.STORED}


@pytest.mark.parametrize("pdu_length", [64, 4096, 16384, 131072, 0])
def test_the_peers_maximum_pdu_length_is_kept(tmp_path: Path, pdu_length: int) -> None:
    """PS3.8 annex D.1: no P-DATA-TF is longer than the peer wants; 0 is no limit."""
    files = make_objects(tmp_path / "files", 2, size=300_001)
    with ScriptedScp(lambda _scp, _number: SUCCESS, pdu_length=pdu_length) as scp:
        results = collect(files, scp.peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    assert scp.datasets == [dataset_of(path) for path in files]
    assert scp.longest_data_pdu <= (pdu_length or 1 << 18)


def test_more_than_128_contexts_take_another_association(tmp_path: Path) -> None:
    files = [
        path
        for number in range(130)
        for path in make_objects(tmp_path / "files", 1, sop_class=f"2.25.77{number}", name=f"c{number}-")
    ]
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        results = collect(files, scp.peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    assert scp.proposed == [128, 2]


def test_a_refused_context_fails_its_objects_and_no_others(tmp_path: Path) -> None:
    files = [
        *make_objects(tmp_path / "ct", 2),
        *make_objects(tmp_path / "mr", 2, sop_class=MR),
        *make_objects(tmp_path / "ct2", 1),
    ]
    with pynetdicom_scp(files, refuse=[MR]) as (peer, received):
        results = collect(files, peer)
    expected = [Verdict.STORED] * 2 + [Verdict.CONTEXT_REFUSED] * 2 + [Verdict.STORED]
    assert verdicts(results) == expected
    assert MR in results[2].reason
    assert received.associations == 1


def test_every_context_refused(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "ct", 2)
    with pynetdicom_scp(files, refuse=[CT]) as (peer, _):
        results = collect(files, peer)
    assert verdicts(results) == [Verdict.CONTEXT_REFUSED] * 2


def test_statuses_are_told_apart(tmp_path: Path) -> None:
    """A failure is no reason to stop; a warning is stored."""
    files = make_objects(tmp_path / "files", 4)
    statuses = {1: 0xA900, 2: 0xB000, 3: 0xC123, 4: 0x0000}
    with pynetdicom_scp(files, answer=lambda _event, number: statuses[number]) as (peer, received):
        results = collect(files, peer)
    assert verdicts(results) == [Verdict.REFUSED, Verdict.WARNING, Verdict.REFUSED, Verdict.STORED]
    assert [results[index].status for index in range(4)] == [0xA900, 0xB000, 0xC123, 0x0000]
    assert results[0].reason == "status A900"
    assert received.associations == 1


@pytest.mark.parametrize("status", [0xB000, 0xB006, 0xB007])
def test_warnings_can_be_made_failures(tmp_path: Path, status: int) -> None:
    files = make_objects(tmp_path / "files", 1)
    with ScriptedScp(lambda _scp, _number: status.to_bytes(2, "little")) as scp:
        by_default = collect(files, scp.peer)
        strict = collect(files, scp.peer, replace(SETTINGS, warnings_are_failures=True))
    assert (by_default[0].verdict, strict[0].verdict) == (Verdict.WARNING, Verdict.REFUSED)
    assert by_default[0].status == strict[0].status == status
    assert strict[0].reason == f"status {status:04X}, and warnings count as failures"


def test_a_peer_out_of_resources_is_waited_for(tmp_path: Path) -> None:
    """A700 twice, then it has room again: everything is stored, and in its order."""
    files = make_objects(tmp_path / "files", 4)
    with ScriptedScp(lambda _scp, number: NO_ROOM if number in {2, 3} else SUCCESS) as scp:
        results = collect(files, scp.peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    uids = [read_meta(path).sop_instance_uid for path in files]
    assert scp.instances == [uids[0], uids[1], uids[1], uids[1], uids[2], uids[3]]
    assert scp.associations == 3
    assert scp.aborts == 0


def test_a_peer_that_stays_out_of_resources_is_waited_for_only_so_often(tmp_path: Path) -> None:
    """Each object is still tried: what has no room for one may have it for another."""
    files = make_objects(tmp_path / "files", 5)
    with ScriptedScp(lambda _scp, number: SUCCESS if number == 6 else NO_ROOM) as scp:
        results = collect(files, scp.peer)
    refused = Verdict.REFUSED
    assert verdicts(results) == [refused, refused, refused, Verdict.STORED, refused]
    assert results[0].status == 0xA700
    assert len(scp.instances) == 5 + 2 + 2  # the two waits before the first was given up, and two after a success


def test_pauses_before_a_peer_is_tried_again_double(tmp_path: Path) -> None:
    """And end at a minute; whoever stops the sending does not wait for them."""
    pauses: list[float] = []
    settings = replace(HASTY, retries=8, retry_delay=1)
    with capture_logs() as lines:

        def stop() -> bool:
            pauses[:] = [line["seconds"] for line in lines if line["event"] == "peer_tried_again"]
            return len(pauses) == 1

        collect(make_objects(tmp_path / "files", 1), Peer("NOBODY", "127.0.0.1", free_port()), settings, stop=stop)
    assert pauses == [1]
    assert [pause_before(attempt, settings) for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_commands_and_pdus_are_logged_on_request_without_what_they_say(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 1, size=40_000)
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp, capture_logs() as lines:
        collect(files, scp.peer)
        assert {line["event"] for line in lines} == {"objects_sent"}
        collect(files, scp.peer, replace(SETTINGS, wire_log=WireLog(commands=True, data_pdus=True)))
    told = {line["event"]: line for line in lines}
    assert told["dimse_sent"]["sop_class_uid"] == CT
    assert told["dimse_received"]["status"] == "0000"
    pdus = [line for line in lines if line["event"] == "data_pdu"]
    # the command, 40 KB in PDUs of 16, and the response with its status
    assert [line["direction"] for line in pdus] == ["sent"] * 4 + ["received"]
    assert [16_000 < line["size"] <= 16_384 for line in pdus] == [False, True, True, False, False]
    assert set().union(*pdus) == {"event", "log_level", "direction", "called_ae_title", "number", "size"}
    assert set().union(*lines) - {"event", "log_level"} <= KEYS


def test_a_peer_that_dies_in_the_middle_gets_the_rest_on_another_association(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 6)

    def abort_third(event: Event, number: int) -> int:
        if number == 3:
            event.assoc.abort()
        return 0x0000

    with pynetdicom_scp(files, answer=abort_third) as (peer, received):
        results = collect(files, peer)
    assert set(verdicts(results)) == {Verdict.STORED}
    assert received.associations == 2
    assert len(received.order) == 7  # only the one whose response was lost came twice


def test_a_peer_that_closes_after_each_object_gets_all_without_a_pause(tmp_path: Path) -> None:
    """Progress is made each time, so none of it counts as failure, not even without any retries."""
    files = make_objects(tmp_path / "files", 5)
    closed = threading.Event()

    def behave(_scp: ScriptedScp, _number: int) -> bytes | None:
        if closed.is_set():
            closed.clear()
            return None
        closed.set()
        return SUCCESS

    with ScriptedScp(behave) as scp, capture_logs() as lines:
        results = collect(files, scp.peer, replace(SETTINGS, retries=0))
    assert set(verdicts(results)) == {Verdict.STORED}
    assert scp.associations == 5
    assert {line["event"] for line in lines} == {"objects_sent"}


def test_an_object_that_kills_every_association_is_left_out(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 3)
    poison = read_meta(files[1]).sop_instance_uid
    with ScriptedScp(lambda scp, _number: None if scp.instances[-1] == poison else SUCCESS) as scp:
        results = collect(files, scp.peer)
    assert verdicts(results) == [Verdict.STORED, Verdict.UNKNOWN, Verdict.STORED]
    assert scp.instances.count(poison) == 2


def test_only_an_association_without_progress_is_waited_after(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 4)
    poison = read_meta(files[2]).sop_instance_uid
    with (
        ScriptedScp(lambda scp, _number: None if scp.instances[-1] == poison else SUCCESS) as scp,
        capture_logs() as lines,
    ):
        results = collect(files, scp.peer)
    assert verdicts(results) == [Verdict.STORED] * 2 + [Verdict.UNKNOWN, Verdict.STORED]
    assert [line["attempt"] for line in lines if line["event"] == "peer_tried_again"] == [1]


@pytest.mark.parametrize("first", [0, 5, 20])
def test_many_objects_in_a_row_that_kill_every_association_cost_only_themselves(tmp_path: Path, first: int) -> None:
    """More of them than the peer is tried again for; some may not even be tried, when all others are stored."""
    files = make_objects(tmp_path / "files", 30)
    poison = {read_meta(path).sop_instance_uid for path in files[first : first + 10]}
    with ScriptedScp(lambda scp, _number: None if scp.instances[-1] in poison else SUCCESS) as scp:
        results = collect(files, scp.peer)
    got = verdicts(results)
    assert set(got[:first] + got[first + 10 :]) == {Verdict.STORED}
    assert set(got[first : first + 10]) <= {Verdict.UNKNOWN, Verdict.NOT_SENT}
    assert max(Counter(scp.instances).values()) == 2


def test_an_object_that_kills_every_association_is_tried_again_behind_all_others(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 5)
    poison = read_meta(files[0]).sop_instance_uid
    with ScriptedScp(lambda scp, _number: None if scp.instances[-1] == poison else SUCCESS) as scp:
        results = collect(files, scp.peer)
    assert verdicts(results) == [Verdict.UNKNOWN] + [Verdict.STORED] * 4
    assert [number for number, uid in enumerate(scp.instances) if uid == poison] == [0, 5]


def test_a_peer_that_never_answers_is_given_up(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 4)
    with ScriptedScp(lambda _scp, _number: b"") as scp:
        results = collect(files, scp.peer, HASTY)
    assert Counter(verdicts(results)) == {Verdict.UNKNOWN: 2, Verdict.NOT_SENT: 2}
    assert "no answer in time" in results[0].reason
    assert scp.aborts == scp.associations == 2


def test_an_object_whose_response_was_lost_is_unknown_however_the_peer_is_given_up(tmp_path: Path) -> None:
    """Without retries at all; and when the other attempts do not even get an association."""
    files = make_objects(tmp_path / "files", 2)
    with ScriptedScp(lambda _scp, _number: None) as scp:
        results = collect(files, scp.peer, replace(SETTINGS, retries=0))
    assert verdicts(results) == [Verdict.UNKNOWN, Verdict.NOT_SENT]
    assert scp.associations == 1

    def behave(scp: ScriptedScp, _number: int) -> None:
        scp.refuse_further()

    with ScriptedScp(behave) as scp:
        results = collect(files, scp.peer)
    assert verdicts(results) == [Verdict.UNKNOWN, Verdict.NOT_SENT]
    assert "; then no association with SCRIPTED: cannot connect" in results[0].reason
    assert all(result.given_up for result in results.values())


def test_who_stops_is_told_whose_response_was_lost(tmp_path: Path) -> None:
    with ScriptedScp(lambda _scp, _number: None) as scp:
        files = make_objects(tmp_path / "files", 2)
        totals = send(files, scp.peer, SETTINGS, lambda _: None, stop=lambda: bool(scp.instances))
    assert totals.stopped
    assert list(totals.unanswered) == [0]


def test_a_peer_that_accepts_the_connection_and_nothing_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        peer = Peer("SILENT", "127.0.0.1", silent.getsockname()[1])
        settings = SendSettings("SENDER", TimeLimits(connect=1, association=0.2, response=1), 0, 0)
        results = collect(make_objects(tmp_path / "files", 1), peer, settings)
    assert verdicts(results) == [Verdict.NOT_SENT]
    assert "no answer in time" in results[0].reason


def test_nobody_there(tmp_path: Path) -> None:
    peer = Peer("NOBODY", "127.0.0.1", free_port())
    results = collect(make_objects(tmp_path / "files", 2), peer, HASTY)
    assert verdicts(results) == [Verdict.NOT_SENT] * 2
    assert "refused" in results[0].reason


def test_a_permanent_rejection_is_not_repeated(tmp_path: Path) -> None:
    with storescp(tmp_path / "in", "--refuse") as peer:
        with pytest.raises(AssociationRejected) as rejection:
            StorageAssociation.request("SENDER", peer, [Context(CT, EXPLICIT)])
        results = collect(make_objects(tmp_path / "files", 1), peer)
    assert rejection.value.permanent
    assert verdicts(results) == [Verdict.NOT_SENT]


def test_dcmtk_that_aborts_during_store(tmp_path: Path) -> None:
    with storescp(tmp_path / "in", "--abort-during") as peer:
        results = collect(make_objects(tmp_path / "files", 1, size=2_000_000), peer, HASTY)
    assert verdicts(results) == [Verdict.UNKNOWN]


def test_what_is_no_part_10_file_has_a_result_and_harms_nothing(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no DICOM")
    files = [text, *make_objects(tmp_path / "files", 1), tmp_path / "missing.dcm"]
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        results = collect(files, scp.peer)
    assert verdicts(results) == [Verdict.UNREADABLE, Verdict.STORED, Verdict.UNREADABLE]


def test_a_file_without_a_dataset_is_unreadable_and_nothing_of_it_is_sent(tmp_path: Path) -> None:
    """A C-STORE-RQ that announces a dataset which never comes would keep the peer waiting."""
    files = make_objects(tmp_path / "files", 4)
    for path in files[::2]:
        path.write_bytes(path.read_bytes()[: read_meta(path).dataset_offset])
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        results = collect(files, scp.peer, HASTY)
    assert verdicts(results) == [Verdict.UNREADABLE, Verdict.STORED, Verdict.UNREADABLE, Verdict.STORED]
    assert scp.associations == 1


def test_sending_stops_between_objects(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "files", 5)
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        results = collect(files, scp.peer, stop=lambda: len(scp.instances) >= 2)
    assert sorted(results) == [0, 1]
    assert scp.aborts == 0


def test_the_time_limit_breaks_an_object_off_that_a_peer_takes_slowly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write takes almost as long as it may, by a clock that stands still otherwise; all would take too long."""
    files = make_objects(tmp_path / "files", 3)
    with files[1].open("r+b") as file:
        file.truncate(20_000_000)
    now = 0.0
    for module in (delivery, requestor):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    write = StorageAssociation._send

    def slow(association: StorageAssociation, data: bytes, seconds: float) -> None:
        nonlocal now
        write(association, data, seconds)
        now += 59

    monkeypatch.setattr(StorageAssociation, "_send", slow)
    results: list[ObjectResult] = []
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        totals = send(files, scp.peer, SETTINGS, results.append, seconds=600)
    assert [result.index for result in results] == [0]
    assert totals.stopped
    assert totals.unanswered == {1: "no association with SCRIPTED: broken off by us, because the time limit is over"}
    assert now < 600 + 2 * 59  # the abort is one of the writes
    assert scp.aborts == scp.associations == 1


@pytest.mark.timeout(30)  # it is the time limit that has to end this
@pytest.mark.parametrize("size", [1000, 50_000_000])
def test_the_time_limit_does_not_wait_for_a_peer_that_is_silent(tmp_path: Path, size: int) -> None:
    """Neither for its response nor for it to take what is written."""
    (path,) = make_objects(tmp_path / "files", 1)
    with path.open("r+b") as file:
        file.truncate(size + 2000)
    patient = replace(SETTINGS, limits=TimeLimits(connect=5, association=5, response=600))
    silent = threading.Event()

    def negotiates_only(scp: ScriptedScp, stream: Any, connection: socket.socket) -> None:
        kind, length = struct.unpack(">BxI", stream.read(6))
        assert kind == 1
        connection.sendall(scp._accept(stream.read(length)))
        assert silent.wait(30)

    with ScriptedScp(lambda _scp, _number: b"") as scp:
        scp._association = partial(negotiates_only, scp)  # type: ignore[method-assign]
        totals = send([path], scp.peer, patient, lambda _: None, seconds=0.5)
        silent.set()
    assert list(totals.unanswered) == [0]
    assert "the time limit is over" in totals.unanswered[0]


def test_a_result_that_cannot_be_written_down_stops_the_sending(tmp_path: Path) -> None:
    """No further object is begun before the last one's confirmation is safe."""

    def fails(_result: ObjectResult) -> None:
        raise OSError("disk")

    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        with pytest.raises(OSError, match="disk"):
            send(make_objects(tmp_path / "files", 3), scp.peer, SETTINGS, fails)
        assert len(scp.instances) == 1


def test_memory_does_not_grow_with_an_object(tmp_path: Path) -> None:
    """A 200 MB object, sent by a process of its own whose peak is looked at."""
    path = make_objects(tmp_path / "files", 1, size=1000)[0]
    with path.open("r+b") as file:
        file.truncate(200_000_000)
    program = (
        "import resource, sys, pathlib\n"
        "from clara_dicom_adapter.dicom.sender import *\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "t = send([pathlib.Path(sys.argv[1])], Peer('X', '127.0.0.1', int(sys.argv[2])), SendSettings('S'), print)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, t.sent)\n"
    )
    with storescp(tmp_path / "in", "+B", "--ignore") as peer:
        done = subprocess.run(
            [sys.executable, "-c", program, str(path), str(peer.port)], capture_output=True, text=True, check=True
        )
    grown, sent = done.stdout.split("\n")[-2].split()
    assert sent == "1"
    assert int(grown) < 20_000  # kilobytes


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        (b"\0\0\0\x01", "ends within"),
        (b"\0\0\0\x01\xff\0\0\0\x01\x80", "longer than"),
        (dimse.store_request(1, CT, "1.2"), "other than C-STORE-RSP"),
        (b"", "without"),
    ],
)
def test_nonsense_instead_of_a_response(command: bytes, problem: str) -> None:
    with pytest.raises(dimse.DimseError, match=problem):
        dimse.read_store_response(command)
