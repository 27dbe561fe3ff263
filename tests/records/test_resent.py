"""Only what came when its group had been submitted counts as too late."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from clara_dicom_adapter.records.receptions import ReceptionRecords
from clara_dicom_adapter.records.resent import came_too_late
from clara_dicom_adapter.workflows.models import HeldNode, PinnedAeTitle, SubmissionInput

START = datetime(2024, 5, 1, 8, 0, tzinfo=UTC)
SLACK = timedelta(seconds=1)


@dataclass(frozen=True)
class Stored:
    association_id: str
    sop_instance_uid: str
    received_ns: int
    sequence: int = 1
    study_instance_uid: str = "1.2.3"
    series_instance_uid: str = "1.2.3.1"
    bytes: int = 100
    sop_class_uid: str = "1.2.840.10008.5.1.4.1.1.2"


def submitted(engine: Engine, name: str, uid: str, received: float, at: float, ae_title: str = "CLARA") -> None:
    """One instance received and submitted so many seconds after the start."""
    submission = SubmissionInput(
        submission_id=name,
        ae=PinnedAeTitle(ae_title=ae_title, name=ae_title, processor="ae-title"),
        calling_ae_title="CT1",
        nodes=(HeldNode(node_id="n1", instances=1, bytes=100),),
        instances=1,
        received_by=f"receive-{name}",
    )
    stored = Stored(f"association-{name}", uid, int((START.timestamp() + received) * 1e9))
    records = ReceptionRecords(engine, clock=lambda: START + timedelta(seconds=at))
    records.restored(submission, "n1", [stored])


@pytest.mark.parametrize(
    ("again", "too_late"),
    [
        (20.0, True),
        (9.5, True),  # its batch was made after the group had closed
        (5.0, False),
    ],
)
def test_an_instance_that_comes_again(engine: Engine, again: float, *, too_late: bool) -> None:
    submitted(engine, "first", "1.2.3.4", received=1, at=10)
    submitted(engine, "second", "1.2.3.4", received=again, at=30)
    assert came_too_late(engine, "CLARA", {"1.2.3.4"}, SLACK) == ({"1.2.3.4"} if too_late else set())


def test_every_further_submission_has_to_be_explained(engine: Engine) -> None:
    submitted(engine, "first", "1.2.3.4", received=1, at=10)
    submitted(engine, "second", "1.2.3.4", received=20, at=30)
    submitted(engine, "third", "1.2.3.4", received=21, at=31)
    assert came_too_late(engine, "CLARA", {"1.2.3.4"}, SLACK) == set()


def test_another_ae_title_and_another_instance_do_not_count(engine: Engine) -> None:
    submitted(engine, "first", "1.2.3.4", received=5, at=10, ae_title="OTHER")
    submitted(engine, "second", "1.2.3.4", received=2, at=11)
    assert came_too_late(engine, "CLARA", {"1.2.3.4", "1.2.3.5"}, SLACK) == {"1.2.3.4"}
