"""Alembic migrations: expand, backfill, contract; they never drop what a running older version still reads."""
