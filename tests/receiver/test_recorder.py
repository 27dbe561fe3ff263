"""Associations on their way into the records: what comes together is recorded together, and nothing is lost."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from support.receiving import Recorded
from support.site import wait_until

from clara_dicom_adapter.receiver.acceptance import AssociationRequest, RejectReason
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.recorder import Recorder
from clara_dicom_adapter.workflows.models import AssociationOutcome

NOW = datetime(2026, 1, 2, tzinfo=UTC)


class Database:
    """Counts transactions; one that fails has recorded nothing."""

    def __init__(self) -> None:
        self.transactions: list[list[tuple[str, str, str]]] = []
        self.failures = 0
        self.failing = False
        self.open = threading.Event()
        self.open.set()

    @contextmanager
    def together(self) -> Iterator[Recorded]:
        recorded = Recorded()
        yield recorded
        assert self.open.wait(10)
        if self.failing:
            self.failures += 1
            raise ConnectionError
        self.transactions.append(recorded.lines)


def live(association_id: str) -> LiveAssociation:
    return LiveAssociation(association_id, "CT1", "CLARA", "192.0.2.7")


def test_what_comes_together_is_recorded_together_and_in_order() -> None:
    database = Database()
    recorder = Recorder(database)
    request = AssociationRequest("CT1", "CLARA", "192.0.2.7")
    for number in range(600):
        recorder.accepted(live(f"a{number}"))
        recorder.ended(live(f"a{number}"), AssociationOutcome.RELEASED, NOW)
    recorder.rejected("r1", request, RejectReason.STORAGE_SHORT, NOW)
    recorder.start()
    recorder.stop(10)
    told = [line for transaction in database.transactions for line in transaction]
    assert len(database.transactions) == 3
    assert told == [
        line
        for number in range(600)
        for line in ((f"a{number}", "accepted", "CT1"), (f"a{number}", "ended", "released 0"))
    ] + [("r1", "rejected", RejectReason.STORAGE_SHORT.word)]


def test_nothing_is_lost_while_the_database_is_away() -> None:
    database = Database()
    database.failing = True
    recorder = Recorder(database)
    recorder.start()
    recorder.accepted(live("a1"))
    wait_until("it has been tried", lambda: database.failures > 0)
    recorder.accepted(live("a2"))
    database.failing = False
    wait_until("both are recorded", lambda: sum(map(len, database.transactions)) == 2)
    recorder.stop(10)
    assert [line[0] for transaction in database.transactions for line in transaction] == ["a1", "a2"]


def test_a_database_that_hangs_is_not_waited_for_for_ever() -> None:
    database = Database()
    database.open.clear()
    recorder = Recorder(database)
    recorder.start()
    recorder.accepted(live("a1"))
    recorder.stop(0.2)
    assert database.transactions == []
    database.open.set()
    wait_until("it is recorded all the same", lambda: len(database.transactions) == 1)
