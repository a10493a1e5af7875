"""Alembic's entry: one connection, one transaction, one process at a time."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from worker.db.records import Record
from worker.db.sessions import Database

#: Any number that no other user of the database takes: the advisory lock of the migrations.
MIGRATION_LOCK = 0x0D1C0


def run() -> None:
    """Run the migrations on the database that `worker.db.schema` hands over."""
    database: Database = context.config.attributes["database"]
    with database.engine.connect() as connection, connection.begin():
        if database.is_sqlite:
            pass  # BEGIN IMMEDIATE already makes processes take turns
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            # A migration that cannot get its table lock gives up instead of stopping the hospital's traffic.
            connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        context.configure(connection=connection, target_metadata=Record.metadata, render_as_batch=database.is_sqlite)
        context.run_migrations()


run()
