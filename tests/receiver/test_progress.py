"""What a listener tells of its open associations: the receiver hears of the last change, however slow it is."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.receiving import LOOPBACK, Configured

from clara_dicom_adapter.configuration.settings import ScpSettings
from clara_dicom_adapter.receiver.acceptance import AssociationRequest, Reject
from clara_dicom_adapter.receiver.known import KnownCopy
from clara_dicom_adapter.receiver.listener import Listener
from clara_dicom_adapter.receiver.live import LiveAssociation, LiveAssociations
from clara_dicom_adapter.receiver.places import Places
from clara_dicom_adapter.receiver.reports import Accepted, Progress, Report
from clara_dicom_adapter.spool import Arrivals, Spool, SpoolRole
from clara_dicom_adapter.workflows.models import AssociationOutcome

OPEN = LiveAssociation("a" * 32, "CT1", "CLARA", LOOPBACK)


class Receiver:
    """Takes reports, or has no time for them."""

    def __init__(self) -> None:
        self.busy = False
        self.heard: list[Report] = []

    def tell(self, report: Report) -> bool:
        if not self.busy:
            self.heard.append(report)
        return not self.busy


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def listener(tmp_path: Path, receiver: Receiver) -> Iterator[Listener]:
    places = Places.make()
    with Spool.open(tmp_path / "spool", SpoolRole.RECEIVER):
        settings = ScpSettings(port=0, host=(LOOPBACK,), reject_unknown_sources=False)
        yield Listener(
            settings,
            Arrivals(tmp_path / "spool"),
            places=places,
            number=0,
            can_store=lambda: True,
            tell=receiver.tell,
        )
    places.close()


def test_an_association_is_told_of_before_its_progress(
    listener: Listener, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the time for progress comes: else the receiver would take it for one that is over."""
    entity, pinned = Configured().ae_titles()[0]
    listener.know(KnownCopy.model_validate({"ae_titles": [{"entity": entity, "pinned": pinned}]}))
    put = LiveAssociations.put

    def put_and_tell(register: LiveAssociations, association: LiveAssociation) -> None:
        put(register, association)
        listener.tell_progress()

    monkeypatch.setattr(LiveAssociations, "put", put_and_tell)
    session = listener.scp.decide(AssociationRequest("CT1", "CLARA", LOOPBACK))
    assert not isinstance(session, Reject)
    assert [type(report) for report in receiver.heard] == [Accepted, Progress]
    session.end(AssociationOutcome.RELEASED)


def test_what_a_busy_receiver_did_not_take_is_told_again(listener: Listener, receiver: Receiver) -> None:
    live = replace(OPEN)
    listener.scp.live.put(live)
    listener.tell_progress()
    live.instances, receiver.busy = 1, True
    listener.tell_progress()
    receiver.busy = False  # and nothing more happens in the association
    listener.tell_progress()
    listener.tell_progress()
    told = [
        [each.instances for each in report.associations] for report in receiver.heard if isinstance(report, Progress)
    ]
    assert told == [[0], [1]]
