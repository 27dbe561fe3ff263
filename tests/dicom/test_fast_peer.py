"""A peer that answers before the sender looks: what pynetdicom's ``send_c_store`` makes of it, and what ours does.

The race is not waited for but made to happen. Threads are only held up, each at a place where the operating system may
hold it up at any time; what they do is untouched.
"""

import queue
import select
import threading
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from support.dicom_objects import CT, EXPLICIT, make_objects
from support.dicom_peers import SUCCESS, ScriptedScp

from clara_dicom_adapter.dicom.requestor import StorageAssociation
from clara_dicom_adapter.dicom.sender import SendSettings, SendTotals, send

SECONDS = 20.0
"""For what must happen."""


class NotedQueue(queue.Queue[Any]):
    """Tells when the first message has come."""

    def __init__(self) -> None:
        super().__init__()
        self.has_come = threading.Event()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self.has_come.set()


class SlowCheckpoint(threading.Event):
    """The reactor's checkpoint, with a reactor that is held up behind it until the response has come."""

    def __init__(self, response: threading.Event) -> None:
        super().__init__()
        self.set()
        self.passed = threading.Event()
        self._response = response

    def wait(self, timeout: float | None = None) -> bool:
        super().wait(timeout)
        self.passed.set()
        return self._response.wait(SECONDS)


def test_the_reactor_of_pynetdicom_takes_the_response_and_the_association_dies(tmp_path: Path) -> None:
    """What `send_c_store` takes for a paused reactor is one that has passed its checkpoint and not looked yet.

    When this fails, pynetdicom has closed the gap, and decision 0003 wants another look.
    """
    (path,) = make_objects(tmp_path, 1)
    ae = AE("STOCK")
    ae.dimse_timeout = 0.2
    ae.add_requested_context(CT, EXPLICIT)
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        association = ae.associate("127.0.0.1", scp.peer.port)
        assert association.is_established
        responses, reactor_has_looked = NotedQueue(), threading.Event()
        look = association.dimse.get_msg

        def get_msg(block: bool = False) -> Any:
            if block:  # the caller
                assert reactor_has_looked.wait(SECONDS)
            found = look(block)
            if found[1] is not None:
                reactor_has_looked.set()
            return found

        association.dimse.msg_queue = responses
        association.dimse.get_msg = get_msg  # type: ignore[method-assign]
        association._reactor_checkpoint = checkpoint = SlowCheckpoint(responses.has_come)
        assert checkpoint.passed.wait(SECONDS)
        answer = association.send_c_store(path)
        checkpoint.set()  # its abort may leave the reactor waiting
        association.join(SECONDS)
    assert len(scp.instances) == 1
    assert "Status" not in answer
    assert association.is_aborted


def test_ours_has_nobody_who_could_take_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller is held up with every object until the response is there, and is the only one who reads."""
    files = make_objects(tmp_path, 50)
    read = StorageAssociation._store_response
    readers: set[threading.Thread] = set()

    def held_up(association: StorageAssociation) -> Any:
        assert select.select([association._connection], [], [], SECONDS)[0]
        readers.update(threading.enumerate())
        return read(association)

    monkeypatch.setattr(StorageAssociation, "_store_response", held_up)
    delivered: list[bool] = []
    with ScriptedScp(lambda _scp, _number: SUCCESS) as scp:
        others = set(threading.enumerate())
        totals = send(
            files, scp.peer, SendSettings("OURS", retries=0), lambda result: delivered.append(result.delivered)
        )
    assert delivered == [True] * 50
    assert totals == SendTotals(sent=50, bytes=totals.bytes, associations=1)
    assert readers == others
