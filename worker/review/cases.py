"""What all decisions share: finding the job and locking it, what stands in the way, and the row that is kept.

Input: the caller's transaction. Output: a job that nobody else decides about until it ends, review rows, events. On
failure `ReviewError`, and the transaction is rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy.orm import Session

from dicom_node.report import Person
from worker.db.queries import QueryError, find_job
from worker.db.records import Job, Review
from worker.db.transitions import move_job
from worker.db.views import seen_digest
from worker.review import shown as sight
from worker.review.claims import claim_for_decision
from worker.review.errors import NamedCase, NamedPerson, ReviewError
from worker.review.people import Reviewer, identity_of, why_no_second_reader
from worker.review.shown import NOT_SAID, Shown
from worker.states import JobState

__all__ = ["ReviewOutcome", "SentObject", "seen_digest"]

log = structlog.get_logger()

#: States in which a person may sign, and in which they may correct what stands or reject it.
SIGNABLE = (JobState.HELD, JobState.RELEASED)
CORRECTABLE = (*SIGNABLE, JobState.VERIFIED)
#: Actions that end a case.
FINAL = ("accept", "edit", "reject", "reroute")
PAST = {
    "accept": "accepted",
    "edit": "edited",
    "reject": "rejected",
    "retry": "retried",
    "reroute": "re-routed",
    "opinion": "passed to a second reader",
    "undo": "taken back",
}
#: Names of actions in audit messages, where they are not their own.
TOLD_AS = {"opinion": "second-reader"}


@dataclass(frozen=True, slots=True)
class SentObject:
    """An object of the job that a destination has already, or is receiving this moment."""

    sop_instance_uid: str
    destination: str


@dataclass(frozen=True, slots=True)
class ReviewOutcome:
    """What a decision did."""

    job_id: str
    state: JobState
    #: One or two sentences for the reviewer.
    message: str
    already_sent: tuple[SentObject, ...] = ()
    #: What the person had before them, in words; empty where nothing was decided.
    shown: Mapping[str, str] = field(default_factory=dict)


def find_case(session: Session, reference: str) -> Job:
    """Return the job that a person means, locked until the transaction ends."""
    try:
        job = find_job(session, reference)
    except QueryError as error:
        raise ReviewError(str(error)) from None
    session.refresh(job, with_for_update=True)
    return job


def open_case(
    session: Session,
    reference: str,
    person: Person,
    action: str,
    *,
    shown: Shown = NOT_SAID,
    states: tuple[JobState, ...] = SIGNABLE,
) -> Job:
    """Return the job for a decision that this person may take now.

    Raises:
        ReviewError: It is decided, another person has it open, or it is not any more what was shown.
    """
    job = find_case(session, reference)
    if job.state not in states:
        raise obstacle(job, action)
    claim_for_decision(session, job, person)
    if shown.answer and shown.answer != seen_digest(job):
        changed = f" cannot be {PAST[action]}: its answer has changed since it was shown; look at it again"
        raise ReviewError(NamedCase(job.id), changed)
    return job


def check_second_reader(job: Job, person: Person, action: str) -> None:
    """Refuse the decision of the person who asked for a second reader, or of somebody with their name."""
    if not job.second_reader:
        return
    first = next(review for review in reversed(job.reviews) if review.action == "opinion")
    if why := why_no_second_reader(person, first.account, first.reviewer_name):
        refused = f" cannot be {PAST[action]} by "
        raise ReviewError(NamedCase(job.id), refused, NamedPerson(person.name), f": {why}")


def obstacle(job: Job, action: str) -> ReviewError:
    """Say why this job cannot be decided on as it stands."""
    case, start = NamedCase(job.id), f" cannot be {PAST[action]}: "
    if job.state is JobState.SUPERSEDED:
        return ReviewError(case, start + "late images made a newer revision, which stands in its place; review that")
    if job.state in (JobState.ACCEPTED, JobState.VERIFIED, JobState.REJECTED):
        decided = [review for review in job.reviews if review.action in FINAL and review.undone_at is None]
        if decided:
            last = decided[-1]
            remedy = "; edit what is signed, or reject it" if job.state is JobState.VERIFIED else ""
            said = f"{start}it was {PAST[last.action]} by "
            return ReviewError(case, said, NamedPerson(last.reviewer_name), " at ", last.decided_at, remedy)
    if job.state is JobState.RELEASED:
        return ReviewError(case, start + "it is released, not held; accept, edit or reject it")
    return ReviewError(case, start + f"it is {job.state.value}, its answer is still being worked on")


def add_review(
    session: Session,
    job: Job,
    action: str,
    person: Person,
    comment: str,
    *,
    from_state: JobState,
    shown: Shown = NOT_SAID,
    findings: dict[str, Any] | None = None,
    started: Sequence[str] = (),
) -> Mapping[str, str]:
    """Keep who decided what, on what, and tell of it; return what they had before them in words."""
    stored = sight.kept(session, job, shown)
    session.add(
        Review(
            job_id=job.id,
            action=action,
            account=identity_of(person).account,
            reviewer_name=person.name,
            reviewer_organization=person.organization,
            comment=comment.strip(),
            findings=findings,
            seen=seen_digest(job),
            shown=stored,
            started=list(started) or None,
            from_state=from_state.value,
        )
    )
    tell(session, job, action, person, sight.in_words(stored))
    return sight.in_words(stored)


def tell(session: Session, job: Job, action: str, person: Person, shown: Mapping[str, str]) -> None:
    """Tell the audit trail, with the transaction, of what a person with a witness decided."""
    if isinstance(person, Reviewer) and person.witness is not None:
        person.witness.decided(session, job, TOLD_AS.get(action, action), shown)


def move_case(session: Session, job: Job, to_state: JobState, reason: str, action: str, **columns: Any) -> None:
    """Move the job, or say that another person was faster."""
    if not move_job(session, job, to_state, reason, **columns):
        session.refresh(job)
        raise obstacle(job, action)
    log.info("job reviewed", action=action, job_id=job.id, state=to_state.value)
