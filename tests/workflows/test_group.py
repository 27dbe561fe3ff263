"""When a group closes and what becomes of it, decided without Temporal."""

import pytest

from clara_dicom_adapter.workflows.group import Group
from clara_dicom_adapter.workflows.models import (
    AssociationEnd,
    AssociationOutcome,
    ClaimResult,
    InterruptedPolicy,
    PinnedAeTitle,
)


def ae(timeout: float = 0, **changed: object) -> PinnedAeTitle:
    fields: dict[str, object] = {
        "ae_title": "CLARA",
        "name": "CLARA",
        "processor": "ae-title",
        "timeout_seconds": timeout,
    }
    return PinnedAeTitle.model_validate(fields | changed)


def end(outcome: AssociationOutcome, sender: str = "s1", failed: int = 0) -> AssociationEnd:
    return AssociationEnd(
        association_id="a1", node_id="n1", sender_key=sender, outcome=outcome, instances=3, failed_instances=failed
    )


def claimed(instances: int, outstanding: int = 0, refused: int = 0) -> ClaimResult:
    return ClaimResult(owned_instances=instances, owned_bytes=instances * 10, outstanding=outstanding, refused=refused)


def test_an_association_s_group_closes_with_its_association_and_not_by_time() -> None:
    group = Group(ae(0), windowed=False)
    group.activity(100)
    group.claimed("n1", claimed(3))
    assert group.rests_at() is None
    assert not group.looks_complete(1e9)
    group.association_ended(end(AssociationOutcome.RELEASED))
    assert group.looks_complete(100)


def test_a_window_rests_from_its_last_instance_on() -> None:
    group = Group(ae(5), windowed=True)
    group.activity(100)
    group.claimed("n1", claimed(1))
    group.activity(103)
    assert not group.looks_complete(107.9)
    assert group.looks_complete(108)


def test_a_window_that_never_rests_closes_at_its_maximum() -> None:
    group = Group(ae(5, maximum_window_seconds=10), windowed=True)
    for second in range(100, 120, 2):
        group.activity(second)
    group.claimed("n1", claimed(10))
    assert group.rests_at() == 110


def test_an_association_that_ends_does_not_close_a_window() -> None:
    group = Group(ae(5), windowed=True)
    group.activity(100)
    group.claimed("n1", claimed(1))
    group.association_ended(end(AssociationOutcome.RELEASED))
    assert not group.looks_complete(104)


@pytest.mark.parametrize("windowed", [False, True])
def test_what_belongs_to_someone_else_ends_quietly(windowed: bool) -> None:
    group = Group(ae(5 if windowed else 0), windowed=windowed)
    group.activity(100)
    group.claimed("n1", claimed(0, refused=1))
    assert group.looks_complete(100)
    assert group.instances == 0


def test_what_nodes_own_adds_up_and_a_batch_delivered_twice_counts_once() -> None:
    group = Group(ae(5), windowed=True)
    group.claimed("n1", claimed(2))
    group.claimed("n1", claimed(5))
    group.claimed("n1", claimed(5))
    group.claimed("n2", claimed(4, outstanding=1))
    assert (group.instances, group.bytes) == (9, 90)
    assert group.anything_outstanding


@pytest.mark.parametrize(
    ("windowed", "setting", "outcome", "expected"),
    [
        (False, None, AssociationOutcome.RELEASED, InterruptedPolicy.SUBMIT),
        (False, None, AssociationOutcome.ABORTED, InterruptedPolicy.QUARANTINE),
        (False, None, AssociationOutcome.CONNECTION_LOST, InterruptedPolicy.QUARANTINE),
        (False, None, AssociationOutcome.ADAPTER_STOPPED, InterruptedPolicy.SUBMIT),
        (False, "discard", AssociationOutcome.ABORTED, InterruptedPolicy.DISCARD),
        (False, "discard", AssociationOutcome.ADAPTER_STOPPED, InterruptedPolicy.SUBMIT),
        (False, "submit", AssociationOutcome.ABORTED, InterruptedPolicy.SUBMIT),
        (True, None, AssociationOutcome.ABORTED, InterruptedPolicy.SUBMIT),
        (True, "quarantine", AssociationOutcome.CONNECTION_LOST, InterruptedPolicy.QUARANTINE),
    ],
)
def test_what_becomes_of_an_interrupted_group(
    windowed: bool, setting: str | None, outcome: AssociationOutcome, expected: InterruptedPolicy
) -> None:
    group = Group(ae(5 if windowed else 0, interrupted=setting), windowed=windowed)
    group.claimed("n1", claimed(3))
    group.association_ended(end(outcome))
    assert group.policy() is expected


def test_a_sender_that_comes_back_and_releases_is_no_longer_interrupted() -> None:
    group = Group(ae(5), windowed=True)
    group.association_ended(end(AssociationOutcome.ABORTED, "s1"))
    group.association_ended(end(AssociationOutcome.ABORTED, "s2"))
    group.association_ended(end(AssociationOutcome.RELEASED, "s1"))
    assert group.interrupted_senders == {"s2"}
    group.association_ended(end(AssociationOutcome.RELEASED, "s2"))
    assert not group.incomplete


def test_an_instance_that_could_not_be_stored_makes_the_group_incomplete() -> None:
    group = Group(ae(0), windowed=False)
    group.association_ended(end(AssociationOutcome.RELEASED, failed=1))
    assert group.incomplete
    assert group.policy() is InterruptedPolicy.SUBMIT


def test_a_closed_group_awaits_what_broke_off_before_for_as_long_as_a_hold() -> None:
    group = Group(ae(0, interrupted_hold_seconds=60), windowed=False)
    assert not group.awaits_earlier(since=100, now=100)
    group.awaited = 1
    assert group.awaits_earlier(since=100, now=159)
    assert not group.awaits_earlier(since=100, now=160)


def test_without_a_hold_nothing_is_awaited() -> None:
    group = Group(ae(0, interrupted_hold_seconds=0), windowed=False, awaited=1)
    assert not group.awaits_earlier(since=100, now=100)


def test_a_group_survives_continue_as_new() -> None:
    group = Group(ae(5), windowed=True, number=3, awaited=1)
    group.activity(100)
    group.claimed("n1", claimed(2))
    group.association_ended(end(AssociationOutcome.ABORTED, "s1", failed=2))
    again = Group.resumed(group.ae, windowed=True, progress=group.progress())
    assert again.progress() == group.progress()
    assert (again.instances, again.number, again.awaited, again.rests_at()) == (2, 3, 1, 105)


def test_a_run_that_goes_on_as_a_new_one_still_knows_what_a_spool_holds_for_it() -> None:
    """Else the group would close without what is on its way, and its association would make two jobs."""
    group = Group(ae(0), windowed=False)
    group.activity(100)
    group.claimed("n1", claimed(3, outstanding=2))
    group.association_ended(end(AssociationOutcome.RELEASED))
    again = Group.resumed(group.ae, windowed=False, progress=group.progress())
    assert again.anything_outstanding
    assert again == group
