"""Which rejected answers still stand in a PACS: their results were sent, and no rejection note was written yet.

Input: rows. Output: a query, and what each destination has. A delivery that is on its way is waited for: nobody knows
yet whether the destination will have the object.
"""

from __future__ import annotations

from sqlalchemy import Select, exists, select
from sqlalchemy.orm import Session

from worker.db.queries import deliveries_of
from worker.db.records import Delivery, Job, Result, utc_now
from worker.result_kinds import REJECTION
from worker.states import DeliveryState, JobState

#: A destination has the object.
ARRIVED = (DeliveryState.DELIVERED, DeliveryState.CONFIRMED, DeliveryState.UNCONFIRMED)


def to_retract() -> Select[str]:
    """Return the query for the ids of jobs that need a rejection note now."""
    of_job = select(Delivery.id).join(Delivery.result).where(Result.job_id == Job.id)
    return select(Job.id).where(
        Job.state == JobState.REJECTED,
        Job.not_before <= utc_now(),  # until then the rejection can be taken back
        exists(of_job.where(Delivery.state.in_(ARRIVED))),
        ~exists(of_job.where(Delivery.state == DeliveryState.SENDING)),
        ~exists(select(Result.id).where(Result.job_id == Job.id, Result.kind == REJECTION)),
    )


def arrived_at(session: Session, job_id: str) -> dict[tuple[str, ...], list[str]]:
    """Return, for each set of results that destinations have (SOP Instance UIDs, sorted), those destinations."""
    has: dict[str, set[str]] = {}
    for delivery in deliveries_of(session, job_id):
        if delivery.state in ARRIVED and delivery.result.kind != REJECTION:
            has.setdefault(delivery.destination, set()).add(delivery.result.sop_instance_uid)
    found: dict[tuple[str, ...], list[str]] = {}
    for destination, uids in sorted(has.items()):
        found.setdefault(tuple(sorted(uids)), []).append(destination)
    return found
