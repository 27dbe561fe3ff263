"""Where instances are addressed."""

from clara_dicom_adapter.receiver import grouping
from clara_dicom_adapter.workflows.models import PinnedAeTitle

SECRET = bytes(range(32))
OTHER_SECRET = bytes(32)


def ae(timeout: float = 5, group_by: str = "0020,000D", ae_title: str = "CLARA") -> PinnedAeTitle:
    return PinnedAeTitle(ae_title=ae_title, name="c", processor="p", timeout_seconds=timeout, group_by=group_by)


def test_timeout_0_addresses_the_association_whatever_the_grouping_value() -> None:
    first = grouping.workflow_id(ae(0), "a1", "1.2.3", SECRET)
    assert first == grouping.workflow_id(ae(0), "a1", None, SECRET) == "receive-CLARA-a1"
    assert grouping.receive_input(ae(0), "CT1", "a1", SECRET).association_id == "a1"
    assert grouping.receive_input(ae(0), "CT1", "a1", SECRET).sender_key == grouping.sender_key(SECRET, "CT1", "CLARA")


def test_a_window_spans_associations_and_divides_by_value() -> None:
    one = grouping.workflow_id(ae(), "a1", "1.2.3", SECRET)
    assert one == grouping.workflow_id(ae(), "a2", "1.2.3", SECRET)
    others = {
        grouping.workflow_id(ae(), "a1", "1.2.4", SECRET),
        grouping.workflow_id(ae(), "a1", None, SECRET),
        grouping.workflow_id(ae(ae_title="OTHER"), "a1", "1.2.3", SECRET),
        grouping.workflow_id(ae(group_by="0010,0020"), "a1", "1.2.3", SECRET),
        grouping.workflow_id(ae(), "a1", "1.2.3", OTHER_SECRET),
    }
    assert len(others) == 5
    assert one not in others
    assert grouping.receive_input(ae(), "CT1", "a1", SECRET).association_id is None


def test_an_absent_value_and_an_empty_one_are_the_same_group() -> None:
    assert grouping.workflow_id(ae(), "a1", "", SECRET) == grouping.workflow_id(ae(), "a1", None, SECRET)


def test_grouping_none_is_one_window_for_the_ae_title() -> None:
    none = ae(group_by="none")
    assert grouping.workflow_id(none, "a1", "1.2.3", SECRET) == grouping.workflow_id(none, "a2", None, SECRET)


def test_an_id_tells_nothing_of_the_value() -> None:
    assert "PATIENT" not in grouping.workflow_id(ae(group_by="0010,0020"), "a1", "PATIENT", SECRET)


def test_sender_keys_do_not_run_together() -> None:
    assert grouping.sender_key(SECRET, "AB", "C") != grouping.sender_key(SECRET, "A", "BC")
