"""How many associations a destination may have, its TLS, and what peers say of an object they refuse;
DICOMweb destinations."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("destination", sa.Column("maximum_associations", sa.Integer(), nullable=False, server_default="2"))
    op.add_column("destination", sa.Column("tls", sa.JSON(), nullable=True))
    op.add_column("export_object", sa.Column("comment", sa.String(length=64), nullable=False, server_default=""))
    op.create_table(
        "web_destination",
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("name_key", sa.String(length=128), nullable=False),
        sa.Column("url", sa.String(length=500), nullable=False),
        sa.Column("authentication", sa.JSON(), nullable=True),
        sa.Column("tls", sa.JSON(), nullable=True),
        sa.Column("maximum_requests", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_web_destination")),
        sa.UniqueConstraint("name_key", name=op.f("uq_web_destination_name_key")),
    )
