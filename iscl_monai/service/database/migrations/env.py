"""Run by alembic; the connection is handed over by :func:`iscl_monai.service.database.migrate.migrate`."""

from alembic import context

from iscl_monai.service.database.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
