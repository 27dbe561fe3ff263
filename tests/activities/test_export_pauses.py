"""An export that waits before it tries its destination again: others have its association meanwhile."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs
from support.dicom_objects import make_objects
from support.dicom_peers import SUCCESS, ScriptedScp, free_port, pynetdicom_scp
from support.dicomweb_service import everything, serving
from support.export_ledger import Results

from clara_dicom_adapter.activities.export_ledger import Ledger
from clara_dicom_adapter.activities.export_sending import Route, Sending
from clara_dicom_adapter.activities.export_turns import Turns
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import ObjectResult, Peer, SendSettings, TimeLimits, Verdict
from clara_dicom_adapter.dicom.stow_service import WebPeer

SETTINGS = SendSettings("SENDER", TimeLimits(connect=5, association=5, response=30), retries=2, retry_delay=0.01)


async def sent(files: list[Path], peer: Peer | WebPeer, turns: Turns, settings: SendSettings) -> list[ObjectResult]:
    results = Results()
    with ThreadPoolExecutor(2) as threads:
        sending = Sending(dict(enumerate(files)), cast(Ledger, results), turns, threads)
        await sending.to(Route(str(peer), peer, settings, 2, 600))
    return [results.by_index[index] for index in range(len(files))]


def uid(path: Path) -> str:
    return read_meta(path).sop_instance_uid


async def test_who_waits_for_its_destination_has_no_association_meanwhile(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", 3)
    turns = Turns(1)
    patient = replace(SETTINGS, retry_delay=30)
    lost = threading.Event()
    with ScriptedScp(lambda _scp, _number: lost.set()) as broken, pynetdicom_scp(files) as (peer, _):
        waits = asyncio.ensure_future(sent(files, broken.peer, turns, patient))
        assert await asyncio.to_thread(lost.wait, 30)
        results = await sent(files, peer, turns, SETTINGS)
    assert {result.verdict for result in results} == {Verdict.STORED}
    assert not waits.done()
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert await asyncio.wait_for(turns.take("other", 1, 1), 5) == 1


async def test_a_dead_destination_is_given_up_after_its_attempts(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", 50)
    dead = Peer("NOBODY", "127.0.0.1", free_port())
    with capture_logs() as lines:
        results = await asyncio.wait_for(sent(files, dead, Turns(1), SETTINGS), 60)
    assert {result.verdict for result in results} == {Verdict.NOT_SENT}
    assert [line["attempt"] for line in lines if line["event"] == "peer_tried_again"] == [1, 2]


async def test_what_was_lost_before_a_pause_is_tried_again_once_behind_the_others(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", 30)
    poison = {uid(path) for path in files[:10]}
    with ScriptedScp(lambda scp, _number: None if scp.instances[-1] in poison else SUCCESS) as scp:
        results = await asyncio.wait_for(sent(files, scp.peer, Turns(1), SETTINGS), 60)
        assert max(map(scp.instances.count, poison)) == 2
    verdicts = [result.verdict for result in results]
    assert {*verdicts[10:]} == {Verdict.STORED}
    assert {*verdicts[:10]} <= {Verdict.UNKNOWN, Verdict.NOT_SENT}


async def test_what_cost_a_request_before_a_pause_goes_alone_behind_it(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", 30)
    poison = {uid(path) for path in files[:10]}
    with serving(lambda uids, number: None if poison & {*uids} else everything(uids, number)) as service:
        results = await asyncio.wait_for(sent(files, service.peer, Turns(1), SETTINGS), 60)
    assert [result.verdict for result in results] == [Verdict.UNKNOWN] * 10 + [Verdict.STORED] * 20
    assert [len(request) for request in service.requests] == [30] + [1] * (len(service.requests) - 1)
