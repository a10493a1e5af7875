"""Find committed work that nobody works on, and ring for it; rescue what died.

Input: rows in a waiting state. Output: doorbell rings, and RUNNING jobs whose lease ran out back in QUEUED. This is why
losing every broker message loses no work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import select

from worker.celery_app import INFERENCE_QUEUE, STEPS_QUEUE, Doorbell
from worker.db.announcements import to_announce
from worker.db.columns import utc_now
from worker.db.commitments import due_reports
from worker.db.records import Delivery, Job, Series
from worker.db.retractions import to_retract
from worker.db.sessions import Database
from worker.db.transitions import move_job
from worker.states import DeliveryState, JobState

log = structlog.get_logger()

#: Rows of one kind that one look rings for: a backlog is worked off in order of urgency anyway.
RINGS_AT_ONCE = 200
#: States in which a job waits for the steps worker.
TO_FINISH = (JobState.GENERATED, JobState.DECIDED, JobState.ACCEPTED)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A row that waits, and how to ring for it."""

    task: str
    argument: Any
    ring: Callable[[Any], None]

    @property
    def key(self) -> tuple[str, object]:
        return self.task, self.argument


class Dispatcher:
    """Looks for waiting work; remembers what it rang for, so that it does not ring for the same row every second."""

    def __init__(
        self, db: Database, doorbell: Doorbell, ring_again_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the database to look at, the bell to ring, and the clock (seconds) by which it rings again."""
        self._db = db
        self._doorbell = doorbell
        self._ring_again_s = ring_again_s
        self._clock = clock
        self._rung: dict[str, dict[tuple[str, object], float]] = {}

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
            to_finish = session.scalars(
                select(Job.id).where(Job.state.in_(TO_FINISH), Job.not_before <= now).limit(RINGS_AT_ONCE)
            ).all()
            rejected = session.scalars(to_retract().limit(RINGS_AT_ONCE)).all()
            untold = session.scalars(to_announce().limit(RINGS_AT_ONCE)).all()
            destinations = session.scalars(
                select(Delivery.destination)
                .where(Delivery.state == DeliveryState.PENDING, Delivery.not_before <= now)
                .distinct()
            ).all()
            unconfirmed = session.scalars(
                select(Delivery.destination)
                .where(Delivery.state == DeliveryState.DELIVERED, Delivery.confirm_at <= now)
                .distinct()
            ).all()
            reports = due_reports(session, now)[:RINGS_AT_ONCE]
        bell, unfinished = self._doorbell, dict.fromkeys((*to_finish, *rejected, *untold))
        rings = self._ring(INFERENCE_QUEUE, [_Waiting("infer", job_id, bell.ring_infer) for job_id in queued])
        return rings + self._ring(
            STEPS_QUEUE,
            [
                *(_Waiting("assemble", series_id, bell.ring_assemble) for series_id in due_series),
                *(_Waiting("finish", job_id, bell.ring_finish) for job_id in unfinished),
                *(_Waiting("deliver", destination, bell.ring_deliver) for destination in destinations),
                *(_Waiting("confirm", destination, bell.ring_confirm) for destination in unconfirmed),
                *(_Waiting("report", request_id, bell.ring_report_commitment) for request_id in reports),
            ],
        )

    def _ring(self, queue: str, waiting: list[_Waiting]) -> int:
        """Ring for what was not rung for lately, but not for more than waits: a backlog must not flood the broker."""
        now = self._clock()
        rung = self._rung.get(queue, {})
        self._rung[queue] = rung = {row.key: rung[row.key] for row in waiting if row.key in rung}
        due = [row for row in waiting if now - rung.get(row.key, -self._ring_again_s) >= self._ring_again_s]
        if not due:
            return 0
        unheard = self._doorbell.rings_waiting(queue)
        if unheard is None:
            return 0  # the broker is away: nothing is rung for, so that all of it is when the broker is back
        due = due[: max(len(waiting) - unheard, 0)]
        for row in due:
            rung[row.key] = now
            row.ring(row.argument)
        return len(due)


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
