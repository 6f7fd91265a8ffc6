"""Runs the migrations inside the transaction that `registry.schema` holds open: all of them take effect, or none."""

from __future__ import annotations

from alembic import context

from model_store_tools.registry.schema import VERSION_TABLE
from model_store_tools.registry.tables import whole_metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=whole_metadata(),
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
