"""`db upgrade`: bring the database to this version's schema.

Input: the settings. Output: the tables, made or migrated. A database that cannot be reached ends with exit code 1.
"""

from __future__ import annotations

import typer

from worker.commands.console import ConfigOption, fail, hide_password, out, read_settings

app = typer.Typer(help="The database.", no_args_is_help=True)


@app.callback()
def database() -> None:
    """The database."""


@app.command()
def upgrade(config: ConfigOption = None) -> None:
    """Make or migrate the tables (the daemon does it at start; this is for doing it beforehand)."""
    from sqlalchemy.exc import SQLAlchemyError

    from worker.db import schema
    from worker.db.sessions import Database

    settings = read_settings(config)
    shown = hide_password(settings.resolved_database_url)
    try:
        database = Database(settings.resolved_database_url)
        schema.upgrade(database)
        database.close()
    except (SQLAlchemyError, OSError) as error:
        fail(f"the database {shown} cannot be upgraded: {str(error).splitlines()[0]}")
    out().print(f"{shown} has this version's schema", markup=False)
