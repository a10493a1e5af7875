"""An empty database gets the schema of this version at once: the migrations run once in a test run, then are copied.

A copy is what the migrations made, never what the records say; test_migrations compares the two.
"""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from worker.db.schema import upgrade
from worker.db.sessions import Database


def upgraded(database: Database) -> Database:
    """Bring a new database to the schema of this version, and return it."""
    if not database.is_sqlite:
        _copy_postgres(database.url)
        return database
    target = Path(database.engine.url.database or "")
    if target.exists():
        upgrade(database)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_sqlite_template(), target)
    return database


@cache
def _sqlite_template() -> Path:
    path = Path(tempfile.mkdtemp(prefix="dicom-worker-schema-")) / "ledger.db"
    template = Database(f"sqlite:///{path}")
    upgrade(template)
    template.close()
    return path


def _copy_postgres(url: str) -> None:
    """Make a database anew as a copy; nobody may be connected to it."""
    name = make_url(url).database
    template = _postgres_template(_beside(url, "template_of_this_version"))
    with psycopg.connect(_plain(_beside(url, "postgres")), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}"'.encode())
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'.encode())


@cache
def _postgres_template(url: str) -> str:
    name = str(make_url(url).database)
    with psycopg.connect(_plain(_beside(url, "postgres")), autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}"'.encode())
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    template = Database(url)
    upgrade(template)
    template.close()
    return name


def _beside(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def _plain(url: str) -> str:
    """Return the address as PostgreSQL's own library reads it."""
    return url.replace("postgresql+psycopg:", "postgresql:")
