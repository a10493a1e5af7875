"""The outbox -> destinations: each result to each destination, until it is there or a person must look.

Input: PENDING deliveries whose time has come. Output: DELIVERED (which `confirmation` asks about); CANCELLED, with the
next best in its place (`fallback`), where the destination does not take the SOP class; PENDING again, later each time,
where trying again can help (the destination is down, busy or full); DEAD with the reason where it cannot.
Objects are claimed in batches under a lease that is renewed while they are sent, over one association, and each outcome
is committed as it comes. A sender that dies in between leaves rows that `rescue_expired` frees: the same bytes are sent
again, which is harmless, since a PACS knows them by their UID.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_node.scu import StoreOutcome
from dicom_node.status import Outcome
from worker.audit.movements import record_sent
from worker.audit.trail import AuditTrail
from worker.channels import channel_of
from worker.db.columns import utc_now
from worker.db.outbox import Parcel, claim_batch, due, keep_claim, move, with_job
from worker.db.records import Delivery, Result
from worker.db.refusals import forget
from worker.db.sessions import Database
from worker.fallback import learn_refusal, replace_delivery, replace_refused
from worker.settings import Destination, Settings
from worker.states import DeliveryState

log = structlog.get_logger()

#: A pause is lengthened by up to this share, so that many senders do not come back at the same moment.
JITTER = 0.25
#: Doublings of the pause; beyond it the longest pause is reached with any setting.
MOST_DOUBLINGS = 30
#: What a person can send again: what failed, and what nobody vouched for.
RESENDABLE = (DeliveryState.DEAD, DeliveryState.UNCONFIRMED)


def deliver(db: Database, settings: Settings, destination: str) -> bool:
    """Send one batch of what is due for a destination.

    Returns:
        True when more is due now.
    """
    target = next((known for known in settings.destinations if known.name == destination), None)
    replaced = replace_refused(db, settings, destination)
    batch, at_once = settings.delivery.batch, 1 if target is None else target.associations
    parcels, withdrawn = claim_batch(db, destination, batch=batch, at_once=at_once)
    if target is None:
        renamed = f"if it has another name now, `dicom-worker deliveries rename {destination} NEWNAME`"
        gone = f"no destination is named {destination!r} in the settings any more; name it again, or {renamed}"
        _bury(db, parcels, f"{gone}; then send again")
    else:
        channel = channel_of(target)
        strange = [parcel for parcel in parcels if not channel.takes(parcel.kind)]
        _bury(db, strange, f"{destination} is of kind {target.kind} now, and does not take what it was to be sent")
        if fitting := [parcel for parcel in parcels if channel.takes(parcel.kind)]:
            _send(db, settings, target, fitting)
    if not (parcels or withdrawn or replaced):
        return False
    with db.reading() as session:
        return session.scalar(due(destination).limit(1)) is not None


def resend(
    db: Database,
    *,
    delivery_ids: Collection[int] | None = None,
    job_id: str | None = None,
    destination: str | None = None,
    by: str = "a person",
) -> int:
    """Put what is dead or unconfirmed back into the outbox: what all given conditions name; return how many.

    `by` is who asked for it, for the ledger.

    Raises:
        ValueError: No condition is given.
    """
    if delivery_ids is None and job_id is None and destination is None:
        raise ValueError("name deliveries, a job or a destination to send again")
    wanted = select(Delivery).join(Delivery.result).where(Delivery.state.in_(RESENDABLE))
    if delivery_ids is not None:
        wanted = wanted.where(Delivery.id.in_(delivery_ids))
    if job_id is not None:
        wanted = wanted.where(Result.job_id == job_id)
    if destination is not None:
        wanted = wanted.where(Delivery.destination == destination)
    with db.writing() as session:
        found = session.scalars(wanted.order_by(Delivery.id).options(with_job())).all()
        reason = f"{by} asked to send it again"
        for name in {row.destination for row in found}:
            forget(session, name)
        anew: dict[str, Any] = {"attempts": 0, "tries": 0, "asks": 0, "denials": 0, "confirm_at": None}
        return sum(move(session, row, DeliveryState.PENDING, reason, not_before=utc_now(), **anew) for row in found)


def rescue_expired(db: Database) -> int:
    """Free the deliveries whose sender stopped renewing its lease; return how many."""
    expired = select(Delivery).where(Delivery.state == DeliveryState.SENDING, Delivery.claim_expires_at < utc_now())
    with db.reading() as session:
        if session.scalar(expired.with_only_columns(Delivery.id).limit(1)) is None:
            return 0
    with db.writing() as session:
        rows = session.scalars(expired.options(with_job()).with_for_update(skip_locked=True, of=Delivery)).all()
        reason = "the process that was sending it is gone; it is sent again"
        values = {"claim_token": None, "delivered_at": utc_now()}  # it may have arrived: nobody heard the answer
        return sum(move(session, row, DeliveryState.PENDING, reason, token=row.claim_token, **values) for row in rows)


def _send(db: Database, settings: Settings, target: Destination, parcels: Sequence[Parcel]) -> None:
    """Send the parcels and commit each outcome as it comes; whatever happens, none is left without a state."""
    waiting = {parcel.path: parcel for parcel in parcels}
    taken: list[int] = []
    jitter = 1 + random.uniform(0, JITTER)  # noqa: S311 - it spreads load, it keeps no secret
    try:
        with keep_claim(db, parcels[0].token):
            for outcome in channel_of(target).send(settings, target, parcels):
                parcel = waiting.pop(outcome.path)
                if outcome.is_delivered:
                    taken.append(parcel.delivery_id)
                _settle(db, settings, target, parcel, outcome, jitter)
    finally:
        _hand_back(db, settings, list(waiting.values()))
        if taken:
            host, ae_title = getattr(target, "host", ""), getattr(target, "ae_title", "")
            record_sent(AuditTrail(settings), db, taken, target.name, host, ae_title)


def _settle(
    db: Database,
    settings: Settings,
    target: Destination,
    parcel: Parcel,
    outcome: StoreOutcome,
    jitter: float,
) -> None:
    """Commit what became of one object; where its class is not taken there, queue the next best in its place."""
    if outcome.is_class_refused:
        learn_refusal(db, target.name, parcel.sop_class_uid, outcome.message)
        if replace_delivery(db, settings, parcel.delivery_id, parcel.token):
            return
    with db.writing() as session:
        row = session.get_one(Delivery, parcel.delivery_id, options=[with_job()])
        state, reason, values = _consequence(settings, target, row, outcome, jitter)
        if row.state is DeliveryState.SENDING:
            move(session, row, state, reason, token=parcel.token, claim_token=None, **values)
        if not outcome.is_associated and state is DeliveryState.PENDING:
            _pause_destination(session, target.name, values["not_before"])
    log.info(
        "result sent" if outcome.is_delivered else "result not sent",
        action="deliver",
        delivery_id=parcel.delivery_id,
        sop_instance_uid=parcel.sop_instance_uid,
        destination=target.name,
        state=state.value,
        outcome=outcome.message,
    )


def _consequence(
    settings: Settings, target: Destination, row: Delivery, outcome: StoreOutcome, jitter: float
) -> tuple[DeliveryState, str, dict[str, Any]]:
    """Return the state that an outcome leads to, the reason, and the columns that change with it."""
    tries = row.tries + 1
    if outcome.is_delivered:
        remark = outcome.message if outcome.klass is Outcome.WARNING else None
        reason = f"{row.destination} has it" + (f" ({remark})" if remark else "")
        ask = {"confirm_at": utc_now() if target.is_asked else None, "asks": 0, "transaction_uid": None}
        sent = {"tries": tries, "delivered_at": utc_now(), "last_error": remark}
        return DeliveryState.DELIVERED, reason, {**sent, **ask}
    changes: dict[str, Any] = {"tries": tries, "last_error": outcome.message}
    if outcome.is_unanswered:
        changes["delivered_at"] = utc_now()
    if outcome.klass is Outcome.PERMANENT:
        changes["attempts"] = row.attempts + 1
        # A peer that refuses us altogether may only not know us yet: that is tried some more, unlike a refused object.
        if outcome.is_associated or changes["attempts"] >= settings.delivery.max_attempts:
            return DeliveryState.DEAD, outcome.message, changes
    pause_s = settings.delivery.retry_after_s * 2.0 ** min(tries - 1, MOST_DOUBLINGS)
    pause_s = max(min(pause_s, settings.delivery.retry_at_most_s) * jitter, outcome.retry_after_s)
    changes["not_before"] = utc_now() + timedelta(seconds=pause_s)
    return DeliveryState.PENDING, f"{outcome.message}; next try in {pause_s:.0f} s", changes


def _pause_destination(session: Session, destination: str, not_before: datetime) -> None:
    """Let everything that is due for a destination wait with the batch that could not reach it."""
    session.execute(
        update(Delivery)
        .where(
            Delivery.destination == destination,
            Delivery.state == DeliveryState.PENDING,
            Delivery.not_before <= utc_now(),
        )
        .values(not_before=not_before),
        execution_options={"synchronize_session": False},
    )


def _hand_back(db: Database, settings: Settings, waiting: Sequence[Parcel]) -> None:
    """Put back what an interrupted sender did not get to."""
    for parcel in waiting:
        with db.writing() as session:
            row = session.get_one(Delivery, parcel.delivery_id, options=[with_job()])
            if row.state is DeliveryState.SENDING:
                later = utc_now() + timedelta(seconds=settings.delivery.retry_after_s)
                reason = "the sender was interrupted before it came to it"
                move(
                    session,
                    row,
                    DeliveryState.PENDING,
                    reason,
                    token=parcel.token,
                    claim_token=None,
                    tries=row.tries + 1,
                    not_before=later,
                    last_error=reason,
                )


def _bury(db: Database, parcels: Sequence[Parcel], reason: str) -> None:
    for parcel in parcels:
        with db.writing() as session:
            row = session.get_one(Delivery, parcel.delivery_id, options=[with_job()])
            if row.state is DeliveryState.SENDING:
                values = {"claim_token": None, "last_error": reason, "attempts": row.attempts + 1}
                move(session, row, DeliveryState.DEAD, reason, token=parcel.token, **values)
