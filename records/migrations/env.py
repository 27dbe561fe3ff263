"""Alembic's entry: runs the migrations on the connection that ``records.database`` passes in."""

from alembic import context

from clara_dicom_adapter.records.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
