"""The work list: what waits for a person, filtered and sorted, and how much of what there is.

Input: `Filters` and who looks. Output: lines, and counts. Filtering and sorting read an index that holds no answers
(`ix_jobs_waiting`), so that a page costs the same whether answers are long or short; answers are read for its lines
only. What waits is little beside what was ever received: words that studies are found by, and reviews, are looked up
for each case that waits. Nothing fails here but the database.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.orm import Session, aliased

from worker.db.columns import utc_now
from worker.db.identity import Identity
from worker.db.records import Job, Review, Study
from worker.db.review_records import CaseClaim
from worker.db.study_terms import is_found
from worker.states import JobState, Priority

Sort = Literal["urgency", "waiting", "newest", "least sure", "most sure", "adapter"]
SORTS: tuple[Sort, ...] = get_args(Sort)
Who = Literal["everything", "free for me", "open with me", "second reader"]
CASES: tuple[Who, ...] = get_args(Who)
#: Value of a `Priority` -> the ranks that are called so: adapters rank their answers between the three.
RANKS: dict[str, tuple[int, int]] = {
    Priority.STAT.value: (Priority.STAT.rank, 1000),
    Priority.HIGH.value: (Priority.HIGH.rank, Priority.STAT.rank - 1),
    Priority.ROUTINE.value: (-1000, Priority.HIGH.rank - 1),
}
LONGEST_SEARCH = 64
LINES = 50


@dataclass(frozen=True, slots=True)
class Filters:
    """What a person wants to see, in which order; empty means any."""

    adapter: str = ""
    modality: str = ""
    #: Value of a `Priority`.
    priority: str = ""
    who: Who = "everything"
    #: As in `worker.db.study_terms`: accession number, patient ID, patient's name or study description.
    search: str = ""
    sort: Sort = "urgency"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Filters:
        """Rebuild filters; what this version does not know takes the default."""
        sort, who, priority = stored.get("sort"), stored.get("who"), stored.get("priority")
        return cls(
            adapter=str(stored.get("adapter") or ""),
            modality=str(stored.get("modality") or ""),
            priority=priority if isinstance(priority, str) and priority in RANKS else "",
            who=who if who in CASES else "everything",
            search=str(stored.get("search") or "")[:LONGEST_SEARCH],
            sort=sort if sort in SORTS else "urgency",
        )


@dataclass(frozen=True, slots=True)
class Line:
    """One case of the work list."""

    job_id: str
    study_id: int
    adapter: str
    question: dict[str, Any] | None
    priority: int
    waiting_since: datetime
    modality: str
    accession_number: str
    patient_id: str
    study_description: str
    study_date: str
    findings: dict[str, Any] | None
    #: As in `worker.schemas.JobView`.
    confidence: float | None
    calibrated: bool | None
    method: str | None
    reason: str
    second_reader: bool
    is_standin: bool
    #: Who has it open now; empty where nobody has.
    open_with: str
    #: Account of who has it open.
    open_account: str


@dataclass(frozen=True, slots=True)
class WorkList:
    """A page of cases."""

    lines: list[Line]
    #: Cases that meet the filters.
    found: int
    #: All cases that wait.
    waiting: int


def priority_name(rank: int) -> str:
    """Return what a job's rank is called."""
    return next(name for name, (least, most) in RANKS.items() if least <= rank <= most)


def work_list(session: Session, filters: Filters, account: str, name: str, *, offset: int = 0) -> WorkList:
    """Return a page of the work list, as this person may see it."""
    chosen = _chosen(filters, Identity(account, name), session)
    page = chosen.order_by(*_order(filters.sort)).limit(LINES).offset(offset)
    count = chosen.with_only_columns(func.count()).scalar_subquery()
    waiting = select(func.count()).select_from(Job).where(Job.state == JobState.HELD).scalar_subquery()
    if filters.search:
        # Words are looked up for each case: once for the page and its count.
        rows = session.execute(page.add_columns(func.count().over(), waiting)).all()
        if rows:
            return WorkList(_lines(session, [row.id for row in rows]), *rows[0][1:])
    found = session.execute(select(count, waiting)).one()
    return WorkList(_lines(session, session.scalars(page).all() if found[0] else []), *found)


def waiting_for(who: Identity, *, but: str = "", filters: Filters | None = None) -> Select[str]:
    """Return the query for the ids of the cases that this person may decide about, in the order of the filters."""
    filters = filters or Filters()
    chosen = _chosen(filters, who).where(Job.id != but, *_free_for(who))
    return chosen.order_by(*_order(filters.sort))


