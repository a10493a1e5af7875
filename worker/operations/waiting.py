"""What waits for a destination: since when, until when, and what went wrong with it last.

Input: the ledger, each time a few rows of one destination. Output: times and words. Pages, the API and the remarks on
the pipeline say the same of it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.status import Outcome
from worker.db.columns import utc_now
from worker.db.records import Delivery, Result
from worker.states import DeliveryState

ON_THE_WAY = (DeliveryState.PENDING, DeliveryState.SENDING)
#: Waiting deliveries that are looked at for what went wrong last: the senders try the oldest first.
LOOKED_AT = 200
#: How an outcome in one line begins (`dicom_node.scu.StoreOutcome.message`); the state of a delivery says it already.
_KINDS = tuple(f"{kind}: " for kind in Outcome)
#: How an operating system's error begins in Python.
_ERRNO = re.compile(r"\[Errno -?\d+\] ")
#: State -> how many deliveries are in it, and the oldest of them.
Counts = Mapping[DeliveryState, tuple[int, int | None]]


def counts_by_destination(session: Session, states: Collection[DeliveryState]) -> dict[str, Counts]:
    """Return how many deliveries are in each of the states, from an index; absent where there are none."""
    grouped = select(Delivery.destination, Delivery.state, func.count(), func.min(Delivery.id))
    counts: dict[str, dict[DeliveryState, tuple[int, int | None]]] = defaultdict(dict)
    for name, state, count, oldest in session.execute(
        grouped.where(Delivery.state.in_(states)).group_by(Delivery.destination, Delivery.state)
    ):
        counts[name][state] = (count, oldest)
    return dict(counts)


def made_at(session: Session, delivery_id: int | None) -> datetime | None:
    """Return when the result of a delivery was made."""
    if delivery_id is None:
        return None
    return session.scalar(select(Result.created_at).join(Result.deliveries).where(Delivery.id == delivery_id))


def last_error(session: Session, name: str) -> tuple[str | None, datetime | None]:
    """Return what went wrong last with what waits, and until when all of it waits."""
    waiting = (
        select(Delivery.id)
        .where(Delivery.state == DeliveryState.PENDING, Delivery.destination == name)
        .order_by(Delivery.id)
        .limit(LOOKED_AT)
    )
    rows = session.execute(
        select(Delivery.last_error, Delivery.not_before).where(Delivery.id.in_(waiting.scalar_subquery()))
    ).all()
    failed = [row for row in rows if row.last_error]
    error = in_words(max(failed, key=lambda row: row.not_before).last_error) if failed else None
    first = min((row.not_before for row in rows), default=None)
    return error, first if first is not None and first > utc_now() else None


def dead_because(session: Session, name: str) -> str | None:
    """Return why the last dead letter was given up."""
    wanted = select(Delivery.last_error).where(Delivery.state == DeliveryState.DEAD, Delivery.destination == name)
    return in_words(session.scalar(wanted.order_by(Delivery.id.desc()).limit(1)))


def in_words(error: str | None) -> str | None:
    """Return what went wrong as people say it: without the kind of failure, which the state says, and error numbers."""
    if not error:
        return error
    kind = next((kind for kind in _KINDS if error.startswith(kind)), "")
    return _ERRNO.sub("", error.removeprefix(kind))
