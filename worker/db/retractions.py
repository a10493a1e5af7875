"""Which rejected answers still stand with others: their results were sent, and nothing was written to take them back.

Input: rows. Output: a query, and what each destination has. A delivery that is on its way is waited for: nobody knows
yet whether the destination will have the object. A message is not taken back where one of a later revision follows it:
both are the same report to its receiver, which would lose the answer that stands.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Select, and_, exists, or_, select
from sqlalchemy.orm import Session, aliased

from worker.db.columns import utc_now
from worker.db.queries import deliveries_of, earlier_jobs
from worker.db.records import Delivery, Job, Result
from worker.result_kinds import MESSAGES, REJECTION, MessageKind
from worker.states import DeliveryState, JobState

#: A destination has the object.
ARRIVED = (DeliveryState.DELIVERED, DeliveryState.CONFIRMED, DeliveryState.UNCONFIRMED)
#: A delivery that came to nothing.
_ENDED = (DeliveryState.CANCELLED, DeliveryState.DEAD)
#: Messages that are taken back here; what ends an event is an event of its own.
_TAKEN_BACK_BY_MESSAGE = (MessageKind.FHIR, MessageKind.HL7)
#: As `has_arrived`.
_ARRIVED_ONCE = or_(Delivery.state.in_(ARRIVED), Delivery.delivered_at.is_not(None))


def to_retract() -> Select[str]:
    """Return the query for the ids of jobs that need a rejection note, or another message of the same meaning, now."""
    of_job = select(Delivery.id).join(Delivery.result).where(Result.job_id == Job.id)
    arrived, written = of_job.where(_ARRIVED_ONCE), select(Result.id).where(Result.job_id == Job.id)
    in_a_pacs = Result.kind.not_in((*MESSAGES, REJECTION))
    earlier = _arrived_earlier()
    stored = or_(exists(arrived.where(in_a_pacs)), exists(earlier.where(in_a_pacs)))
    still_stand = [and_(stored, ~exists(written.where(Result.kind == REJECTION)))]
    for kind in _TAKEN_BACK_BY_MESSAGE:
        stands = and_(Result.kind == kind, ~exists(_told_later(kind)))
        told = or_(exists(arrived.where(stands)), exists(earlier.where(stands)))
        still_stand.append(and_(told, ~exists(written.where(Result.kind == kind.ending))))
    return select(Job.id).where(
        Job.state == JobState.REJECTED,
        Job.not_before <= utc_now(),  # until then the rejection can be taken back
        ~exists(of_job.where(Delivery.state == DeliveryState.SENDING)),
        or_(*still_stand),
    )


def _arrived_earlier() -> Select[int]:
    """Return the query for what others have of the jobs that `replaced` returns."""
    earlier, rejected = aliased(Job), aliased(Job)
    taken_back = select(rejected.id).where(
        *_of_same_unit(rejected),
        rejected.state == JobState.REJECTED,
        rejected.revision < Job.revision,
        rejected.revision > earlier.revision,
    )
    return (
        select(Delivery.id)
        .join(Delivery.result)
        .join(earlier, Result.job_id == earlier.id)
        .where(*_of_same_unit(earlier), earlier.revision < Job.revision)
        .where(earlier.state == JobState.SUPERSEDED, _ARRIVED_ONCE)
        .where(~exists(taken_back.correlate(Job, earlier)))
        .correlate(Job)
    )


def _of_same_unit(job: type[Job]) -> tuple[ColumnElement[bool], ...]:
    return (
        job.series_id == Job.series_id,
        job.adapter == Job.adapter,
        job.question_key == Job.question_key,
        job.unit_uid == Job.unit_uid,
    )


def _told_later(kind: MessageKind) -> Select[int]:
    """Return the query for what tells a delivery's destination of a later revision: the same report says more now."""
    later, message, delivery = aliased(Job), aliased(Result), aliased(Delivery)
    return (
        select(delivery.id)
        .join(message, delivery.result_id == message.id)
        .join(later, message.job_id == later.id)
        .where(*_of_same_unit(later), later.revision > Job.revision, message.kind == kind)
        .where(delivery.destination == Delivery.destination, delivery.state.not_in(_ENDED))
        .correlate(Job, Delivery)
    )


def told_later(session: Session, job: Job) -> set[tuple[str, str]]:
    """Return the kinds of message, and the destinations, that tell or told of a later revision than this job."""
    later = aliased(Job)
    wanted = (
        select(Result.kind, Delivery.destination)
        .select_from(Job)
        .join(later, and_(*_of_same_unit(later), later.revision > Job.revision))
        .join(Result, Result.job_id == later.id)
        .join(Delivery, Delivery.result_id == Result.id)
        .where(Job.id == job.id, Result.kind.in_(_TAKEN_BACK_BY_MESSAGE), Delivery.state.not_in(_ENDED))
    )
    return {(kind, destination) for kind, destination in session.execute(wanted)}


def has_arrived(delivery: Delivery) -> bool:
    """Whether a destination has the object, or may have it: it had it once, or its answer was lost."""
    return delivery.state in ARRIVED or delivery.delivered_at is not None


def replaced(session: Session, job: Job) -> list[Job]:
    """Return the earlier revisions that a rejection of the job takes back too.

    They are out of date by the job itself, and with it gone they would seem to stand again. What an earlier rejection
    has taken back is left out.
    """
    found = []
    for earlier in earlier_jobs(session, job):
        if earlier.state is JobState.REJECTED:
            break
        if earlier.state is JobState.SUPERSEDED:
            found.append(earlier)
    return found


def arrived_at(session: Session, job: Job) -> dict[tuple[str, ...], list[str]]:
    """Return, for each set of DICOM results that destinations have (SOP Instance UIDs, sorted), those destinations.

    Args:
        session: The database.
        job: A rejected job; what destinations have of the revisions before it (`replaced`) counts too.
    """
    has: dict[str, set[str]] = {}
    for known in (job, *replaced(session, job)):
        for delivery in deliveries_of(session, known.id):
            if has_arrived(delivery) and delivery.result.kind not in (*MESSAGES, REJECTION):
                has.setdefault(delivery.destination, set()).add(delivery.result.sop_instance_uid)
    found: dict[tuple[str, ...], list[str]] = {}
    for destination, uids in sorted(has.items()):
        found.setdefault(tuple(sorted(uids)), []).append(destination)
    return found
