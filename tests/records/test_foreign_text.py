"""What peers and services say is stored as far as both databases can, and never in the way of anything else."""

from dataclasses import dataclass

import pytest
from sqlalchemy import Engine

from clara_dicom_adapter.records.exports import ExportRecords
from clara_dicom_adapter.records.listing import Filter, Listing, Subject

FOREIGN = "no\x00room\x1b[31m \ud800"
PLAIN = "no?room?[31m ?"


@dataclass(frozen=True)
class Task:
    task_id: str = "t-1"
    job_id: str = "a" * 32
    pipeline_id: str = "b" * 32
    payload_id: str = "c" * 32
    parameters: str = '"PACS"'
    retries: int = 0
    uris: tuple[str, ...] = ("a.dcm", "b.dcm")


@dataclass(frozen=True)
class Outcome:
    index: int
    comment: str
    reason: str
    verdict: str = "refused"
    status: int | None = 0xA700

    @property
    def delivered(self) -> bool:
        return self.verdict == "stored"


def test_a_peers_comment_may_hold_anything(engine: Engine) -> None:
    """And does not keep the results that come with it from being stored."""
    records = ExportRecords(engine)
    records.offer("ClaraSCU", Task(), 0)
    records.save_results(
        "t-1", "PACS", [Outcome(0, FOREIGN, FOREIGN), Outcome(1, "y" * 5000, "x" * 5000, verdict="stored")]
    )
    assert records.delivered("t-1", "PACS") == {1}
    first, second = Listing(engine).export_objects("t-1", Filter({})).items
    assert (first["comment"], first["reason"]) == (PLAIN, PLAIN)
    assert (len(second["comment"]), len(second["reason"])) == (64, 2000)


def test_a_message_may_hold_anything_and_keeps_its_lines(engine: Engine) -> None:
    records = ExportRecords(engine)
    records.offer("ClaraSCU", Task(), 0)
    records.note("t-1", "NeedsAttention", f"one\n{FOREIGN}")
    (export,) = Listing(engine).page(Subject.EXPORT, Filter({})).items
    assert export["message"] == f"one\n{PLAIN}"


@pytest.mark.parametrize(
    ("identifier", "stored"),
    [
        ("c" * 64, "c" * 64),
        ("c" * 65, "c" * 63 + "?"),  # nothing that another one's could be
        ("c" * 32 + "\x00", "c" * 32 + "??"),
        ("\ud800", "??"),
    ],
)
def test_a_task_with_an_id_that_cannot_be_one_is_stored_and_leads_nowhere(
    engine: Engine, identifier: str, stored: str
) -> None:
    records = ExportRecords(engine)
    task = Task(
        job_id=identifier,
        pipeline_id=identifier,
        payload_id=identifier,
        parameters=f'"{FOREIGN}"',
        retries=2**70,
        uris=(FOREIGN,),
    )
    for _ in range(2):
        assert records.offer("ClaraSCU", task, 0) == 1
    records.reported("t-1", 1, success=False, retry_later=True, accepted=True, message=FOREIGN)
    assert records.offer("ClaraSCU", task, records.report_mark()) == 2
    known = records.task("t-1")
    assert known is not None
    assert (known.job_id, known.pipeline_id, known.payload_id) == (stored, stored, stored)
    assert (known.parameters, known.uris) == (f'"{PLAIN}"', (PLAIN,))
    assert known.retries == 2**31 - 1
