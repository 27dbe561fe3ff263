"""How started jobs ended, and which objects their results are."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("submission_job", sa.Column("ended_at", sa.DateTime(), nullable=True))
    op.create_table(
        "result_object",
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("study_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("series_instance_uid", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "number", name=op.f("pk_result_object")),
    )
    for name in ("series_instance_uid", "sop_instance_uid", "study_instance_uid"):
        op.create_index(op.f(f"ix_result_object_{name}"), "result_object", [name], unique=False)
