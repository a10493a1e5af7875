"""Changes of jobs that others are still to be told of: written with the change, gone when the events are written.

Input: a job as it moves. Output: a row in the same transaction, and queries for what is due. A decision that its person
can still take back is not told.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Select, String, Text, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from worker.db.columns import Record, utc_now
from worker.db.records import Job
from worker.states import JobState

#: States that others may want to know of.
ANNOUNCED = (JobState.RELEASED, JobState.HELD, JobState.VERIFIED, JobState.REJECTED, JobState.SUPERSEDED)


class Announcement(Record):
    """One change of a job's state that nobody was told of yet."""

    __tablename__ = "announcements"
    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), index=True)
    at: Mapped[datetime] = mapped_column(default=utc_now)
    from_state: Mapped[str] = mapped_column(String(32))
    to_state: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(Text, default="")


def note_change(session: Session, job: Job, from_state: JobState, reason: str) -> None:
    """Keep in mind that others are to be told where a job stands now."""
    if job.state in ANNOUNCED:
        session.add(Announcement(job_id=job.id, from_state=from_state.value, to_state=job.state.value, reason=reason))


def to_announce() -> Select[str]:
    """Return the query for the ids of jobs of which something is to be told now."""
    can_be_taken_back = (Job.state == JobState.REJECTED) & (Job.not_before > utc_now())
    return select(Job.id).where(Job.id.in_(select(Announcement.job_id)), ~can_be_taken_back)


def changes_of(job_id: str) -> Select[Announcement]:
    """Return the query for what is to be told of a job, in the order in which it happened."""
    return select(Announcement).where(Announcement.job_id == job_id).order_by(Announcement.id)
