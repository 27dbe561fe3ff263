"""Instances are named behind their replies: in order, all of them before an association is over, and never too many."""

import threading
from pathlib import Path

from support.spooling import CT, EXPLICIT_LITTLE_ENDIAN, facts

from clara_dicom_adapter.configuration.entities import ClaraAeTitle
from clara_dicom_adapter.receiver import commands
from clara_dicom_adapter.receiver.acceptance import KnownAeTitle
from clara_dicom_adapter.receiver.c_store import StoreSession
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.naming import Naming
from clara_dicom_adapter.spool import Spool, SpoolRole, preparing
from clara_dicom_adapter.workflows.models import AssociationOutcome


class HeldUp(Naming):
    """Does nothing until somebody waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._gate = threading.Event()
        self.put(self._gate.wait)

    def wait(self) -> None:
        self._gate.set()
        super().wait()


def test_a_task_that_fails_does_not_stop_the_next() -> None:
    naming = Naming()
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


def test_an_association_is_over_when_all_that_it_stored_is_named(tmp_path: Path) -> None:
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER) as spool:
        association = facts()
        live = LiveAssociation(association.association_id, "CT1", "CLARA", "127.0.0.1")
        session = StoreSession(
            live,
            KnownAeTitle(ClaraAeTitle(name="CLARA", ae_title="CLARA"), association.ae),
            open_folder=lambda: spool.begin_association(association),
            can_store=lambda: True,
            naming=HeldUp(),
            closed=lambda live, outcome, owed: None,
        )
        preparer = preparing.Preparer(spool.root, 20_000_000, room=lambda: 1 << 40)
        preparer.start()
        while preparer.step():
            pass
        for number in range(3):
            session.begin(commands.StoreRequest(number, CT, f"1.2.{number}"), CT, EXPLICIT_LITTLE_ENDIAN)
            session.write([memoryview(b"1234")])
            assert session.complete()[0] == commands.SUCCESS
            session.answered()
        folder = spool.association(association.association_id)
        assert (live.instances, folder.files()) == (0, {})
        session.end(AssociationOutcome.RELEASED)
        assert (live.instances, sorted(folder.files())) == (3, [1, 2, 3])
        assert folder.outcome is not None
        assert folder.outcome.instances == 3
