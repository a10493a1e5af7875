"""The tables of people at work on the queue: who has which case open, and the work lists they keep."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from worker.db.columns import Record, given_name_key, utc_now
from worker.db.records import Job, Review
from worker.states import JobState


class CaseClaim(Record):
    """A case that a person has open: nobody else decides about it until the lease runs out."""

    __tablename__ = "case_claims"
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    #: As in `Review`.
    account: Mapped[str] = mapped_column(String(64), default="")
    reviewer_name: Mapped[str] = mapped_column(String(256))
    name_key: Mapped[str] = mapped_column(String(256), default=given_name_key, server_default="")
    claimed_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class WorkListView(Record):
    """Filters and order of a person's work list; an address names it by its id, so that no search is in an address."""

    __tablename__ = "work_list_views"
    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=lambda: uuid.uuid4().hex)
    account: Mapped[str] = mapped_column(String(64), index=True)
    #: Empty for one that was not saved: it is forgotten some time after it was last used.
    name: Mapped[str] = mapped_column(String(64), default="")
    #: `worker.db.work_list.Filters` as JSON.
    filters: Mapped[dict[str, Any]]
    used_at: Mapped[datetime] = mapped_column(default=utc_now)


#: What a person does to sign (`Review.action`).
SIGNING = ("accept", "edit")


#: A person signed the answer; its report is written, or about to be.
_SIGNED = (JobState.ACCEPTED, JobState.VERIFIED)


def is_signed(job: Job) -> bool:
    """Tell whether what a person signed stands: also where a correction of it could not be written, and waits."""
    return job.state in _SIGNED or (job.state is JobState.HELD and any(result.verified for result in job.results))


def standing_signature(job: Job, at: datetime | None = None) -> Review | None:
    """Return what a person signed last, or last before a time; comments and what was taken back stand beside it."""
    signed = (review for review in reversed(job.reviews) if review.action in SIGNING and review.undone_at is None)
    return next((review for review in signed if at is None or review.decided_at <= at), None)


def signing_review(job: Job) -> Review:
    """Return what a person signed last, of a job that is signed."""
    found = standing_signature(job)
    if found is None:
        raise LookupError(f"job {job.id} is {job.state.value}, and nobody has signed it")
    return found
