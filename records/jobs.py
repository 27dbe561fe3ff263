"""What became of jobs after they were started: which ones still run, as far as is known, and how the others ended."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Engine, select, update

from clara_dicom_adapter.configuration.tables import reading
from clara_dicom_adapter.records.tables import SubmissionJobRow
from clara_dicom_adapter.records.texts import bounded
from clara_dicom_adapter.records.upsert import Clock, event, now
from clara_dicom_adapter.workflows.models import JobOutcome


class JobEnd(StrEnum):
    """How a started job ended: the platform's status of a stopped job (clara-wire, section 3)."""

    COMPLETED = "completed"
    """HEALTHY while STOPPED."""
    FAULTED = "faulted"
    CANCELED = "canceled"
    EVICTED = "evicted"
    TERMINATED = "terminated"
    UNKNOWN = "unknown"
    """The platform does not say, or does not know the job any more."""


@dataclass(frozen=True)
class RunningJob:
    """A job that was started and whose end is not recorded."""

    submission_id: str
    key: str
    job_id: str


class JobRecords:
    """Written by whoever follows jobs on the platform; every call may be repeated."""

    def __init__(self, engine: Engine, clock: Clock = now) -> None:
        self._engine = engine
        self._clock = clock

    def running(self, limit: int | None = None) -> list[RunningJob]:
        """Jobs whose end is not known, those that were started first coming first.

        Args:
            limit: At most so many; none: all.
        """
        row = SubmissionJobRow
        statement = (
            select(row.submission_id, row.job_key, row.job_id)
            .where(row.state == JobOutcome.STARTED.value, row.job_id != "")
            .order_by(row.changed_at)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [RunningJob(*found) for found in connection.execute(statement)]

    def ended(self, job: RunningJob, end: JobEnd, message: str, stopped: datetime | None) -> bool:
        """A job has ended; False when that was recorded before, or it is another job by now.

        Args:
            stopped: When, by the platform's clock, in whole seconds; not believed when it is before the start was
                recorded, or has not come yet.
        """
        row = SubmissionJobRow
        mine = (row.submission_id == job.submission_id, row.job_key == job.key, row.job_id == job.job_id)
        with self._engine.begin() as connection:
            started_at = connection.scalar(select(row.changed_at).where(*mine, row.state == JobOutcome.STARTED.value))
            if started_at is None:
                return False
            at = self._clock()
            ended_at = min(max(stopped or at, started_at), at)
            connection.execute(
                update(row)
                .where(*mine)
                .values(state=end.value, message=bounded(message), ended_at=ended_at, changed_at=at)
            )
            subject = f"{job.submission_id}/{job.key}"
            event(connection, ended_at, kind="job", subject=subject, what=end.value, text=message)
        return True
