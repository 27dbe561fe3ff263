"""Instances are named behind their replies: in order, all of them before an association is over, and never too many."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, facts

from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.receiver import commands
from clara_dicom_adapter.receiver.acceptance import KnownAeTitle
from clara_dicom_adapter.receiver.c_store import StoreSession
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.naming import Naming
from clara_dicom_adapter.spool import Spool, SpoolRole, prepared, preparing, ways
from clara_dicom_adapter.spool.sealed import place_sealed
from clara_dicom_adapter.workflows.models import AssociationOutcome


@pytest.fixture(autouse=True)
def any_file_system_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparing, "file_system", lambda _: "ext4")
    monkeypatch.setattr(ways, "is_supported", lambda: False)
    monkeypatch.setattr(prepared, "_WORTHWHILE", 0)


class HeldUp(Naming):
    """Does nothing until somebody waits for it."""

    def __init__(self) -> None:
        super().__init__(lambda: None)
        self._gate = threading.Event()
        self.put(self._gate.wait)

    def _drain(self) -> None:
        self._gate.set()
        super()._drain()


@contextmanager
def storing(root: Path, naming: Naming) -> Iterator[tuple[StoreSession, LiveAssociation, Spool]]:
    """A session that stores into prepared files."""
    with Spool.open(root / "spool", SpoolRole.RECEIVER) as spool:
        preparer = preparing.Preparer(spool.root, 20_000_000, room=lambda: 1 << 40)
        preparer.start()
        while preparer.step():
            pass
        association = facts()
        live = LiveAssociation(association.association_id, "CT1", "CLARA", "127.0.0.1")
        ae = KnownAeTitle(ClaraAeTitle(name="CLARA", ae_title="CLARA"), association.ae)
        session = StoreSession(
            live,
            ae,
            open_folder=lambda: spool.begin_association(association),
            can_store=lambda: True,
            naming=naming,
            closed=lambda live, outcome, owed: None,
        )
        yield session, live, spool


def store(session: StoreSession, count: int) -> None:
    """Instances that are answered with 0000."""
    for number in range(count):
        session.begin(commands.StoreRequest(number, CT, f"1.2.{number}"), CT, EXPLICIT_LITTLE_ENDIAN)
        session.write([memoryview(b"1234")])
        assert session.complete()[0] == commands.SUCCESS
        session.answered()


def test_a_task_that_fails_does_not_stop_the_next() -> None:
    naming = Naming(lambda: None)
    done: list[int] = []
    naming.put(lambda: done.append(1))
    naming.put(lambda: done.append(1 // 0))
    naming.put(lambda: done.append(2))
    naming.wait()
    assert done == [1, 2]


def test_who_puts_too_much_waits() -> None:
    naming = HeldUp()
    waiting: list[int] = []
    for _ in range(500):
        naming.put(lambda: waiting.append(naming._tasks.qsize()))
    naming.wait()
    assert len(waiting) == 500
    assert max(waiting) <= 65, "64 and the one that is waited for"


@pytest.mark.parametrize("failures", [1, 2])
def test_a_name_that_the_disk_refuses_is_tried_again_before_the_end(
    tmp_path: Path, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with storing(tmp_path, Naming(lambda: None)) as (session, live, spool):
        truncate, left = os.ftruncate, [None] * failures

        def refuse(descriptor: int, length: int) -> None:
            if left:
                left.pop()
                raise OSError(errno.ENOSPC, "no space left on device")
            truncate(descriptor, length)

        monkeypatch.setattr(os, "ftruncate", refuse)
        store(session, 1)
        session.end(AssociationOutcome.RELEASED)
        (folder,) = spool.associations()
        assert live.instances == 1
        assert sorted(folder.files()) == ([1] if failures == 1 else [])
        if failures == 2:  # the next look through the spool makes it
            assert place_sealed(spool.root).named == 1
            assert sorted(folder.files()) == [1]


def test_an_association_is_over_when_all_that_it_stored_is_named(tmp_path: Path) -> None:
    with storing(tmp_path, HeldUp()) as (session, live, spool):
        store(session, 3)
        (folder,) = spool.associations()
        assert (live.instances, folder.files()) == (0, {})
        session.end(AssociationOutcome.RELEASED)
        assert (live.instances, sorted(folder.files())) == (3, [1, 2, 3])
        assert folder.outcome is not None
        assert folder.outcome.instances == 3


def test_a_name_that_the_disk_refuses_is_tried_again_while_the_association_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    naming = Naming(lambda: None)
    with storing(tmp_path, naming) as (session, live, spool):
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", lambda *_: Path("/nowhere").stat())
            store(session, 1)
            naming.wait()
            assert live.instances == 0
        session._name_again_at = 0
        store(session, 1)
        naming.wait()
        assert live.instances == 2
        (folder,) = spool.associations()
        assert sorted(folder.files()) == [1, 2]
