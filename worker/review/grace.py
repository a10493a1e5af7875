"""A decision taken back: by the person who took it, while nothing has been written or sent.

Input: a job that is ACCEPTED or REJECTED and whose time (`Job.not_before`) is not over. Output, in one transaction: the
job in the state it was decided in, the review marked as undone (never removed), the deliveries that a rejection had
cancelled waiting again, the jobs that a re-routing had begun SUPERSEDED. On failure `ReviewError`, and nothing is
changed.
"""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dicom_node.report import Person
from worker.audit.owed import telling
from worker.db.columns import utc_now
from worker.db.queries import deliveries_of
from worker.db.records import Job, Review
from worker.db.review_records import is_signed
from worker.db.sessions import Database
from worker.db.transitions import move_delivery, move_job
from worker.review.cases import ReviewOutcome, find_case, move_case, tell
from worker.review.errors import NamedCase, NamedPerson, ReviewError
from worker.review.people import same_person
from worker.states import DeliveryState, JobState

UNDOABLE = ("accept", "edit", "reject", "reroute")
#: States of a job that a re-routing began in which nobody outside has seen anything of it.
WITHDRAWABLE = (JobState.QUEUED, JobState.RUNNING, JobState.GENERATED, JobState.DECIDED)


def undo(db: Database, job_id: str, reviewer: Person) -> ReviewOutcome:
    """Take the last decision back; `job_id` is anything that `find_job` takes.

    Raises:
        ReviewError: It is too late, or another person's decision.
    """
    with telling(db) as session:
        job = find_case(session, job_id)
        decided = [review for review in job.reviews if review.action in UNDOABLE and review.undone_at is None]
        if job.state not in (JobState.ACCEPTED, JobState.REJECTED) or not decided:
            raise ReviewError(NamedCase(job.id), f": there is no decision to take back; it is {job.state.value}")
        last, now = decided[-1], utc_now()
        if not same_person(reviewer, last.account, last.reviewer_name):
            who = NamedPerson(last.reviewer_name)
            raise ReviewError(NamedCase(job.id), ": only ", who, " can take the decision back")
        if job.not_before <= now:
            remedy = "ask for the images to be sent again"
            if job.state is JobState.ACCEPTED:
                remedy = "edit what is signed when its report is written, or reject it: a rejection note follows"
            raise ReviewError(NamedCase(job.id), f": the time to take the decision back is over; {remedy}")
        last.undone_at = now
        before = JobState(last.from_state)
        waited_since = job.waiting_since
        reason = f"{reviewer.name} took back: {last.action}"
        _end_started(session, last, reason)
        # Nobody was told of a signature that is not final yet, and so of its end neither.
        is_told = job.state is JobState.REJECTED
        move_case(
            session, job, before, reason, "undo", not_before=now, waiting_since=waited_since, is_announced=is_told
        )
        tell(session, job, "undo", reviewer, {})
        _send_after_all(session, job, reason)
        if before is JobState.HELD and not is_signed(job):
            _make_way(session, job)
        return ReviewOutcome(job.id, job.state, f"the decision is taken back; job {job.id} is {job.state.value} again")


def _send_after_all(session: Session, job: Job, reason: str) -> None:
    """Queue again what was cancelled for the rejection; what was replaced before by something else stays so."""
    for delivery in deliveries_of(session, job.id):
        if delivery.state is DeliveryState.CANCELLED and delivery.stopped_by_decision:
            move_delivery(
                session, delivery, DeliveryState.PENDING, reason, study_id=job.study_id, stopped_by_decision=False
            )


def _end_started(session: Session, decision: Review, reason: str) -> None:
    """End the jobs that a re-routing began: what they would answer, nobody asks any more."""
    for job_id in decision.started or ():
        started = session.get_one(Job, job_id, with_for_update=True)
        if started.state in WITHDRAWABLE:
            move_job(session, started, JobState.SUPERSEDED, reason)
        elif started.state is not JobState.SUPERSEDED:
            raise ReviewError(
                NamedCase(decision.job_id),
                f": {started.adapter} has answered already (job {started.id} is "
                f"{started.state.value}); decide about that one",
            )


def _make_way(session: Session, job: Job) -> None:
    """End a case that late images overtook while it was signed: the newer revision stands in its place."""
    newest = session.scalar(
        select(func.max(Job.revision)).where(
            Job.series_id == job.series_id,
            Job.adapter == job.adapter,
            Job.question_key == job.question_key,
            Job.unit_uid == job.unit_uid,
        )
    )
    if newest is not None and newest > job.revision:
        move_job(session, job, JobState.SUPERSEDED, f"late images made revision {newest}")
