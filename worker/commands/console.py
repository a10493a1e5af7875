"""What every command shares: settings, output and failures.

Input: options and what a command found. Output: a table for people or one JSON document for programs on standard
output. On failure: `fail` and `wrong_usage` print one clear message on standard error and end with exit code 1 or 2.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from worker.db.sessions import Database
    from worker.settings import Settings

FAILED, WRONG_USAGE = 1, 2

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="settings file [default: dicom-worker.yaml, if it is there]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document, and nothing else")]


def out() -> Console:
    """Return the console for what a command was asked for; wide when it is not a terminal, so that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 160, highlight=False, soft_wrap=False)


def note(message: str) -> None:
    """Say something that is not the answer (standard error, so that `--json` stays clean)."""
    typer.echo(message, err=True)


def fail(message: str) -> NoReturn:
    """End with exit code 1: asked correctly, but it did not work."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(FAILED)


def wrong_usage(message: str) -> NoReturn:
    """End with exit code 2: wrong usage or configuration."""
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(WRONG_USAGE)


def print_json(document: Any) -> None:
    """Print one JSON document on standard output."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))


def table(*columns: str, rows: list[list[str]], title: str | None = None) -> Table:
    """Return a table of plain text (no markup: values come from outside and may hold brackets)."""
    made = Table(title=title, title_justify="left", show_lines=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text(value) for value in row))
    return made


def read_settings(config: Path | None) -> Settings:
    """Return the settings, or end with exit code 2 and the reason; from here on only warnings are logged."""
    from worker.log import configure_logging
    from worker.settings import SettingsError, load_settings

    try:
        settings = load_settings(config)
    except SettingsError as error:
        wrong_usage(str(error))
    configure_logging(settings.log.model_copy(update={"level": "warning"}), "cli")
    return settings


@contextmanager
def ledger(settings: Settings) -> Iterator[Database]:
    """Open the database of a running (or stopped) daemon.

    A database that is not there, out of reach or of another version's schema ends with exit code 1 and the remedy.
    """
    from sqlalchemy.exc import SQLAlchemyError

    from worker.db.schema import is_current
    from worker.db.sessions import Database

    url = settings.resolved_database_url
    shown = hide_password(url)
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file():
        fail(f"there is no database at {shown}: start the daemon, or give its settings file with --config")
    database = Database(url)
    try:
        if not is_current(database):
            fail(f"the database {shown} has another version's schema: run `dicom-worker db upgrade`")
        yield database
    except SQLAlchemyError as error:
        fail(f"the database {shown} cannot be used: {_first_line(error)}")
    finally:
        database.close()


def hide_password(url: str) -> str:
    """Return a URL that can be shown."""
    from urllib.parse import urlsplit, urlunsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    if not parts.password:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@", 1)))


def _first_line(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
