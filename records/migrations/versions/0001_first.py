"""Configuration and records, as of the first version."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "association",
        sa.Column("association_id", sa.String(length=64), nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=64), nullable=False),
        sa.Column("called_ae_title", sa.String(length=64), nullable=False),
        sa.Column("peer", sa.String(length=255), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=False),
        sa.Column("ended_at", sa.DateTime(), nullable=True),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("ignored", sa.Integer(), nullable=False),
        sa.Column("reject_result", sa.Integer(), nullable=True),
        sa.Column("reject_source", sa.Integer(), nullable=True),
        sa.Column("reject_reason", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("association_id", name=op.f("pk_association")),
    )
    op.create_index(op.f("ix_association_called_ae_title"), "association", ["called_ae_title"], unique=False)
    op.create_index(op.f("ix_association_started_at"), "association", ["started_at"], unique=False)
    op.create_index(op.f("ix_association_state"), "association", ["state"], unique=False)
    op.create_table(
        "claraaetitle",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("overwrite_same_instance", sa.Boolean(), nullable=False),
        sa.Column("ignored_sop_classes", sa.JSON(), nullable=False),
        sa.Column("allowed_sources", sa.JSON(), nullable=False),
        sa.Column("processor", sa.String(), nullable=False),
        sa.Column("processor_settings", sa.JSON(), nullable=False),
        sa.Column("interrupted", sa.String(length=16), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_claraaetitle")),
        sa.UniqueConstraint("ae_title", name=op.f("uq_claraaetitle_ae_title")),
    )
    op.create_table(
        "counter",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counter")),
    )
    op.create_table(
        "destination",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("name_key", sa.String(length=128), nullable=False),
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("host_ip", sa.String(length=253), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_destination")),
        sa.UniqueConstraint("name_key", name=op.f("uq_destination_name_key")),
    )
    op.create_table(
        "event",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("what", sa.String(length=32), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_event")),
    )
    op.create_index("ix_event_kind_subject", "event", ["kind", "subject"], unique=False)
    op.create_table(
        "export",
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("pipeline_id", sa.String(length=64), nullable=False),
        sa.Column("payload_id", sa.String(length=64), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("uris", sa.JSON(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("offer", sa.Integer(), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("report_mark", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("success", sa.Boolean(), nullable=True),
        sa.Column("retry_later", sa.Boolean(), nullable=True),
        sa.Column("accepted", sa.Boolean(), nullable=True),
        sa.Column("offered_at", sa.DateTime(), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
        sa.Column("reported_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_export")),
    )
    op.create_index(op.f("ix_export_agent"), "export", ["agent"], unique=False)
    op.create_index(op.f("ix_export_job_id"), "export", ["job_id"], unique=False)
    op.create_index(op.f("ix_export_offered_at"), "export", ["offered_at"], unique=False)
    op.create_index(op.f("ix_export_open"), "export", ["open"], unique=False)
    op.create_index(op.f("ix_export_payload_id"), "export", ["payload_id"], unique=False)
    op.create_index(op.f("ix_export_state"), "export", ["state"], unique=False)
    op.create_table(
        "export_object",
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=63), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("delivered", sa.Boolean(), nullable=False),
        sa.Column("verdict", sa.String(length=24), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "destination", "number", name=op.f("pk_export_object")),
    )
    op.create_table(
        "held_group",
        sa.Column("workflow_id", sa.String(length=160), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("group_number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sender_key", sa.String(length=64), nullable=False),
        sa.Column("studies", sa.JSON(), nullable=False),
        sa.Column("nodes", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("merged_workflow_id", sa.String(length=160), nullable=True),
        sa.Column("merged_run_id", sa.String(length=64), nullable=True),
        sa.Column("merged_group_number", sa.Integer(), nullable=True),
        sa.Column("held_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("workflow_id", "run_id", "group_number", name=op.f("pk_held_group")),
    )
    op.create_index(op.f("ix_held_group_sender_key"), "held_group", ["sender_key"], unique=False)
    op.create_table(
        "instance",
        sa.Column("association_id", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("received_ns", sa.BigInteger(), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(length=200), nullable=True),
        sa.Column("reception_id", sa.String(length=200), nullable=True),
        sa.Column("submission_id", sa.String(length=160), nullable=True),
        sa.PrimaryKeyConstraint("association_id", "sequence", name=op.f("pk_instance")),
    )
    op.create_index(op.f("ix_instance_owner"), "instance", ["owner"], unique=False)
    op.create_index(op.f("ix_instance_reception_id"), "instance", ["reception_id"], unique=False)
    op.create_index(op.f("ix_instance_series_instance_uid"), "instance", ["series_instance_uid"], unique=False)
    op.create_index(op.f("ix_instance_sop_instance_uid"), "instance", ["sop_instance_uid"], unique=False)
    op.create_index(op.f("ix_instance_study_instance_uid"), "instance", ["study_instance_uid"], unique=False)
    op.create_index(op.f("ix_instance_submission_id"), "instance", ["submission_id"], unique=False)
    op.create_table(
        "reception",
        sa.Column("reception_id", sa.String(length=200), nullable=False),
        sa.Column("workflow_id", sa.String(length=160), nullable=False),
        sa.Column("run_id", sa.String(length=64), nullable=False),
        sa.Column("group_number", sa.Integer(), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("incomplete", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("opened_at", sa.DateTime(), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
        sa.Column("closed_at", sa.DateTime(), nullable=True),
        sa.Column("submission_id", sa.String(length=160), nullable=True),
        sa.Column("merged_into", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("reception_id", name=op.f("pk_reception")),
    )
    op.create_index(op.f("ix_reception_called_ae_title"), "reception", ["called_ae_title"], unique=False)
    op.create_index(op.f("ix_reception_opened_at"), "reception", ["opened_at"], unique=False)
    op.create_index(op.f("ix_reception_state"), "reception", ["state"], unique=False)
    op.create_index(op.f("ix_reception_submission_id"), "reception", ["submission_id"], unique=False)
    op.create_index(op.f("ix_reception_workflow_id"), "reception", ["workflow_id"], unique=False)
    op.create_table(
        "selection",
        sa.Column("submission_id", sa.String(length=160), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("node_id", sa.String(length=64), nullable=False),
        sa.Column("association_id", sa.String(length=64), nullable=False),
        sa.Column("sequence", sa.Integer(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint(
            "submission_id", "name", "node_id", "association_id", "sequence", name=op.f("pk_selection")
        ),
    )
    op.create_table(
        "site_secret",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("secret", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site_secret")),
    )
    op.create_table(
        "source",
        sa.Column("ae_title", sa.String(length=16), nullable=False),
        sa.Column("host_ip", sa.String(length=253), nullable=False),
        sa.PrimaryKeyConstraint("ae_title", "host_ip", name=op.f("pk_source")),
    )
    op.create_table(
        "submission",
        sa.Column("submission_id", sa.String(length=160), nullable=False),
        sa.Column("called_ae_title", sa.String(length=16), nullable=False),
        sa.Column("calling_ae_title", sa.String(length=16), nullable=False),
        sa.Column("received_by", sa.String(length=160), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("incomplete", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("submission_id", name=op.f("pk_submission")),
    )
    op.create_index(op.f("ix_submission_called_ae_title"), "submission", ["called_ae_title"], unique=False)
    op.create_index(op.f("ix_submission_created_at"), "submission", ["created_at"], unique=False)
    op.create_index(op.f("ix_submission_state"), "submission", ["state"], unique=False)
    op.create_table(
        "submission_job",
        sa.Column("submission_id", sa.String(length=160), nullable=False),
        sa.Column("job_key", sa.String(length=128), nullable=False),
        sa.Column("pipeline", sa.String(length=255), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("payload_id", sa.String(length=64), nullable=False),
        sa.Column("job_name", sa.String(length=128), nullable=False),
        sa.Column("creating", sa.Boolean(), nullable=False),
        sa.Column("started", sa.Boolean(), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("submission_id", "job_key", name=op.f("pk_submission_job")),
    )
    op.create_index(op.f("ix_submission_job_job_id"), "submission_job", ["job_id"], unique=False)
    op.create_index(op.f("ix_submission_job_payload_id"), "submission_job", ["payload_id"], unique=False)
    op.create_index(op.f("ix_submission_job_state"), "submission_job", ["state"], unique=False)
    counter = sa.table("counter", sa.column("name", sa.String), sa.column("value", sa.Integer))
    op.bulk_insert(counter, [{"name": "configuration", "value": 0}, {"name": "reports", "value": 0}])
