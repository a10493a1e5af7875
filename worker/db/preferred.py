"""Of several series of a study that show the same body part to one adapter, only the best is asked about.

Input: a series that an adapter takes by itself, and the other series of its study. Output: why it is not asked, in
words, or nothing; or, where the preferred series gave no answer, the others back on their way to assembly. Everything
happens in the caller's transaction, under a lock on the study, so that two series that become whole at once see each
other. What is compared stands in `dicom_node.series_choice`; who is compared:

- series with the same frame of reference, of which the better one covers what the worse one shows: a chest beside an
  abdomen, or a second examination, is asked as well, and so is one of which this cannot be told from headers;
- series that the adapter takes by its own conditions: one that a site rule sends to it is always asked;
- a series whose answer is out already stays asked, whatever comes later.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.headers import InstanceHeader
from dicom_node.series_choice import covers, rank_series
from models.adapter import AdapterDefinition
from worker.db.columns import utc_now
from worker.db.records import Instance, Job, Series, Study
from worker.db.transitions import move_job, move_series
from worker.states import InstanceState, JobState, SeriesState

#: What `route.rule` says of a series that is not asked because another one is.
RULE = "preferred series"
#: Jobs that may still be answered, or are being.
_TO_BE_ANSWERED = (JobState.QUEUED, JobState.RUNNING)


def why_not_asked(
    session: Session, series: Series, adapter: AdapterDefinition, headers: Sequence[InstanceHeader]
) -> str | None:
    """Return why another series of the study is asked in place of this one, or None where this one is to be asked.

    In the latter case worse series whose jobs have not begun are not asked any more: their jobs are superseded.
    """
    # Two series of one study take turns here. Rows that refer to the study lock its key, which this lock must allow.
    session.scalars(select(Study.id).where(Study.id == series.study_id).with_for_update(key_share=True)).one()
    if any(job.generation is not None for job in _jobs(session, series, adapter.name)):
        return None
    for other in _asked_series(session, series, adapter.name):
        theirs = _accepted_headers(session, other, adapter)
        uids = {series.series_instance_uid: headers, other.series_instance_uid: theirs}
        if not theirs or len(uids) < 2:
            continue
        better, worse = rank_series(uids)
        if not covers(uids[better.series_instance_uid], uids[worse.series_instance_uid]):
            continue
        reason = f"not asked: {worse.beaten_by}"
        if worse.series_instance_uid == series.series_instance_uid:
            return reason
        _ask_no_more(session, other, adapter.name, reason)
    return None


def may_still_come(session: Session, series: Series, adapter: AdapterDefinition) -> bool:
    """Return whether other series of the study are being received, of which one may be better than this one."""
    waiting = select(Series.id).where(
        Series.study_id == series.study_id,
        Series.id != series.id,
        Series.state == SeriesState.RECEIVING,
        Series.due_at.is_not(None),
        Series.modality.in_(adapter.acceptance.modalities),
    )
    return session.scalars(waiting.limit(1)).first() is not None


def ask_the_others(session: Session, job: Job) -> None:
    """A job ended without an answer: let assembly look again at the series that were not asked because of it."""
    if job.generation is not None:
        return
    set_aside = select(Series).where(
        Series.study_id == job.study_id, Series.id != job.series_id, Series.route_rule == RULE
    )
    for other in session.scalars(set_aside.with_for_update()).all():
        if other.state not in (SeriesState.ROUTED, SeriesState.UNROUTED):
            continue
        reason = f"the series that was preferred gave no answer ({job.error or 'see its job'})"
        now: datetime = utc_now()
        if move_series(session, other, SeriesState.RECEIVING, reason, route_rule=None, due_at=now):
            # Assembly looks at what is new: all of it is, to the adapter.
            for row in session.scalars(select(Instance).where(Instance.series_id == other.id)):
                row.revision = None


def _asked_series(session: Session, series: Series, adapter: str) -> list[Series]:
    """Return the other series of the study that the adapter took by itself and has answered, or still may."""
    others = session.scalars(
        select(Series)
        .where(
            Series.study_id == series.study_id,
            Series.id != series.id,
            Series.state == SeriesState.ROUTED,
            Series.route_rule.startswith("adapter: "),
        )
        .order_by(Series.id)
    ).all()
    taken = [other for other in others if adapter in (other.route_adapter or "").split(",")]
    return [other for other in taken if _is_answered_or_may_be(_jobs(session, other, adapter))]


def _is_answered_or_may_be(jobs: Sequence[Job]) -> bool:
    return bool(jobs) and (jobs[-1].state in _TO_BE_ANSWERED or jobs[-1].generation is not None)


def _jobs(session: Session, series: Series, adapter: str) -> Sequence[Job]:
    by_revision = select(Job).where(Job.series_id == series.id, Job.adapter == adapter).order_by(Job.revision)
    return session.scalars(by_revision).all()


def _accepted_headers(session: Session, series: Series, adapter: AdapterDefinition) -> list[InstanceHeader]:
    stored = select(Instance).where(Instance.series_id == series.id, Instance.state == InstanceState.STORED)
    headers = [InstanceHeader.from_json(row.header) for row in session.scalars(stored.order_by(Instance.id))]
    return [header for header in headers if adapter.acceptance.obstacle(header) is None]


def _ask_no_more(session: Session, worse: Series, adapter: str, reason: str) -> None:
    """Take the worse series' jobs back, where none of them has begun."""
    jobs = [job for job in _jobs(session, worse, adapter) if job.state is not JobState.SUPERSEDED]
    if not jobs or any(job.state is not JobState.QUEUED for job in jobs):
        return
    if all(move_job(session, job, JobState.SUPERSEDED, reason) for job in jobs):
        worse.route_rule, worse.route_reason = RULE, reason
