"""The only place where a state changes: a guarded UPDATE against the tables of `worker.states`, with an event row.

A row that somebody else has moved on in the meantime is not touched: the caller gets `False` and drops its work, which
makes a second doorbell ring, a rescued worker coming back, or a race harmless.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from worker.db.announcements import note_change
from worker.db.columns import probability_of, seconds_of, utc_now
from worker.db.records import Delivery, Event, Job, Series
from worker.states import (
    DELIVERY_TRANSITIONS,
    JOB_TRANSITIONS,
    SERIES_TRANSITIONS,
    DeliveryState,
    JobState,
    SeriesState,
)


class IllegalTransitionError(Exception):
    """The table of allowed transitions does not have this one: a bug, not a race."""


def record_event(
    session: Session,
    subject: str,
    subject_id: object,
    *,
    study_id: int | None,
    reason: str,
    from_state: str | None = None,
    to_state: str | None = None,
) -> None:
    """Add a row to the history."""
    session.add(
        Event(
            subject=subject,
            subject_id=str(subject_id),
            study_id=study_id,
            reason=reason,
            from_state=from_state,
            to_state=to_state,
        )
    )


def move_series(session: Session, series: Series, to_state: SeriesState, reason: str, **values: Any) -> bool:
    """Move a series; see `_move`."""
    return _move(session, Series, series, SERIES_TRANSITIONS, to_state, reason, series.study_id, values, token=None)


def move_job(
    session: Session,
    job: Job,
    to_state: JobState,
    reason: str,
    *,
    token: str | None = None,
    is_announced: bool = True,
    **values: Any,
) -> bool:
    """Move a job; with a `token` only while that claim still holds, and unless `is_announced` without telling others.

    Keeps what lists are sorted and counted by: since when a person is waited for, the probability, and how long the
    answer took and whether it could be read.
    """
    if to_state is JobState.HELD:
        values.setdefault("waiting_since", utc_now())
    if "confidence" in values:
        values["probability"] = probability_of(values["confidence"])
    if "generation" in values:
        values["answer_s"] = seconds_of(values["generation"])
    if "findings" in values:
        values["parsed"] = {dict: True, type(None): False}.get(type(values["findings"]))
    from_state = job.state
    moved = _move(session, Job, job, JOB_TRANSITIONS, to_state, reason, job.study_id, values, token=token)
    if moved and is_announced:
        note_change(session, job, from_state, reason)
    return moved


def move_delivery(
    session: Session,
    delivery: Delivery,
    to_state: DeliveryState,
    reason: str,
    *,
    study_id: int | None,
    token: str | None = None,
    **values: Any,
) -> bool:
    """Move a delivery; with a `token` only while that claim still holds."""
    return _move(session, Delivery, delivery, DELIVERY_TRANSITIONS, to_state, reason, study_id, values, token=token)


def _move(
    session: Session,
    table: Any,
    record: Any,
    allowed: Any,
    to_state: Any,
    reason: str,
    study_id: int | None,
    values: dict[str, Any],
    token: str | None,
) -> bool:
    """Change `record.state`, as it was read, to `to_state` together with other columns.

    Returns:
        False if the row is no longer in the state (or under the claim) that the caller believes; nothing is changed.

    Raises:
        IllegalTransitionError: the transition is not in the table.
    """
    from_state = record.state
    if to_state not in allowed[from_state]:
        raise IllegalTransitionError(f"{table.__tablename__} {record.id}: {from_state} -> {to_state} ({reason})")
    session.flush()
    guarded = update(table).where(table.id == record.id, table.state == from_state)
    if token is not None:
        guarded = guarded.where(table.claim_token == token)
    moved: Any = session.execute(
        guarded.values(state=to_state, **values), execution_options={"synchronize_session": False}
    )
    if moved.rowcount != 1:
        return False
    session.refresh(record)
    subject = {"series": "series", "jobs": "job", "deliveries": "delivery"}[table.__tablename__]
    record_event(
        session, subject, record.id, study_id=study_id, reason=reason, from_state=from_state, to_state=to_state
    )
    return True
