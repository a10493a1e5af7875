"""Claims: which queued jobs a worker holds, for how long, and what becomes of one that fails.

Input: QUEUED jobs. Output: RUNNING jobs under a token and a lease of their own; each ends by itself. A worker that dies
stops renewing, and the dispatcher queues its jobs again. A worker whose claim was taken from it changes nothing.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from models.confidence import Outcome
from worker.db.columns import utc_now
from worker.db.preferred import ask_the_others
from worker.db.records import Job
from worker.db.renewal import renewing
from worker.db.sessions import Database
from worker.db.transitions import move_job
from worker.settings import Settings
from worker.states import JobState


@dataclass(frozen=True, slots=True)
class Claim:
    """A job that this worker holds."""

    job_id: str
    token: str
    adapter: str
    attempts: int


def claim_jobs(db: Database, settings: Settings, worker_name: str, at_most: int) -> list[Claim]:
    """Take the most urgent queued jobs, oldest first; a job that used up its attempts goes to a person instead.

    A job that failed before is taken alone: what kills its worker must not cost others their attempts again.
    """
    claims: list[Claim] = []
    with db.writing() as session:
        while len(claims) < at_most and (job := _most_urgent(session)) is not None:
            if job.attempts >= settings.jobs.max_attempts:
                _give_up(session, job)
                continue
            failed_before = job.attempts > 0
            if failed_before and claims:
                break  # it is next; nothing less urgent overtakes it
            claims.append(_claim(session, job, settings.jobs.lease_s, worker_name))
            if failed_before:
                break
    return claims


def _claim(session: Session, job: Job, lease_s: float, worker_name: str) -> Claim:
    token = uuid.uuid4().hex
    move_job(
        session,
        job,
        JobState.RUNNING,
        f"claimed by {worker_name}",
        attempts=job.attempts + 1,
        claim_token=token,
        claimed_by=worker_name,
        claim_expires_at=utc_now() + timedelta(seconds=lease_s),
    )
    return Claim(job.id, token, job.adapter, job.attempts)


def _most_urgent(session: Session) -> Job | None:
    return session.scalar(
        select(Job)
        .where(Job.state == JobState.QUEUED, Job.not_before <= utc_now())
        .order_by(Job.priority.desc(), Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def finish_claim(db: Database, claim: Claim, to_state: JobState, reason: str, **values: Any) -> bool:
    """Move a job on and give up the claim; return whether it was still this worker's."""
    with db.writing() as session:
        job = _still_ours(session, claim)
        if job is None or not move_job(session, job, to_state, reason, token=claim.token, claim_token=None, **values):
            return False
        if to_state is JobState.DECIDED:
            ask_the_others(session, job)
        return True


def end_in_review(db: Database, claim: Claim, reason: str) -> bool:
    """Hand a job that cannot be answered to a person; return whether it was still this worker's."""
    return finish_claim(
        db,
        claim,
        JobState.DECIDED,
        reason,
        decision=Outcome.REVIEW.value,
        decision_reason=reason,
        error=reason,
    )


def try_again(db: Database, settings: Settings, claim: Claim, error: str) -> bool:
    """Queue a failed job again, later each time, or hand it to a person; return whether a person has it now."""
    with db.writing() as session:
        job = _still_ours(session, claim)
        if job is None:
            return False
        pause_s = settings.jobs.retry_after_s * 2 ** (claim.attempts - 1)
        job.error = error
        move_job(
            session,
            job,
            JobState.QUEUED,
            f"attempt {claim.attempts} failed: {error}",
            token=claim.token,
            claim_token=None,
            not_before=utc_now() + timedelta(seconds=pause_s),
        )
        if job.attempts < settings.jobs.max_attempts:
            return False
        _give_up(session, job)
    return True


def wait_for_engine(db: Database, settings: Settings, claim: Claim, reason: str) -> bool:
    """Queue a job again that nobody was there to answer; it costs no attempt. Return False: no next step is due."""
    with db.writing() as session:
        job = _still_ours(session, claim)
        if job is not None:
            move_job(
                session,
                job,
                JobState.QUEUED,
                f"waits for the engine: {reason}",
                token=claim.token,
                claim_token=None,
                attempts=job.attempts - 1,
                error=reason,
                not_before=utc_now() + timedelta(seconds=settings.jobs.retry_after_s),
            )
    return False


def _give_up(session: Session, job: Job) -> None:
    """Hand a job that failed too often to a person."""
    reason = f"failed {job.attempts} times, last: {job.error or 'the worker died on it'}"
    move_job(
        session, job, JobState.DECIDED, reason, decision=Outcome.REVIEW.value, decision_reason=reason, claim_token=None
    )
    ask_the_others(session, job)


def _still_ours(session: Session, claim: Claim) -> Job | None:
    job = session.get_one(Job, claim.job_id)
    return job if job.state is JobState.RUNNING and job.claim_token == claim.token else None


def leases(db: Database, claims: Sequence[Claim], lease_s: float) -> AbstractContextManager[None]:
    """Renew claims while the work on them goes on; those that are given up meanwhile are left alone."""
    tokens = [claim.token for claim in claims]
    held = update(Job).where(Job.claim_token.in_(tokens), Job.state == JobState.RUNNING)
    later = timedelta(seconds=lease_s)
    return renewing(db, lease_s, lambda: held.values(claim_expires_at=utc_now() + later), action="infer")