def _chosen(filters: Filters, who: Identity, session: Session | None = None) -> Select[str]:
    chosen = select(Job.id).select_from(Job).where(Job.state == JobState.HELD)
    if filters.adapter:
        chosen = chosen.where(Job.adapter == filters.adapter)
    if filters.priority:
        least, most = RANKS[filters.priority]
        chosen = chosen.where(Job.priority.between(least, most))
    if filters.modality:
        chosen = chosen.where(Job.modality == filters.modality)
    if filters.search:
        chosen = chosen.where(is_found(Job.study_id, filters.search, session))
    if filters.who == "free for me":
        chosen = chosen.where(*_free_for(who))
    elif filters.who == "open with me":
        chosen = chosen.where(exists(_claims().where(who.where_same(CaseClaim))))
    elif filters.who == "second reader":
        chosen = chosen.where(Job.second_reader)
    return chosen


def _free_for(who: Identity) -> tuple[ColumnElement[bool], ...]:
    return (
        ~exists(_claims().where(~who.where_same(CaseClaim))),
        or_(~Job.second_reader, _asked_by(who).scalar_subquery() == 0),
    )


def _asked_by(who: Identity) -> Select[int]:
    """Count whether the one who asked for a second reader, the last to give an opinion, may be this person."""
    opinion = aliased(Review)
    last = (
        select(func.max(opinion.id))
        .where(opinion.job_id == Job.id, opinion.action == "opinion")
        .correlate(Job)
        .scalar_subquery()
    )
    return select(func.count()).select_from(Review).where(Review.id == last, who.where_taken_for(Review))


def _claims() -> Select[str]:
    return select(CaseClaim.job_id).where(CaseClaim.job_id == Job.id, CaseClaim.expires_at > utc_now())


def _order(sort: Sort) -> tuple[ColumnElement[Any], ...]:
    urgency = (Job.priority.desc(), Job.waiting_since.asc(), Job.id.asc())
    # What has no probability at all is the least sure.
    probability = func.coalesce(Job.probability, -1.0)
    first: dict[Sort, tuple[ColumnElement[Any], ...]] = {
        "urgency": (),
        "waiting": (Job.waiting_since.asc(),),
        "newest": (Job.waiting_since.desc(),),
        "least sure": (probability,),
        "most sure": (probability.desc(),),
        "adapter": (Job.adapter.asc(),),
    }
    return (*first[sort], *urgency)


def counts(session: Session) -> dict[str, Counter[str]]:
    """Return filter -> value -> cases that wait with it."""
    values = (Job.adapter, Job.modality, Job.priority)
    counted = select(*values, func.count()).where(Job.state == JobState.HELD).group_by(*values)
    found: dict[str, Counter[str]] = {name: Counter() for name in ("adapter", "modality", "priority")}
    for adapter, modality, priority, count in session.execute(counted):
        for name, value in (("adapter", adapter), ("modality", modality), ("priority", priority_name(priority))):
            found[name][value] += count
    return found


def _lines(session: Session, ids: Sequence[str]) -> list[Line]:
    standin = Job.provenance["is_standin"].as_boolean().label("is_standin")
    wanted = (
        select(
            *(Job.id, Job.study_id, Job.adapter, Job.modality, Job.question, Job.priority, Job.waiting_since),
            *(Job.findings, Job.confidence, standin, Job.decision_reason, Job.error, Job.second_reader),
            *(Study.accession_number, Study.patient_id, Study.study_description, Study.study_date),
            *(CaseClaim.reviewer_name.label("open_with"), CaseClaim.account.label("open_account")),
        )
        .join(Study, Study.id == Job.study_id)
        .outerjoin(CaseClaim, and_(CaseClaim.job_id == Job.id, CaseClaim.expires_at > utc_now()))
        .where(Job.id.in_(ids))
    )
    rows = {row.id: row for row in session.execute(wanted)}
    return [_line(rows[job_id]) for job_id in ids if job_id in rows]


def _line(row: Any) -> Line:
    confidence = row.confidence or {}
    return Line(
        job_id=row.id,
        study_id=row.study_id,
        adapter=row.adapter,
        question=row.question,
        priority=row.priority,
        waiting_since=row.waiting_since,
        modality=row.modality,
        accession_number=row.accession_number,
        patient_id=row.patient_id,
        study_description=row.study_description,
        study_date=row.study_date,
        findings=row.findings,
        confidence=confidence.get("probability"),
        calibrated=confidence.get("calibrated"),
        method=confidence.get("method"),
        reason=row.decision_reason or row.error or "",
        second_reader=row.second_reader,
        is_standin=bool(row.is_standin),
        open_with=row.open_with or "",
        open_account=row.open_account or "",
    )
