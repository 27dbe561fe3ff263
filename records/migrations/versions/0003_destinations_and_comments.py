"""How many associations a destination may have, its TLS, and what peers say of an object they refuse."""

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
