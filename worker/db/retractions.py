"""Which rejected answers still stand with others: their results were sent, and nothing was written to take them back.

Input: rows. Output: a query, and what each destination has. A delivery that is on its way is waited for: nobody knows
yet whether the destination will have the object.
"""

from __future__ import annotations

from sqlalchemy import Select, and_, exists, or_, select
from sqlalchemy.orm import Session, aliased

from worker.db.queries import deliveries_of
from worker.db.records import Delivery, Job, Result, utc_now
from worker.result_kinds import MESSAGES, REJECTION, MessageKind
from worker.states import DeliveryState, JobState

#: A destination has the object.
ARRIVED = (DeliveryState.DELIVERED, DeliveryState.CONFIRMED, DeliveryState.UNCONFIRMED)
#: Messages that are taken back here; what ends an event is an event of its own.
_TAKEN_BACK_BY_MESSAGE = (MessageKind.FHIR, MessageKind.HL7)


def to_retract() -> Select[str]:
    """Return the query for the ids of jobs that need a rejection note, or another message of the same meaning, now."""
    of_job = select(Delivery.id).join(Delivery.result).where(Result.job_id == Job.id)
    arrived, written = of_job.where(Delivery.state.in_(ARRIVED)), select(Result.id).where(Result.job_id == Job.id)
    in_a_pacs = arrived.where(Result.kind.not_in((*MESSAGES, REJECTION)))
    still_stand = [and_(exists(in_a_pacs), ~exists(written.where(Result.kind == REJECTION)))]
    for kind in _TAKEN_BACK_BY_MESSAGE:
        told = or_(exists(arrived.where(Result.kind == kind)), exists(_told_earlier().where(Result.kind == kind)))
        still_stand.append(and_(told, ~exists(written.where(Result.kind == kind.ending))))
    return select(Job.id).where(
        Job.state == JobState.REJECTED,
        Job.not_before <= utc_now(),  # until then the rejection can be taken back
        ~exists(of_job.where(Delivery.state == DeliveryState.SENDING)),
        or_(*still_stand),
    )


def _told_earlier() -> Select[int]:
    """Return the query for what was told of earlier revisions that the job stood in the place of."""
    earlier = aliased(Job)
    same = (earlier.series_id == Job.series_id, earlier.adapter == Job.adapter, earlier.unit_uid == Job.unit_uid)
    return (
        select(Delivery.id)
        .join(Delivery.result)
        .join(earlier, Result.job_id == earlier.id)
        .where(*same, earlier.question_key == Job.question_key, earlier.revision < Job.revision)
        .where(earlier.state == JobState.SUPERSEDED, Delivery.state.in_(ARRIVED))
        .correlate(Job)
    )


def arrived_at(session: Session, job_id: str) -> dict[tuple[str, ...], list[str]]:
    """Return, for each set of DICOM results that destinations have (SOP Instance UIDs, sorted), those destinations."""
    has: dict[str, set[str]] = {}
    for delivery in deliveries_of(session, job_id):
        if delivery.state in ARRIVED and delivery.result.kind not in (*MESSAGES, REJECTION):
            has.setdefault(delivery.destination, set()).add(delivery.result.sop_instance_uid)
    found: dict[tuple[str, ...], list[str]] = {}
    for destination, uids in sorted(has.items()):
        found.setdefault(tuple(sorted(uids)), []).append(destination)
    return found
