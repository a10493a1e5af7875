"""Rows -> what people and scripts are shown: the ledger, the review queue; and the look-ups that the steps share.

Input: a session of `Database.reading()` (or the caller's own transaction). Output: the shapes of `worker.schemas`, or
records. The number of SQL statements does not grow with the number of studies. What cannot be found, or is not unique,
raises `QueryError` in words a person can act on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session, defer, joinedload, selectinload

from worker.db import views
from worker.db.records import Delivery, Event, Instance, Job, Result, Study
from worker.db.study_terms import found_by
from worker.schemas import ReviewCase, StudyDetail, StudyView
from worker.states import DeliveryState, JobState, SeriesState, StudyState

#: Studies that one statement reads the rows of: databases take so many values at once, and no more.
AT_ONCE = 1000
#: Shortest beginning of a job id that is looked for.
PREFIX_AT_LEAST = 4

WAITING_SERIES = frozenset({SeriesState.RECEIVING, SeriesState.STABLE})
WORKING_JOBS = frozenset({JobState.QUEUED, JobState.RUNNING, JobState.GENERATED, JobState.DECIDED, JobState.ACCEPTED})
UNDERWAY = frozenset({DeliveryState.PENDING, DeliveryState.SENDING})
#: Deliveries that can still be stopped; one that is being sent cannot.
UNSENT = frozenset({DeliveryState.PENDING, DeliveryState.DEAD})


class QueryError(LookupError):
    """What was asked for is not there, or not unique; the message says what to ask instead."""


def study_state(
    series: Collection[SeriesState], jobs: Collection[JobState], deliveries: Collection[DeliveryState]
) -> StudyState:
    """Derive where a study stands. What still moves by itself comes first, then what waits for a person."""
    if any(state in WAITING_SERIES for state in series) or not series:
        return StudyState.RECEIVING
    if any(state in WORKING_JOBS for state in jobs):
        return StudyState.PROCESSING
    if DeliveryState.DEAD in deliveries:
        return StudyState.DELIVERY_FAILED
    if JobState.HELD in jobs:
        return StudyState.HELD
    if any(state in UNDERWAY for state in deliveries):
        return StudyState.DELIVERING
    if DeliveryState.UNCONFIRMED in deliveries:
        return StudyState.UNCONFIRMED
    return StudyState.DONE if jobs else StudyState.UNROUTED


def studies(session: Session, *, limit: int | None = None, offset: int = 0, search: str = "") -> list[StudyView]:
    """Return the ledger, newest study first.

    Args:
        session: An open session.
        limit: At most so many; None for all.
        offset: Leave out so many of the newest.
        search: As in `worker.db.study_terms`; empty for all.
    """
    if search:
        ids = found_by(session, search, limit=limit, offset=offset)
    else:
        # Of the studies that are left out an index alone tells the number.
        ids = session.scalars(select(Study.id).order_by(Study.id.desc()).limit(limit).offset(offset)).all()
    return [view for start in range(0, len(ids), AT_ONCE) for view in _views(session, ids[start : start + AT_ONCE])]


def _views(session: Session, ids: Sequence[int]) -> Iterator[StudyView]:
    wanted = select(Study).where(Study.id.in_(ids)).order_by(Study.id.desc())
    found = session.scalars(wanted.options(*_ledger_options())).all()
    counts = _instance_counts(session, found)
    return (views.study_view(study, _state_of(study), counts) for study in found)


def study(session: Session, reference: str) -> list[StudyDetail]:
    """Return the studies with this Study Instance UID or accession number, each with its history.

    Raises:
        QueryError: There is none.
    """
    meant = or_(Study.study_instance_uid == reference, Study.accession_number == reference)
    found = _details(session, _whole(session, meant)) if reference else []
    if not found:
        raise QueryError(f"no study has the UID or accession number {reference!r}; `dicom-worker studies` lists them")
    return found


def study_numbered(session: Session, study_id: int) -> StudyDetail | None:
    """Return the study with this `StudyView.id` and its history, or None."""
    return next(iter(_details(session, _whole(session, Study.id == study_id))), None)


def whole_study(session: Session, study_id: int) -> Study | None:
    """Return the study with this `StudyView.id`, loaded with all that belongs to it but images and history, or None."""
    return next(iter(_whole(session, Study.id == study_id)), None)


def detail_of(session: Session, study: Study) -> StudyDetail:
    """Return a study of `whole_study` with its history."""
    return _details(session, [study])[0]


def _whole(session: Session, meant: ColumnElement[bool]) -> Sequence[Study]:
    options = (*_ledger_options(details=True), selectinload(Study.jobs).selectinload(Job.reviews))
    wanted = select(Study).where(meant).order_by(Study.first_received_at, Study.id)
    return session.scalars(wanted.options(*options)).all()


def _details(session: Session, found: Sequence[Study]) -> list[StudyDetail]:
    counts = _instance_counts(session, found)
    history = defaultdict(list)
    for event in session.scalars(select(Event).where(Event.study_id.in_([row.id for row in found])).order_by(Event.id)):
        history[event.study_id].append(event)
    return [views.study_detail(row, _state_of(row), counts, history[row.id]) for row in found]


def review_queue(session: Session, *, limit: int | None = None, offset: int = 0) -> list[ReviewCase]:
    """Return the jobs that wait for a person: most urgent first, then the one that waits longest."""
    wanted = _cases().where(Job.state == JobState.HELD).limit(limit).offset(offset)
    found = session.scalars(wanted.order_by(Job.priority.desc(), Job.created_at, Job.id)).all()
    return [views.review_case(job) for job in found]


def review_case(session: Session, reference: str) -> ReviewCase:
    """Return one job as a reviewer sees it; `reference` and errors as in `find_job`."""
    job_id = find_job(session, reference).id
    return views.review_case(session.scalars(_cases().where(Job.id == job_id)).one())


def find_job(session: Session, reference: str) -> Job:
    """Return the job that a person means: by its id, the beginning of it, or an accession number.

    An accession number means the one job of its study that waits for a person, else its only current job.

    Raises:
        QueryError: No job, or several, are meant.
    """
    exact = session.get(Job, reference)
    if exact is not None:
        return exact
    found = _jobs_of_accession(session, reference)
    if not found and len(reference) >= PREFIX_AT_LEAST:
        found = session.scalars(select(Job).where(Job.id.startswith(reference, autoescape=True)).limit(20)).all()
    if not found:
        raise QueryError(
            f"no job has the id or accession number {reference!r}; an id can be shortened to its first "
            f"{PREFIX_AT_LEAST} characters or more, `dicom-worker review list` shows them"
        )
    if len(found) > 1:
        lines = "".join(f"\n  {job.id}  {job.adapter}  {job.state.value}" for job in found)
        raise QueryError(f"{reference!r} means {len(found)} jobs, name one by its id:{lines}")
    return found[0]


def earlier_jobs(session: Session, job: Job) -> list[Job]:
    """Return the jobs of earlier revisions of the same unit with the same adapter, latest first, with their results."""
    wanted = select(Job).where(
        Job.series_id == job.series_id,
        Job.adapter == job.adapter,
        Job.question_key == job.question_key,
        Job.unit_uid == job.unit_uid,
        Job.revision < job.revision,
    )
    return list(session.scalars(wanted.order_by(Job.revision.desc()).options(selectinload(Job.results))))


def deliveries_of(session: Session, job_id: str) -> list[Delivery]:
    """Return all deliveries of a job's results, with the results, in the order they were made."""
    wanted = select(Delivery).join(Delivery.result).where(Result.job_id == job_id).order_by(Delivery.id)
    return list(session.scalars(wanted.options(joinedload(Delivery.result))))


