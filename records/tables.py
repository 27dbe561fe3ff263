"""The tables of the records: what has been received, submitted and exported, enough to follow an object all the way.

Rows hold UIDs, because tracing by them is their purpose, but no other patient attribute and no text of a peer's.
"""

from datetime import datetime

from sqlalchemy import BigInteger, Index, Integer, MetaData, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from clara_dicom_adapter.configuration.tables import Base

METADATA: MetaData = Base.metadata
"""Of every table, the configuration's too."""

# SQLite counts rows by itself only in a column of exactly this type
_RowNumber = BigInteger().with_variant(Integer, "sqlite")


class SiteSecretRow(Base):
    __tablename__ = "site_secret"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    secret: Mapped[str] = mapped_column(String(64))


class AssociationRow(Base):
    __tablename__ = "association"

    association_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    node_id: Mapped[str] = mapped_column(String(64))
    calling_ae_title: Mapped[str] = mapped_column(String(64))
    called_ae_title: Mapped[str] = mapped_column(String(64), index=True)
    peer: Mapped[str] = mapped_column(String(255))
    started_at: Mapped[datetime] = mapped_column(index=True)
    ended_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(String(20), index=True)
    """``open``, ``rejected``, or its outcome."""
    instances: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)
    failed: Mapped[int]
    refused: Mapped[int]
    ignored: Mapped[int]
    reject_result: Mapped[int | None]
    reject_source: Mapped[int | None]
    reject_reason: Mapped[int | None]
    reason: Mapped[str] = mapped_column(Text)


class InstanceRow(Base):
    __tablename__ = "instance"

    association_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    node_id: Mapped[str] = mapped_column(String(64))
    received_ns: Mapped[int] = mapped_column(BigInteger)
    """Nanoseconds since the epoch."""
    sop_class_uid: Mapped[str] = mapped_column(String(64))
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    owner: Mapped[str | None] = mapped_column(String(200), index=True)
    """Whose it is: a reception's or a submission's id."""
    reception_id: Mapped[str | None] = mapped_column(String(200), index=True)
    """The group that claimed it first."""
    submission_id: Mapped[str | None] = mapped_column(String(160), index=True)


class ReceptionRow(Base):
    __tablename__ = "reception"

    reception_id: Mapped[str] = mapped_column(String(200), primary_key=True)
    workflow_id: Mapped[str] = mapped_column(String(160), index=True)
    run_id: Mapped[str] = mapped_column(String(64))
    group_number: Mapped[int]
    called_ae_title: Mapped[str] = mapped_column(String(16), index=True)
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(20), index=True)
    instances: Mapped[int]
    bytes: Mapped[int] = mapped_column(BigInteger)
    incomplete: Mapped[bool]
    reason: Mapped[str] = mapped_column(Text)
    opened_at: Mapped[datetime] = mapped_column(index=True)
    changed_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    submission_id: Mapped[str | None] = mapped_column(String(160), index=True)
    merged_into: Mapped[str | None] = mapped_column(String(200))


class SubmissionRow(Base):
    __tablename__ = "submission"

    submission_id: Mapped[str] = mapped_column(String(160), primary_key=True)
    called_ae_title: Mapped[str] = mapped_column(String(16), index=True)
    calling_ae_title: Mapped[str] = mapped_column(String(16))
    received_by: Mapped[str] = mapped_column(String(160))
    state: Mapped[str] = mapped_column(String(24), index=True)
    instances: Mapped[int]
    incomplete: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(index=True)
    changed_at: Mapped[datetime]


class SubmissionJobRow(Base):
    __tablename__ = "submission_job"

    submission_id: Mapped[str] = mapped_column(String(160), primary_key=True)
    job_key: Mapped[str] = mapped_column(String(128), primary_key=True)
    pipeline: Mapped[str] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(24), index=True)
    """How far its submission is with it; of one that has ended on the platform, how it ended."""
    job_id: Mapped[str] = mapped_column(String(64), index=True)
    payload_id: Mapped[str] = mapped_column(String(64), index=True)
    job_name: Mapped[str] = mapped_column(String(128))
    creating: Mapped[bool]
    """Create has been called, or is about to be: the job may exist although its id is not known here."""
    started: Mapped[bool]
    instances: Mapped[int]
    message: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    """When it ended on the platform, after it was started."""


