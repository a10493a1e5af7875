"""Jobs that have no usable answer: with the reason, those that wait longest first.

Input: the ledger. Output: a page of them. What can be done about one is in `worker.review` (retry) and for results that
did not arrive in `worker.operations.destinations`.
"""

from __future__ import annotations

from sqlalchemy import func, select, union_all
from sqlalchemy.orm import Session

from worker.db.records import Job, Series, Study
from worker.operations.delivery_shapes import FailedJob, FailedJobPage
from worker.operations.pipeline import without_answer

LINES = 50


def failed_jobs(session: Session, *, offset: int = 0, limit: int = LINES, adapter: str = "") -> FailedJobPage:
    """Return jobs that wait for a person and whose answer is missing or cannot be read."""
    only = (Job.adapter == adapter,) if adapter else ()
    both = (select(Job.id, Job.waiting_since).where(*conditions, *only) for conditions in without_answer())
    found = union_all(*both).subquery()
    in_order = select(found.c.id).order_by(found.c.waiting_since, found.c.id)
    ids = session.scalars(in_order.offset(offset).limit(limit + 1)).all()
    wanted = (
        select(
            *(Job.id, Job.adapter, Job.state, Job.attempts, Job.waiting_since, Job.error, Job.decision_reason),
            *(Job.study_id, Series.modality, Study.study_instance_uid, Study.accession_number),
        )
        .join(Series, Series.id == Job.series_id)
        .join(Study, Study.id == Job.study_id)
        .where(Job.id.in_(ids[:limit]))
        .order_by(Job.waiting_since, Job.id)
    )
    jobs = []
    for row in session.execute(wanted):
        values = dict(row._mapping)
        reason = values.pop("error") or values["decision_reason"] or "no reason was kept"
        del values["decision_reason"]
        jobs.append(FailedJob(**values, reason=reason))
    return FailedJobPage(jobs=jobs, next_offset=offset + limit if len(ids) > limit else None)


def count_failed(session: Session) -> int:
    """Return how many there are."""
    counts = (select(func.count()).where(*conditions).scalar_subquery() for conditions in without_answer())
    return sum(session.execute(select(*counts)).one())
