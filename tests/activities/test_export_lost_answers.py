"""Objects whose responses were lost, over several associations and several turns."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from support.dicom_objects import make_objects
from support.dicom_peers import pynetdicom_scp
from support.dicomweb_service import Answer, everything, serving
from support.export_ledger import Results

from clara_dicom_adapter.activities import export_sending
from clara_dicom_adapter.activities.export_ledger import Ledger
from clara_dicom_adapter.activities.export_sending import Route, Sending
from clara_dicom_adapter.activities.export_turns import Turns
from clara_dicom_adapter.dicom import delivery
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import ObjectResult, Peer, SendSettings, TimeLimits, Verdict
from clara_dicom_adapter.dicom.stow_service import WebPeer

SETTINGS = SendSettings("SENDER", TimeLimits(connect=5, association=5, response=30), retries=0, retry_delay=0)
OBJECTS = 40
"""Enough for two associations; the odd ones go over the second."""


async def sent(files: list[Path], peer: Peer | WebPeer) -> list[ObjectResult]:
    results = Results()
    with ThreadPoolExecutor(2) as threads:
        sending = Sending(dict(enumerate(files)), cast(Ledger, results), Turns(2), threads)
        await asyncio.wait_for(sending.to(Route("pacs", peer, SETTINGS, 2, 600)), 60)
    return [results.by_index[index] for index in range(len(files))]


async def test_an_object_that_a_second_association_lost_is_sent_again_over_the_first(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", OBJECTS)
    lost = read_meta(files[1]).sop_instance_uid
    seen: list[str] = []

    def behave(event: Event, _number: int) -> int:
        assert isinstance(event.request, C_STORE)
        seen.append(str(event.request.AffectedSOPInstanceUID))
        if seen.count(lost) == 1 and seen[-1] == lost:
            event.assoc.abort()
        return 0x0000

    with pynetdicom_scp(files, answer=behave) as (peer, _):
        results = await sent(files, peer)
    assert {result.verdict for result in results} == {Verdict.STORED}
    assert seen.count(lost) == 2


async def test_a_batch_that_a_gateway_lost_for_a_second_request_is_sent_again(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", OBJECTS)
    odd = {read_meta(path).sop_instance_uid for path in files[1::2]}
    trouble = iter([(504, b"")])

    def answer(uids: list[str], number: int) -> Answer:
        return next(trouble, everything(uids, number)) if odd & {*uids} else everything(uids, number)

    with serving(answer) as service:
        results = await sent(files, service.peer)
    assert {result.verdict for result in results} == {Verdict.STORED}
    assert len(service.requests) == 3


async def test_what_was_lost_in_one_turn_and_cannot_be_sent_in_the_next_is_unknown(tmp_path: Path) -> None:
    files = make_objects(tmp_path / "o", OBJECTS)
    odd = {read_meta(path).sop_instance_uid for path in files[1::2]}
    trouble = iter([(504, b"")])

    def answer(uids: list[str], number: int) -> Answer:
        return next(trouble, (503, b"", {"Retry-After": "0"})) if odd & {*uids} else everything(uids, number)

    with serving(answer) as service:
        results = await sent(files, service.peer)
    assert [result.verdict for result in results] == [Verdict.STORED, Verdict.UNKNOWN] * (OBJECTS // 2)
    assert results[1].reason == "WEB: HTTP status 504; then WEB: HTTP status 503"


async def test_what_was_lost_when_the_time_is_over_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request is held until the second one is lost, and takes all the time there is."""
    now = 0.0
    for module in (export_sending, delivery):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    files = make_objects(tmp_path / "o", OBJECTS)
    odd = {read_meta(path).sop_instance_uid for path in files[1::2]}
    is_lost = threading.Event()

    def answer(uids: list[str], number: int) -> Answer:
        nonlocal now
        if odd & {*uids}:
            is_lost.set()
            return 504, b""
        assert is_lost.wait(30)
        now += 601
        return everything(uids, number)

    with serving(answer) as service:
        results = await sent(files, service.peer)
    assert [result.verdict for result in results] == [Verdict.STORED, Verdict.UNKNOWN] * (OBJECTS // 2)
    assert "; then not sent within 600 s" in results[1].reason
