"""What the tables are made of: times, states as text, and values that a row takes over from its documents."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Enum, TypeDecorator
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.default import DefaultExecutionContext
from sqlalchemy.orm import DeclarativeBase

from worker.db.identity import name_key


def utc_now() -> datetime:
    """Return the time now, aware, in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """Aware datetimes in, aware UTC datetimes out; SQLite, which has no zones, keeps them as naive UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive times, store UTC."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"naive datetime {value!r}: the database takes aware times only")
        in_utc = value.astimezone(UTC)
        return in_utc.replace(tzinfo=None) if dialect.name == "sqlite" else in_utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware time."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def state_column(enum: type[Any]) -> Enum:
    """Keep an enum by value as text, so that a new state needs no type migration."""
    return Enum(enum, native_enum=False, length=32, values_callable=lambda members: [m.value for m in members])


class Record(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, datetime: UtcDateTime}  # noqa: RUF012


def probability_of(confidence: Any) -> float | None:
    """Return the probability in a stored `Confidence`, by which lists are sorted without reading it."""
    return confidence.get("probability") if isinstance(confidence, dict) else None


def seconds_of(generation: Any) -> float | None:
    """Return the seconds in a stored `Generation`."""
    return generation.get("elapsed_s") if isinstance(generation, dict) else None


def given_probability(context: DefaultExecutionContext) -> float | None:
    """Take a new row's probability over from its confidence."""
    return probability_of(_given(context, "confidence"))


def given_seconds(context: DefaultExecutionContext) -> float | None:
    """Take a new row's seconds over from its generation."""
    return seconds_of(_given(context, "generation"))


def given_parsed(context: DefaultExecutionContext) -> bool | None:
    """Tell of a new row whether its answer was understood."""
    return True if isinstance(_given(context, "findings"), dict) else None


def given_name_key(context: DefaultExecutionContext) -> str:
    """Return what a new entry's name is compared by."""
    return name_key(_given(context, "reviewer_name") or "")


def _given(context: DefaultExecutionContext, column: str) -> Any:
    return context.get_current_parameters().get(column)  # type: ignore[no-untyped-call]
