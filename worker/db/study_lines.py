"""The list of studies: what a page shows of each, and no more.

Input: a search, or where a page begins or ends. Output: lines, newest first. Statements read the columns that are
shown, for the lines of one page: their number and cost grow neither with the ledger nor with how far back the page is.
"Newest" is what was first received last; studies are numbered in that order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from worker.db.queries import study_state
from worker.db.records import Delivery, Instance, Job, Result, Series, Study
from worker.db.study_terms import found_by
from worker.states import DeliveryState, InstanceState, JobState, SeriesState

#: Lines of one page.
LINES = 50


@dataclass(frozen=True, slots=True)
class SeriesLine:
    """A series and where it went."""

    modality: str
    state: str
    #: Names of the adapters that took it; empty for none.
    adapters: str


@dataclass(frozen=True, slots=True)
class AnswerLine:
    """What an adapter said about a study; fields as in `worker.schemas.JobView`."""

    id: str
    adapter: str
    state: str
    findings: dict[str, Any] | None
    confidence: float | None
    calibrated: bool | None
    method: str | None
    #: There is an answer, or a decision without one.
    is_known: bool
    is_standin: bool
    #: Destination and state -> results there.
    sent: dict[tuple[str, str], int]


@dataclass(frozen=True, slots=True)
class StudyLine:
    """A study in the list; fields as in `worker.schemas.StudyView`."""

    id: int
    accession_number: str
    patient_id: str
    study_description: str
    state: str
    instances: int
    first_received_at: datetime
    series: tuple[SeriesLine, ...]
    answers: tuple[AnswerLine, ...]


@dataclass(frozen=True, slots=True)
class StudyPage:
    """A page of studies, the newest first."""

    lines: list[StudyLine]
    has_newer: bool
    has_older: bool


def study_lines(session: Session, *, before: int | None = None, after: int | None = None) -> StudyPage:
    """Return the page of the studies just before that of a number, just after it, or the newest.

    Where less than a page is newer than `after`, it is the first page.
    """
    ids = select(Study.id).limit(LINES + 1)
    if after is not None:
        newer = session.scalars(ids.where(Study.id > after).order_by(Study.id)).all()
        if len(newer) > LINES:
            return StudyPage(_lines(session, newer[LINES - 1 :: -1]), has_newer=True, has_older=True)
    is_first = before is None or after is not None
    older = session.scalars((ids if is_first else ids.where(Study.id < before)).order_by(Study.id.desc())).all()
    return StudyPage(_lines(session, older[:LINES]), has_newer=not is_first, has_older=len(older) > LINES)


def found_lines(session: Session, search: str) -> StudyPage:
    """Return the first page of what a search means."""
    found = found_by(session, search, limit=LINES + 1)
    return StudyPage(_lines(session, found[:LINES]), has_newer=False, has_older=len(found) > LINES)


def _lines(session: Session, ids: Sequence[int]) -> list[StudyLine]:
    columns = (Study.id, Study.accession_number, Study.patient_id, Study.study_description, Study.first_received_at)
    rows = session.execute(select(*columns).where(Study.id.in_(ids)).order_by(Study.id.desc())).all()
    series, jobs = _series(session, ids), _jobs(session, ids)
    counts = _instances(session, [row.id for rows_of in series.values() for row in rows_of])
    sent = _sent(session, [row.id for rows_of in jobs.values() for row in rows_of])
    return [_line(row, series[row.id], jobs[row.id], counts, sent) for row in rows]


def _series(session: Session, study_ids: Sequence[int]) -> dict[int, list[Any]]:
    columns = (Series.id, Series.study_id, Series.modality, Series.state, Series.route_adapter)
    return _by_study(session.execute(select(*columns).where(Series.study_id.in_(study_ids)).order_by(Series.id)))


def _jobs(session: Session, study_ids: Sequence[int]) -> dict[int, list[Any]]:
    columns = (Job.id, Job.study_id, Job.adapter, Job.state, Job.findings, Job.confidence, Job.answered_at)
    standin = Job.provenance["is_standin"].as_boolean().label("is_standin")
    wanted = select(*columns, Job.decision, standin).where(Job.study_id.in_(study_ids))
    return _by_study(session.execute(wanted.order_by(Job.created_at, Job.id)))


def _by_study(rows: Any) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.study_id].append(row)
    return found


def _instances(session: Session, series_ids: Sequence[int]) -> dict[int, int]:
    stored = (Instance.series_id.in_(series_ids), Instance.state == InstanceState.STORED)
    counted = select(Instance.series_id, func.count()).where(*stored).group_by(Instance.series_id)
    rows = session.execute(counted)
    return {series_id: count for series_id, count in rows}  # noqa: C416 - a result is iterable, but no mapping's argument


def _sent(session: Session, job_ids: Sequence[str]) -> dict[str, dict[tuple[str, DeliveryState], int]]:
    by = (Result.job_id, Delivery.destination, Delivery.state)
    counted = select(*by, func.count()).join(Delivery.result).where(Result.job_id.in_(job_ids)).group_by(*by)
    found: dict[str, dict[tuple[str, DeliveryState], int]] = defaultdict(dict)
    for job_id, destination, state, count in session.execute(counted):
        found[job_id][destination, state] = count
    return found


def _line(
    row: Any,
    series: Sequence[Any],
    jobs: Sequence[Any],
    counts: dict[int, int],
    sent: dict[str, dict[tuple[str, DeliveryState], int]],
) -> StudyLine:
    states: list[SeriesState] = [one.state for one in series]
    deliveries = [state for job in jobs for _, state in sent[job.id]]
    return StudyLine(
        id=row.id,
        accession_number=row.accession_number,
        patient_id=row.patient_id,
        study_description=row.study_description,
        state=study_state(states, [job.state for job in jobs], deliveries).value,
        instances=sum(counts.get(one.id, 0) for one in series),
        first_received_at=row.first_received_at,
        series=tuple(SeriesLine(one.modality, one.state.value, one.route_adapter or "") for one in series),
        answers=tuple(_answer(job, sent[job.id]) for job in jobs if job.state is not JobState.SUPERSEDED),
    )


def _answer(job: Any, sent: dict[tuple[str, DeliveryState], int]) -> AnswerLine:
    confidence = job.confidence or {}
    return AnswerLine(
        id=job.id,
        adapter=job.adapter,
        state=job.state.value,
        findings=job.findings,
        confidence=confidence.get("probability"),
        calibrated=confidence.get("calibrated"),
        method=confidence.get("method"),
        is_known=job.answered_at is not None or job.decision is not None,
        is_standin=bool(job.is_standin),
        sent={(destination, state.value): count for (destination, state), count in sorted(sent.items())},
    )
