"""Fixtures for tests of the steps: each test that takes `database` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from tests.schema import upgraded
from worker.db.sessions import Database


@pytest.fixture(scope="session", autouse=True)
def plain_tracebacks() -> Iterator[None]:
    """Log tracebacks as the daemon does: without the values of variables, which are slow to print and private."""
    renderer = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[structlog.processors.add_log_level, renderer])
    yield
    structlog.reset_defaults()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The SQLAlchemy URL of an empty database, once of each kind."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The SQLAlchemy URL of an empty SQLite database, where the kind of database says nothing."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the schema of this version, once of each kind."""
    opened = Database(database_url)
    upgraded(opened)
    yield opened
    opened.close()
