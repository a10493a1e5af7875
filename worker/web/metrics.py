"""Database -> Prometheus gauges, counted afresh at every scrape: the same numbers whichever process is asked.

Input: rows. Output: metric families. A database that cannot be read raises, and the scrape fails: no number is better
than an old one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from worker.db.columns import utc_now
from worker.db.records import Delivery, Instance, Job, Result, Series, Study
from worker.db.sessions import Database
from worker.states import DeliveryState, InstanceState, JobState, SeriesState

PREFIX = "dicom_worker"


class LedgerCollector(Collector):
    """Counts what the ledger holds."""

    def __init__(self, database: Database) -> None:
        """Count in this database."""
        self._database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield all families, from one snapshot."""
        with self._database.reading() as session:
            yield _total(session, "studies", "Studies received", Study.id)
            yield _by_state(session, "instances", "SOP instances by state", Instance, InstanceState)
            yield _by_state(session, "series", "Series by state", Series, SeriesState)
            yield _by_name_and_state(session, "jobs", "Jobs by adapter and state", Job, "adapter", JobState)
            yield _by_name_and_state(
                session, "deliveries", "Deliveries by destination and state", Delivery, "destination", DeliveryState
            )
            yield from _ages(session)


def _total(session: Session, name: str, text: str, column: Any) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=session.scalar(select(func.count(column))) or 0)


def _by_state(session: Session, name: str, text: str, table: Any, states: Any) -> GaugeMetricFamily:
    """Count rows by state; states that no row is in are there with 0, so that an alert can rely on them."""
    rows = session.execute(select(table.state, func.count()).group_by(table.state))
    counted = {state: count for state, count in rows}  # noqa: C416 - a result is iterable, but no mapping's argument
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["state"])
    for state in states:
        family.add_metric([state.value], counted.get(state, 0))
    return family


def _by_name_and_state(
    session: Session, name: str, text: str, table: Any, column: str, states: Any
) -> GaugeMetricFamily:
    named = getattr(table, column)
    rows = session.execute(select(named, table.state, func.count()).group_by(named, table.state))
    counted = {(who, state): count for who, state, count in rows}
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=[column, "state"])
    for who in sorted({who for who, _ in counted}):
        for state in states:
            family.add_metric([who, state.value], counted.get((who, state), 0))
    return family


def _ages(session: Session) -> Iterator[GaugeMetricFamily]:
    waiting = {
        "inference": select(func.min(Job.created_at)).where(Job.state == JobState.QUEUED),
        "review": select(func.min(Job.answered_at)).where(Job.state == JobState.HELD),
        "delivery": select(func.min(Result.created_at))
        .join(Delivery, Delivery.result_id == Result.id)
        .where(Delivery.state.in_((DeliveryState.PENDING, DeliveryState.SENDING))),
    }
    family = GaugeMetricFamily(
        f"{PREFIX}_queue_age_seconds", "Seconds the oldest entry of a queue has been waiting", labels=["queue"]
    )
    for queue, oldest in waiting.items():
        family.add_metric([queue], _age_s(session.scalar(oldest)))
    yield family


def _age_s(since: datetime | None) -> float:
    return max(0.0, (utc_now() - since).total_seconds()) if since else 0.0
