"""Alembic's entry: one connection, one transaction, one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context
from sqlalchemy import Connection, text

from worker.db.columns import Record
from worker.db.sessions import Database

#: Any number that no other user of the database takes: the advisory lock of the migrations.
MIGRATION_LOCK = 0x0D1C0


def run() -> None:
    """Run the migrations on the database that `worker.db.schema` hands over."""
    database: Database = context.config.attributes["database"]
    with database.engine.connect() as connection, _tables_can_be_replaced(database, connection), connection.begin():
        # On SQLite, BEGIN IMMEDIATE already makes processes take turns.
        if not database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
            # A migration that cannot get its table lock gives up instead of stopping the hospital's traffic.
            connection.execute(text("SET LOCAL lock_timeout = '10s'"))
        context.configure(connection=connection, target_metadata=Record.metadata, render_as_batch=database.is_sqlite)
        context.run_migrations()
        if database.is_sqlite and (broken := connection.execute(text("PRAGMA foreign_key_check")).all()):
            raise RuntimeError(
                f"the migration would leave rows without their parents, nothing was changed: {broken[:5]}"
            )


@contextmanager
def _tables_can_be_replaced(database: Database, connection: Connection) -> Iterator[None]:
    """SQLite changes a column by making the table anew; while it is gone, rows that refer to it must not mind."""
    if not database.is_sqlite:
        yield
        return
    raw = connection.connection.cursor()
    # Without effect inside a transaction (https://sqlite.org/pragma.html#pragma_foreign_keys): before the first.
    raw.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        raw.execute("PRAGMA foreign_keys = ON")
        raw.close()


run()
