"""What a sender has in the spool besides one of its associations, as the workflow of that one sees it."""

from pathlib import Path

import pytest
from support.spooling import STUDY, batch, facts, store

from clara_dicom_adapter.spool import (
    AssociationFolder,
    InstanceHead,
    OfSender,
    Spool,
    SpoolRole,
    new_association_id,
)
from clara_dicom_adapter.workflows.models import AssociationOutcome, Owner

SENDER = "5e4d"
SUBMISSION = Owner(workflow_id="submission-1")


class Bench:
    """One association whose group looks around, and a second one to be seen."""

    def __init__(self, root: Path) -> None:
        self.spool = Spool.open(root, SpoolRole.RECEIVER)
        first, second = sorted((new_association_id(), new_association_id()))
        self.seen = self.spool.begin_association(facts(first))
        self.looking = self.spool.begin_association(facts(second))

    def batch(self, folder: AssociationFolder, instances: int, *, study: str = STUDY, sender: str = SENDER) -> str:
        heads = [InstanceHead(one, study, f"{study}.1") for one in store(folder, instances)]
        start = f'{{"sender_key": "{sender}"}}'
        return batch(self.spool, folder, heads, owner(folder).workflow_id, start).batch_id

    def look(self) -> list[OfSender]:
        return self.spool.of_sender(owner(self.looking), SENDER)


def owner(folder: AssociationFolder) -> Owner:
    return Owner(workflow_id=f"receive-{folder.association_id}", run_id="run", group=1)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.spool.claim(owner(bench.looking), [bench.batch(bench.looking, 3)])
    return bench


def test_it_is_seen_unclaimed_and_claimed_open_and_ended(bench: Bench) -> None:
    batch = bench.batch(bench.seen, 2)
    seen = bench.seen.association_id
    assert bench.look() == [OfSender(seen, None, interrupted=None, resent=True)]
    bench.spool.claim(owner(bench.seen), [batch])
    bench.seen.end(AssociationOutcome.CONNECTION_LOST)
    assert bench.look() == [OfSender(seen, owner(bench.seen), interrupted=True, resent=False)]


def test_what_it_sent_last_has_come_again_or_not(bench: Bench) -> None:
    bench.batch(bench.seen, 3)
    assert bench.look()[0].resent
    bench.batch(bench.seen, 1)  # the same instance as its first: that has come again, too
    assert bench.look()[0].resent
    more = bench.spool.begin_association(facts(new_association_id()))
    bench.batch(more, 4)
    assert {each.association_id: each.resent for each in bench.look()} == {
        bench.seen.association_id: True,
        more.association_id: False,
    }


@pytest.mark.parametrize(
    ("interrupted", "resent", "broken"),
    [(True, False, True), (False, True, False), (None, True, True), (None, False, False)],
)
def test_who_was_given_up_by_its_sender(interrupted: bool | None, *, resent: bool, broken: bool) -> None:
    assert OfSender("a", None, interrupted, resent).broken is broken


def test_another_study_and_another_sender_are_not_seen(bench: Bench) -> None:
    bench.batch(bench.seen, 1, study="1.2.3")
    bench.batch(bench.seen, 1, sender="0b0b")
    bench.batch(bench.seen, 1, sender="")
    assert bench.look() == []


def test_an_unknown_study_is_no_study_in_common(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.spool.claim(owner(bench.looking), [bench.batch(bench.looking, 1, study="")])
    bench.batch(bench.seen, 1, study="")
    assert bench.look() == []


def test_what_is_submitted_taken_over_or_released_is_not_seen(bench: Bench) -> None:
    batch = bench.batch(bench.seen, 2)
    bench.spool.claim(owner(bench.seen), [batch])
    assert len(bench.look()) == 1
    bench.spool.transfer(owner(bench.seen), owner(bench.looking), None)
    assert bench.look() == []
    again = bench.spool.begin_association(facts(new_association_id()))
    bench.spool.claim(owner(again), [bench.batch(again, 1)])
    bench.spool.transfer(owner(again), SUBMISSION, "{}")
    assert bench.look() == []
    discarded = bench.spool.begin_association(facts(new_association_id()))
    bench.spool.claim(owner(discarded), [bench.batch(discarded, 1)])
    bench.spool.release(owner(discarded))
    assert bench.look() == []
