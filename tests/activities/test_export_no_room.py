"""A destination that wants room while several associations, or requests, are under way to it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from support.dicom_objects import make_objects
from support.dicom_peers import pynetdicom_scp
from support.dicomweb_service import Answer, everything, serving, told
from support.export_ledger import Results

from clara_dicom_adapter.activities.export_ledger import Ledger
from clara_dicom_adapter.activities.export_sending import Route, Sending
from clara_dicom_adapter.activities.export_turns import Turns
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import ObjectResult, Peer, SendSettings, TimeLimits, Verdict
from clara_dicom_adapter.dicom.stow_service import WebPeer

SETTINGS = SendSettings("SENDER", TimeLimits(connect=5, association=5, response=30), retries=2, retry_delay=0)
OBJECTS = 40
"""Enough for two associations; the odd ones go over the second."""
NO_ROOM = 0xA700


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return make_objects(tmp_path / "o", OBJECTS)


@pytest.fixture(params=[0, 0.01])
def settings(request: pytest.FixtureRequest) -> SendSettings:
    """With and without a pause before it is tried again."""
    return replace(SETTINGS, retry_delay=request.param)


async def sent(files: list[Path], peer: Peer | WebPeer, settings: SendSettings) -> list[ObjectResult]:
    results = Results()
    with ThreadPoolExecutor(2) as threads:
        sending = Sending(dict(enumerate(files)), cast(Ledger, results), Turns(2), threads)
        await asyncio.wait_for(sending.to(Route("pacs", peer, settings, 2, 600)), 60)
    return [results.by_index[index] for index in range(len(files))]


def odd_ones(files: list[Path]) -> set[str]:
    return {read_meta(path).sop_instance_uid for path in files[1::2]}


async def test_what_a_second_association_has_no_room_for_is_sent_when_there_is_room(
    files: list[Path], settings: SendSettings
) -> None:
    odd = odd_ones(files)
    refusals = iter([NO_ROOM, NO_ROOM])

    def answer(event: Event, _number: int) -> int:
        assert isinstance(event.request, C_STORE)
        return next(refusals, 0x0000) if str(event.request.AffectedSOPInstanceUID) in odd else 0x0000

    with pynetdicom_scp(files, answer=answer) as (peer, _):
        results = await sent(files, peer, settings)
    assert {result.verdict for result in results} == {Verdict.STORED}
    assert next(refusals, None) is None


async def test_what_a_second_request_has_no_room_for_is_sent_when_there_is_room(
    files: list[Path], settings: SendSettings
) -> None:
    odd = odd_ones(files)
    refusals = iter([NO_ROOM, NO_ROOM])

    def answer(uids: list[str], number: int) -> Answer:
        if odd & {*uids} and (status := next(refusals, 0)):
            return 409, told([], dict.fromkeys(uids, status))
        return everything(uids, number)

    with serving(answer) as service:
        results = await sent(files, service.peer, settings)
    assert {result.verdict for result in results} == {Verdict.STORED}
    assert next(refusals, None) is None


async def test_a_destination_that_stays_without_room_has_refused_all(files: list[Path], settings: SendSettings) -> None:
    with pynetdicom_scp(files, answer=lambda _event, _number: NO_ROOM) as (peer, _):
        results = await sent(files, peer, settings)
    assert {(result.verdict, result.status) for result in results} == {(Verdict.REFUSED, NO_ROOM)}
