"""What the receiver knows of the associations of a listener that has died; the test says what the listener had told."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.receiving import LOOPBACK, Receiver, receiving
from support.spooling import facts, store

from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.pace import Pace
from clara_dicom_adapter.receiver.recovery import Recovery
from clara_dicom_adapter.receiver.reports import Accepted
from clara_dicom_adapter.spool import AssociationFacts
from clara_dicom_adapter.workflows.models import AssociationOutcome


@pytest.fixture
def receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver whose reconciler finds nothing by itself."""
    monkeypatch.setattr(Recovery, "reconcile", lambda _: None)
    with receiving(tmp_path / "spool") as receiver:
        yield receiver


def accepted(of: AssociationFacts) -> Accepted:
    return Accepted(LiveAssociation(of.association_id, of.calling_ae_title, of.called_ae_title, LOOPBACK))


def dies(receiver: Receiver) -> None:
    receiver.service.dying(0)
    receiver.service.died(0)


def test_what_it_had_stored_since_it_told_last_is_counted_and_handed_over(receiver: Receiver) -> None:
    """It had written the outcome, too: nobody else would have called it interrupted."""
    released = facts()
    receiver.service.hear(0, accepted(released))
    folder = receiver.spool.begin_association(released)
    store(folder, 2)
    folder.end(AssociationOutcome.RELEASED)
    dies(receiver)
    assert receiver.spool.usage().unhanded == 2
    assert receiver.recorded_lines() == ["accepted MODALITY", "ended released 2"]


def test_who_had_stored_nothing_was_interrupted(receiver: Receiver) -> None:
    receiver.service.hear(0, accepted(facts()))
    dies(receiver)
    assert receiver.recorded_lines() == ["accepted MODALITY", "ended adapter-stopped 0"]


def test_nothing_is_remembered_of_its_associations(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    remembered: set[str] = set()
    read, forget = Pace.read, Pace.forget

    def reads(pace: Pace, live: LiveAssociation) -> None:
        remembered.add(live.association_id)
        read(pace, live)

    def forgets(pace: Pace, association_id: str) -> None:
        remembered.discard(association_id)
        forget(pace, association_id)

    monkeypatch.setattr(Pace, "read", reads)
    monkeypatch.setattr(Pace, "forget", forgets)
    receiver.service.hear(0, accepted(facts()))
    assert remembered
    dies(receiver)
    assert not remembered
    assert receiver.service.associations() == []


def test_an_association_that_nobody_has_told_of_is_recorded_when_it_is_found(tmp_path: Path) -> None:
    """Its listener died between its outcome and its report."""
    with receiving(tmp_path / "spool") as receiver:
        recovery = receiver.service._recovery
        with recovery._looking:  # the look at the start sees all of it or nothing
            folder = receiver.spool.begin_association(facts())
            store(folder, 2)
            folder.end(AssociationOutcome.RELEASED)
        dies(receiver)
        recovery.reconcile()
        assert receiver.spool.usage().unhanded == 2
        assert receiver.recorded_lines() == ["ended released 2"]


def test_one_that_ends_while_it_is_indexed_is_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its listener has told nothing of it yet, and the reconciler sees it while it is received."""
    with receiving(tmp_path / "spool") as receiver:
        recovery = receiver.service._recovery
        with recovery._looking:
            folder = receiver.spool.begin_association(facts())
            store(folder)
            make_batches = recovery._addressing.make_batches

            def ends_meanwhile(*arguments: Any) -> Any:
                monkeypatch.undo()
                made = make_batches(*arguments)
                store(folder)
                folder.end(AssociationOutcome.RELEASED)
                return made

            monkeypatch.setattr(recovery._addressing, "make_batches", ends_meanwhile)
            recovery._index_forgotten()
            assert receiver.spool.usage().unhanded == 1
            recovery._index_forgotten()
            assert receiver.spool.usage().unhanded == 2
        assert receiver.recorded_lines() == ["ended released 2"]
