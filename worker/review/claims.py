"""Who has which case open: a lease that the page renews, so that two people never decide about the same case.

Input: a job and a person. Output: a `ClaimState` that says whose the case is and for how long. A decision takes the
claim in its own transaction, and gives it up; where another person has it, `ReviewError` says who and until when.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from dicom_node.report import Person
from worker.db.columns import utc_now
from worker.db.records import Job
from worker.db.review_records import CaseClaim
from worker.db.sessions import Database
from worker.db.work_list import Filters, waiting_for
from worker.review.errors import NamedCase, NamedPerson, ReviewError
from worker.review.people import identity_of, same_person
from worker.states import JobState

#: States in which a case can be worked on by a person.
CLAIMABLE = (JobState.HELD, JobState.RELEASED, JobState.VERIFIED)


@dataclass(frozen=True, slots=True)
class ClaimState:
    """Whose a case is now."""

    #: False where another person has it.
    is_own: bool
    reviewer_name: str
    since: datetime
    expires_at: datetime


def claim(db: Database, job_id: str, person: Person, lease_s: float) -> ClaimState | None:
    """Take or renew the claim to a case; None where there is nothing to decide about any more."""
    with db.writing() as session:
        job = session.get(Job, job_id, with_for_update=True)
        if job is None or job.state not in CLAIMABLE:
            return None
        now = utc_now()
        held = session.get(CaseClaim, job_id)
        if held is not None and held.expires_at > now and not _is_of(held, person):
            return ClaimState(False, held.reviewer_name, held.claimed_at, held.expires_at)
        if held is None or not _is_of(held, person):
            if held is not None:
                session.delete(held)
                session.flush()
            account = identity_of(person).account
            held = CaseClaim(job_id=job_id, account=account, reviewer_name=person.name, claimed_at=now)
            session.add(held)
        held.expires_at = now + timedelta(seconds=lease_s)
        return ClaimState(True, held.reviewer_name, held.claimed_at, held.expires_at)


def release(db: Database, job_id: str, person: Person) -> bool:
    """Give a case back to the queue; return whether it was this person's."""
    with db.writing() as session:
        held = session.get(CaseClaim, job_id, with_for_update=True)
        if held is None or not _is_of(held, person):
            return False
        session.delete(held)
        return True


def next_case(db: Database, person: Person, after: str = "", filters: Filters | None = None) -> str | None:
    """Return the id of the first waiting case that this person may take, other than the one they come from.

    With the filters of a work list, the first in its order; else the most urgent of all.
    """
    with db.reading() as session:
        return session.scalar(waiting_for(identity_of(person), but=after, filters=filters).limit(1))


def claim_for_decision(session: Session, job: Job, person: Person) -> None:
    """Make sure that nobody else has the locked job open, and end the claim with the decision.

    Raises:
        ReviewError: Another person has it.
    """
    held = session.scalar(select(CaseClaim).where(CaseClaim.job_id == job.id, CaseClaim.expires_at > utc_now()))
    if held is not None and not _is_of(held, person):
        raise ReviewError(
            NamedPerson(held.reviewer_name),
            " has ",
            NamedCase(job.id),
            " open since ",
            held.claimed_at,
            "; it is free when they release it, or at ",
            held.expires_at,
            " unless their page is still open then",
        )
    session.execute(delete(CaseClaim).where(CaseClaim.job_id == job.id))


def _is_of(held: CaseClaim, person: Person) -> bool:
    return same_person(person, held.account, held.reviewer_name)
