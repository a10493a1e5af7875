"""Destinations with what is on its way to each; deliveries, page by page; and dead letters put back into the outbox.

Input: the ledger and the settings. Output: shapes. Counts come from an index (`ix_deliveries_counted`): what was
delivered is counted for the last day only, so that years of it cost nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from pydicom.uid import UID
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from worker import delivery
from worker.db import refusals
from worker.db.columns import utc_now
from worker.db.records import Delivery, Job, Result, Study
from worker.db.sessions import Database
from worker.operations import waiting
from worker.operations.delivery_shapes import (
    AskedAgain,
    DeliveryEntry,
    DeliveryPage,
    DestinationState,
    RefusedClass,
    Resent,
    TriedNow,
)
from worker.settings import Settings
from worker.states import DeliveryState

DAY = timedelta(days=1)
#: States that a delivery stays in only until somebody or something acts: few rows, counted all.
COUNTED = (*waiting.ON_THE_WAY, *delivery.RESENDABLE)
SENT = (DeliveryState.DELIVERED, DeliveryState.CONFIRMED, DeliveryState.UNCONFIRMED)
LINES = 50


def destination_states(session: Session, settings: Settings) -> list[DestinationState]:
    """Return every destination of the settings, in their order, and then those that only the ledger still knows."""
    counts = waiting.counts_by_destination(session, COUNTED)
    known = {target.name: target for target in settings.destinations}
    found = []
    for name in [*known, *sorted(set(counts) - set(known))]:
        target, mine = known.get(name), counts.get(name, {})
        pending, first = mine.get(DeliveryState.PENDING, (0, None))
        sent = {state: _sent_lately(session, name, state) for state in SENT}
        last_error, paused_until = waiting.last_error(session, name) if pending else (None, None)
        if last_error is None and DeliveryState.DEAD in mine:
            last_error = waiting.dead_because(session, name)
        found.append(
            DestinationState(
                name=name,
                kind=target.kind if target else "",
                address=target.address if target else "",
                is_known=target is not None,
                results=[str(kind) for kind in target.results] if target else [],
                waiting=pending,
                sending=mine.get(DeliveryState.SENDING, (0, None))[0],
                dead=mine.get(DeliveryState.DEAD, (0, None))[0],
                unconfirmed=mine.get(DeliveryState.UNCONFIRMED, (0, None))[0],
                delivered=sum(sent.values()),
                confirmed=sent[DeliveryState.CONFIRMED],
                oldest_since=waiting.made_at(session, first),
                paused_until=paused_until,
                last_error=last_error,
                refused=_refused(session, settings, name),
            )
        )
    return found


def deliveries(
    session: Session,
    *,
    states: Collection[DeliveryState] = (),
    destination: str = "",
    before: int | None = None,
    limit: int = LINES,
) -> DeliveryPage:
    """Return deliveries, the newest first.

    Args:
        session: An open session.
        states: Only these; empty for all.
        destination: Only to this one; empty for all.
        before: Only those with a lower number: `DeliveryPage.next_before` of the page before.
        limit: At most so many.
    """
    wanted = select(Delivery.id).order_by(Delivery.id.desc()).limit(limit + 1)
    if states:
        wanted = wanted.where(Delivery.state.in_(states))
    if destination:
        wanted = wanted.where(Delivery.destination == destination)
    if before is not None:
        wanted = wanted.where(Delivery.id < before)
    numbers = session.scalars(wanted).all()
    shown = numbers[:limit]
    return DeliveryPage(
        deliveries=_entries(session, shown), next_before=shown[-1] if len(numbers) > limit and shown else None
    )


def resend(
    db: Database,
    *,
    by: str,
    delivery_ids: Collection[int] | None = None,
    job_id: str | None = None,
    destination: str | None = None,
) -> Resent:
    """Put dead letters, and what nobody vouched for, back into the outbox; without conditions all of them.

    The dispatcher finds them at its next look. Each gets an event that names who asked.
    """
    if delivery_ids is None and job_id is None and destination is None:
        with db.reading() as session:
            names = session.scalars(
                select(Delivery.destination).where(Delivery.state.in_(delivery.RESENDABLE)).distinct()
            ).all()
        return Resent(queued_again=sum(delivery.resend(db, destination=name, by=by) for name in names))
    count = delivery.resend(db, delivery_ids=delivery_ids, job_id=job_id, destination=destination, by=by)
    return Resent(queued_again=count)


def ask_again(db: Database, destination: str, sop_class_uid: str | None = None) -> AskedAgain:
    """Forget what a destination was learned not to take, all of it or one class; what follows is offered to it again.

    What it was sent instead stays as it is.
    """
    with db.writing() as session:
        return AskedAgain(offered_again=refusals.forget(session, destination, sop_class_uid))


def try_now(db: Database, destination: str) -> TriedNow:
    """Let what waits for its next try be due now; the dispatcher finds it at its next look."""
    now = utc_now()
    waits = (Delivery.destination == destination, Delivery.state == DeliveryState.PENDING, Delivery.not_before > now)
    with db.writing() as session:
        moved = update(Delivery).where(*waits).values(not_before=now).returning(Delivery.id)
        found = session.execute(moved, execution_options={"synchronize_session": False}).all()
    return TriedNow(due_now=len(found))


def _refused(session: Session, settings: Settings, name: str) -> list[RefusedClass]:
    kept_s = settings.delivery.refusals_kept_s
    return [
        RefusedClass(
            sop_class_uid=row.sop_class_uid,
            name=UID(row.sop_class_uid).name,
            since=row.learned_at,
            said=waiting.in_words(row.said) or "",
            until=row.learned_at + timedelta(seconds=kept_s),
        )
        for row in refusals.refused_by(session, name, kept_s)
    ]


def _sent_lately(session: Session, name: str, state: DeliveryState) -> int:
    wanted = select(func.count()).where(
        Delivery.state == state, Delivery.destination == name, Delivery.delivered_at >= utc_now() - DAY
    )
    return session.scalar(wanted) or 0


def _entries(session: Session, numbers: Sequence[int]) -> list[DeliveryEntry]:
    wanted = (
        select(
            *(Delivery.id, Delivery.destination, Delivery.state, Delivery.attempts, Delivery.tries),
            *(Delivery.last_error, Delivery.not_before, Delivery.delivered_at, Delivery.confirmed_at),
            *(Result.kind, Result.created_at, Result.id.label("result_id"), Result.sop_instance_uid),
            *(Job.id.label("job_id"), Job.adapter, Study.id.label("study_id")),
            *(Study.study_instance_uid, Study.accession_number),
        )
        .join(Result, Result.id == Delivery.result_id)
        .join(Job, Job.id == Result.job_id)
        .join(Study, Study.id == Job.study_id)
        .where(Delivery.id.in_(numbers))
        .order_by(Delivery.id.desc())
    )
    found = []
    for row in session.execute(wanted):
        said = waiting.in_words(row.last_error)
        found.append(DeliveryEntry(**{**row._mapping, "last_error": said}))
    return found
