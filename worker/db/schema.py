"""Bring a database to the schema of this version (Alembic), and tell whether it is there."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

import migrations
from worker.db import (  # noqa: F401 - their tables are part of the schema
    announcements,
    commitment_records,
    owed_messages,
    people,
    process_reports,
    refusals,
    review_records,
    study_terms,
)
from worker.db.sessions import Database


def alembic_config(database: Database) -> Config:
    """Return what Alembic's commands need to work on this database."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["database"] = database
    return config


def upgrade(database: Database) -> None:
    """Run the migrations that are missing. Safe to call from several processes at once: they take turns."""
    command.upgrade(alembic_config(database), "head")


def is_current(database: Database) -> bool:
    """Return whether the database has the schema that this version expects."""
    head = ScriptDirectory.from_config(alembic_config(database)).get_current_head()
    with database.engine.connect().execution_options(read_only=True) as connection:
        return MigrationContext.configure(connection).get_current_revision() == head
