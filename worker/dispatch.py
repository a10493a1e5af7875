"""Find committed work that nobody works on, and ring for it; rescue what died.

Input: rows in a waiting state. Output: doorbell rings, and RUNNING jobs whose lease ran out back in QUEUED. This is why
losing every broker message loses no work.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from sqlalchemy import select

from worker.celery_app import Doorbell
from worker.db.records import Delivery, Job, Series, utc_now
from worker.db.sessions import Database
from worker.db.transitions import move_job
from worker.states import DeliveryState, JobState

log = structlog.get_logger()

#: Rows of one kind that one look rings for: a backlog is worked off in order of urgency anyway.
RINGS_AT_ONCE = 200
#: States in which a job waits for the steps worker.
TO_FINISH = (JobState.GENERATED, JobState.DECIDED, JobState.ACCEPTED)


class Dispatcher:
    """Looks for waiting work; remembers what it rang for, so that it does not ring for the same row every second."""

    def __init__(self, db: Database, doorbell: Doorbell, ring_again_s: float) -> None:
        """Take the database to look at and the bell to ring."""
        self._db = db
        self._doorbell = doorbell
        self._ring_again_s = ring_again_s
        self._rung: dict[tuple[str, object], float] = {}

    def look(self) -> int:
        """Rescue, then ring for everything that waits; return the number of rings."""
        rescue_jobs(self._db)
        with self._db.reading() as session:
            now = utc_now()
            due_series = session.scalars(select(Series.id).where(Series.due_at <= now).limit(RINGS_AT_ONCE)).all()
            queued = session.scalars(
                select(Job.id)
                .where(Job.state == JobState.QUEUED, Job.not_before <= now)
                .order_by(Job.priority.desc(), Job.created_at)
                .limit(RINGS_AT_ONCE)
            ).all()
            to_finish = session.scalars(select(Job.id).where(Job.state.in_(TO_FINISH)).limit(RINGS_AT_ONCE)).all()
            destinations = session.scalars(
                select(Delivery.destination)
                .where(Delivery.state == DeliveryState.PENDING, Delivery.not_before <= now)
                .distinct()
            ).all()
        waiting: dict[tuple[str, object], Callable[[], None]] = {}
        for series_id in due_series:
            waiting["assemble", series_id] = lambda i=series_id: self._doorbell.ring_assemble(i)  # type: ignore[misc]
        for job_id in queued:
            waiting["infer", job_id] = lambda i=job_id: self._doorbell.ring_infer(i)  # type: ignore[misc]
        for job_id in to_finish:
            waiting["finish", job_id] = lambda i=job_id: self._doorbell.ring_finish(i)  # type: ignore[misc]
        for destination in destinations:
            waiting["deliver", destination] = lambda i=destination: self._doorbell.ring_deliver(i)  # type: ignore[misc]
        return self._ring(waiting)

    def _ring(self, waiting: dict[tuple[str, object], Callable[[], None]]) -> int:
        now = time.monotonic()
        self._rung = {key: at for key, at in self._rung.items() if key in waiting}
        rings = 0
        for key, ring in waiting.items():
            if now - self._rung.get(key, -self._ring_again_s) >= self._ring_again_s:
                self._rung[key] = now
                ring()
                rings += 1
        return rings


def rescue_jobs(db: Database) -> int:
    """Queue again the jobs whose worker stopped renewing its lease; return how many."""
    with db.reading() as session:
        expired = select(Job.id).where(Job.state == JobState.RUNNING, Job.claim_expires_at < utc_now())
        job_ids = session.scalars(expired).all()
    rescued = 0
    for job_id in job_ids:
        with db.writing() as session:
            job = session.get_one(Job, job_id, with_for_update=True)
            if job.state is not JobState.RUNNING or job.claim_expires_at is None or job.claim_expires_at >= utc_now():
                continue
            reason = f"worker {job.claimed_by} stopped renewing its lease on attempt {job.attempts}"
            job.error = reason
            if move_job(session, job, JobState.QUEUED, reason, token=job.claim_token, claim_token=None):
                log.warning("job rescued", action="rescue", job_id=job_id, attempt=job.attempts)
                rescued += 1
    return rescued
