"""Claiming what is due for a destination: under a lease, in order, by a bounded number of senders at once.

Input: PENDING deliveries. Output: parcels in state SENDING that the caller alone holds. What was withdrawn in the
meantime is CANCELLED. A lost race leaves rows as they are.
"""

from __future__ import annotations

import uuid
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Select, func, select, text, update
from sqlalchemy.orm import Session, joinedload

from worker.db.columns import utc_now
from worker.db.records import Delivery, Job, Result
from worker.db.renewal import renewing
from worker.db.sessions import Database
from worker.db.transitions import move_delivery, record_event
from worker.result_kinds import ENDINGS, ResultKind
from worker.states import DeliveryState, JobState

#: Seconds after which a sender that stopped renewing its claim counts as gone.
LEASE_S = 15.0
#: Jobs whose results are not sent any more.
WITHDRAWN = (JobState.SUPERSEDED, JobState.REJECTED)
#: With the destination's name: PostgreSQL's advisory lock under which senders are counted (SQLite has one writer).
SENDERS_LOCK = 0x0D1C1


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery that this process holds."""

    delivery_id: int
    token: str
    sop_instance_uid: str
    path: Path
    #: Of `worker.result_kinds`.
    kind: str
    #: Empty for what is no DICOM object.
    sop_class_uid: str = ""


def due(destination: str) -> Select[int]:
    """Return the query for what is to be sent now."""
    return select(Delivery.id).where(
        Delivery.destination == destination,
        Delivery.state == DeliveryState.PENDING,
        Delivery.not_before <= utc_now(),
    )


def with_job() -> Any:
    """Return the loader option that brings a delivery's result and job along."""
    return joinedload(Delivery.result).joinedload(Result.job)


def claim_batch(db: Database, destination: str, *, batch: int, at_once: int) -> tuple[list[Parcel], int]:
    """Take the next batch, least tried first: an object that always fails comes last and keeps no other waiting.

    Within the batch a study's objects stay together, studies and objects in the order they were made.

    Args:
        db: The database.
        destination: Its name.
        batch: Objects at most; they are held for `LEASE_S`, and longer under `keep_claim`.
        at_once: Senders that may hold batches for this destination; while so many do, nothing is taken.

    Returns:
        What is to be sent, and how many others were withdrawn in the meantime.
    """
    token = uuid.uuid4().hex
    held: list[Delivery] = []
    cancelled = 0
    with db.writing() as session:
        if _senders(session, db, destination) >= at_once:
            return [], 0
        in_order = (
            select(Delivery)
            .where(Delivery.id.in_(due(destination)), Delivery.state == DeliveryState.PENDING)
            .order_by(Delivery.tries, Delivery.id)
            .options(with_job())
            .with_for_update(skip_locked=True, of=Delivery)
        )
        for row in session.scalars(in_order.limit(batch)):
            not_wanted = withdrawn(row)
            if not_wanted is not None:
                cancelled += withdraw(session, row, not_wanted)
                continue
            reason = f"is being sent to {destination}"
            if move(session, row, DeliveryState.SENDING, reason, claim_token=token, claim_expires_at=_lease()):
                held.append(row)
        first = {row.result.job.study_id: row.id for row in sorted(held, key=lambda row: row.id, reverse=True)}
        held.sort(key=lambda row: (row.tries, first[row.result.job.study_id], row.id))
        parcels = [_parcel(row, token) for row in held]
    return parcels, cancelled


def keep_claim(db: Database, token: str) -> AbstractContextManager[None]:
    """Renew a claim while its parcels are being sent."""
    held = update(Delivery).where(Delivery.claim_token == token, Delivery.state == DeliveryState.SENDING)
    return renewing(db, LEASE_S, lambda: held.values(claim_expires_at=_lease()), action="deliver")


def _lease() -> datetime:
    return utc_now() + timedelta(seconds=LEASE_S)


def _parcel(row: Delivery, token: str) -> Parcel:
    result = row.result
    return Parcel(row.id, token, result.sop_instance_uid, Path(result.path), result.kind, result.sop_class_uid)


def queue_result(session: Session, job: Job, result: Result, destination: str) -> None:
    """Put a result into the outbox of a destination."""
    delivery = Delivery(result_id=result.id, destination=destination)
    session.add(delivery)
    session.flush()
    record_event(
        session,
        "delivery",
        delivery.id,
        study_id=job.study_id,
        reason=f"{result.kind} {result.sop_instance_uid} is queued for {destination}",
        to_state=DeliveryState.PENDING,
    )


def move(
    session: Session, row: Delivery, to_state: DeliveryState, reason: str, *, token: str | None = None, **values: Any
) -> bool:
    """Move a delivery that was read `with_job`."""
    study_id = row.result.job.study_id
    return move_delivery(session, row, to_state, reason, study_id=study_id, token=token, **values)


def _senders(session: Session, db: Database, destination: str) -> int:
    """Count who is sending to a destination now; the count holds until the transaction ends."""
    if not db.is_sqlite:
        lock = text("SELECT pg_advisory_xact_lock(:kind, hashtext(:name))")
        session.execute(lock, {"kind": SENDERS_LOCK, "name": destination})
    held = select(func.count(Delivery.claim_token.distinct())).where(
        Delivery.destination == destination,
        Delivery.state == DeliveryState.SENDING,
        Delivery.claim_expires_at >= utc_now(),
    )
    return session.scalar(held) or 0


def withdrawn(row: Delivery) -> str | None:
    """Say why a result is not sent any more: its job may have moved on while it was on its way."""
    job: Job = row.result.job
    if job.state in WITHDRAWN and row.result.kind not in ENDINGS:
        return f"job {job.id} is {job.state.value}"
    if job.state is JobState.VERIFIED and _is_replaced(row.result, job):
        return "the signed report stands in its place"
    return None


def withdraw(session: Session, row: Delivery, reason: str, *, token: str | None = None, **values: Any) -> bool:
    """Cancel a delivery for what `withdrawn` says; a rejection that is taken back in time sends it after all."""
    by_decision = row.result.job.state is JobState.REJECTED
    values["stopped_by_decision"] = by_decision
    return move(session, row, DeliveryState.CANCELLED, reason, token=token, **values)


def _is_replaced(result: Result, job: Job) -> bool:
    """Whether another report of the job is the one that a person signed last."""
    signed = [other for other in job.results if other.kind == ResultKind.SR and other.verified]
    if not result.verified or not signed:
        return not result.verified
    last = max(signed, key=lambda other: other.id)
    if result.report_uid is None:  # an event, or of a version that did not keep it
        return result.id < last.id
    return result.report_uid != last.sop_instance_uid