class SelectionRow(Base):
    """Which instances make up a job; jobs of a submission may share a selection."""

    __tablename__ = "selection"

    submission_id: Mapped[str] = mapped_column(String(160), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    node_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    association_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class HeldGroupRow(Base):
    """An interrupted group that waits for its sender; ``held`` becomes ``merged`` or ``expired``, once."""

    __tablename__ = "held_group"

    workflow_id: Mapped[str] = mapped_column(String(160), primary_key=True)
    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    group_number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sender_key: Mapped[str] = mapped_column(String(64), index=True)
    studies: Mapped[list[str]]
    """Keyed hashes of its study instance UIDs."""
    nodes: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    merged_workflow_id: Mapped[str | None] = mapped_column(String(160))
    merged_run_id: Mapped[str | None] = mapped_column(String(64))
    merged_group_number: Mapped[int | None]
    held_at: Mapped[datetime]


class ExportRow(Base):
    __tablename__ = "export"

    task_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    agent: Mapped[str] = mapped_column(String(64), index=True)
    job_id: Mapped[str] = mapped_column(String(64), index=True)
    pipeline_id: Mapped[str] = mapped_column(String(64))
    payload_id: Mapped[str] = mapped_column(String(64), index=True)
    parameters: Mapped[str] = mapped_column(Text)
    uris: Mapped[list[str]]
    retries: Mapped[int]
    offer: Mapped[int]
    """Counts the times the Results Service offered it; a new one begins after the report of the last was confirmed."""
    open: Mapped[bool] = mapped_column(index=True)
    """Whether the report of the newest offer is still outstanding."""
    report_mark: Mapped[int]
    """What the counter of confirmed reports stood at when the last one was confirmed; 0 before."""
    state: Mapped[str] = mapped_column(String(24), index=True)
    message: Mapped[str] = mapped_column(Text)
    success: Mapped[bool | None]
    retry_later: Mapped[bool | None]
    accepted: Mapped[bool | None]
    """Whether the Results Service took the last report."""
    offered_at: Mapped[datetime] = mapped_column(index=True)
    changed_at: Mapped[datetime]
    reported_at: Mapped[datetime | None]


class ExportObjectRow(Base):
    """The newest result of one object for one destination; one that was delivered stays delivered."""

    __tablename__ = "export_object"

    task_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    destination: Mapped[str] = mapped_column(String(63), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Place in the task's list of uris, from 0; below: of one that an earlier offer named, and the newest does not."""
    delivered: Mapped[bool]
    verdict: Mapped[str] = mapped_column(String(24))
    status: Mapped[int | None]
    """DIMSE status of the C-STORE-RSP."""
    reason: Mapped[str] = mapped_column(Text)
    comment: Mapped[str] = mapped_column(String(64))
    """Error Comment of the C-STORE-RSP, the peer's own words."""
    at: Mapped[datetime]


class ResultObjectRow(Base):
    """Which object a file of a task is; known of those that have been downloaded."""

    __tablename__ = "result_object"

    task_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """As above."""
    sop_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    study_instance_uid: Mapped[str] = mapped_column(String(64), index=True)
    series_instance_uid: Mapped[str] = mapped_column(String(64), index=True)


class EventRow(Base):
    """One line of a timeline: something changed its state."""

    __tablename__ = "event"

    number: Mapped[int] = mapped_column(_RowNumber, primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str] = mapped_column(String(16))
    """``reception``, ``submission``, ``job`` or ``export``."""
    subject: Mapped[str] = mapped_column(String(300))
    """Its id; of a job, ``<submission id>/<key>``."""
    what: Mapped[str] = mapped_column(String(32))
    text: Mapped[str] = mapped_column(Text)

    __table_args__ = (Index("ix_event_kind_subject", "kind", "subject"),)