def _jobs_of_accession(session: Session, accession_number: str) -> Sequence[Job]:
    if not accession_number:
        return []
    wanted = select(Job).join(Job.study).where(Study.accession_number == accession_number)
    current = session.scalars(wanted.where(Job.state != JobState.SUPERSEDED).order_by(Job.created_at, Job.id)).all()
    return [job for job in current if job.state is JobState.HELD] or current


def _cases() -> Select[Job]:
    return select(Job).options(
        joinedload(Job.study),
        joinedload(Job.series),
        selectinload(Job.reviews),
        selectinload(Job.results).selectinload(Result.deliveries),
    )


def _ledger_options(*, details: bool = False) -> Iterable[Any]:
    jobs = selectinload(Study.jobs)
    loaded = (jobs.selectinload(Job.results).selectinload(Result.deliveries), jobs.joinedload(Job.series))
    # The raw answers (each token with its probability) are by far the largest columns, and lists do not show them.
    unread = () if details else (jobs.options(defer(Job.generation), defer(Job.model_input)),)
    return (selectinload(Study.series), *loaded, *unread)


def _instance_counts(session: Session, found: Sequence[Study]) -> views.InstanceCounts:
    """Count instances by series and state without loading them: a study can have thousands."""
    series_ids = [series.id for study in found for series in study.series]
    counted = (
        select(Instance.series_id, Instance.state, func.count())
        .where(Instance.series_id.in_(series_ids))
        .group_by(Instance.series_id, Instance.state)
    )
    return {(series_id, state): count for series_id, state, count in session.execute(counted)}


def _state_of(study: Study) -> StudyState:
    deliveries = [delivery.state for job in study.jobs for result in job.results for delivery in result.deliveries]
    return study_state([series.state for series in study.series], [job.state for job in study.jobs], deliveries)
