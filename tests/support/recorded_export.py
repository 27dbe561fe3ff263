"""An export in the records: it has failed, and waits for a person."""

from dataclasses import dataclass

from sqlalchemy import Engine

from clara_dicom_adapter.records.exports import ExportRecords, ResultObject

TASK_ID = "0b6a8a0e-6f7c-4b8e-9a55-2f6f7c1d2e3f"


@dataclass(frozen=True)
class Task:
    task_id: str = TASK_ID
    job_id: str = "job-1"
    pipeline_id: str = "P1"
    payload_id: str = "payload-1"
    parameters: str = '["PACS", "ARCHIVE"]'
    retries: int = 3
    uris: tuple[str, ...] = ("/output/1.dcm", "/output/2.dcm")


@dataclass(frozen=True)
class Result:
    index: int
    verdict: str = "stored"
    status: int | None = 0
    reason: str = ""
    comment: str = ""

    @property
    def delivered(self) -> bool:
        return self.verdict == "stored"


def record(engine: Engine) -> None:
    """One of two objects was refused by the PACS; the archive has both."""
    exports = ExportRecords(engine)
    exports.offer("ClaraSCU", Task(), 0)
    exports.save_objects(TASK_ID, [ResultObject(0, "1.2.1", "1.2", "1.2"), ResultObject(1, "1.2.2", "1.2", "1.2")])
    exports.save_results(TASK_ID, "PACS", [Result(0), Result(1, "refused", 0xA900, "status A900", "no such class")])
    exports.save_results(TASK_ID, "ARCHIVE", [Result(0), Result(1)])
    exports.reported(TASK_ID, 1, success=False, retry_later=False, accepted=True, message="PACS: 1 of 2 not stored")
    exports.note(TASK_ID, "NeedsAttention", "PACS: 1 of 2 not stored")
