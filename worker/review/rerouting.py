"""Wrong adapter: a person names another adapter or question, which is asked about the same images.

Input: a case, the adapter's name and its question. Output, in one transaction: new jobs of that adapter, and the end of
the old one (REJECTED, with the reason: what was sent of it is taken back). The new jobs are not begun before the
decision is final; one that is taken back in time ends them, and the old answer stands again. What the new adapter would
not have accepted by itself is asked all the same, and its answer comes back to a person. On failure `ReviewError`,
nothing is changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.headers import InstanceHeader
from dicom_node.report import Person
from models.adapter import AdapterDefinition, AdapterError, Unit
from models.adapter import adapters as known_adapters
from models.question import Question
from worker.audit.owed import telling
from worker.db.records import Instance, Job, Series
from worker.db.sessions import Database
from worker.db.transitions import record_event
from worker.db.units import asked_adapter
from worker.review.cases import SIGNABLE, ReviewOutcome, check_second_reader, find_case, open_case
from worker.review.decisions import end_case, until
from worker.review.errors import NamedCase, ReviewError
from worker.review.people import check_person
from worker.review.repeating import same_decision
from worker.review.shown import Shown
from worker.states import InstanceState, JobState

#: Jobs that no longer stand for an answer of theirs.
ENDED = (JobState.REJECTED, JobState.SUPERSEDED)


@dataclass(frozen=True, slots=True)
class Target:
    """What a case can be re-routed to."""

    adapter: str
    title: str
    #: Kind of question; empty where the adapter has but one.
    task: str


def targets(adapters: Mapping[str, AdapterDefinition], job_adapter: str, question_key: str) -> list[Target]:
    """Return what another adapter, or the same one, can be asked instead, with its own words and labels."""
    found = []
    for name, adapter in adapters.items():
        for task in sorted(adapter.tasks) or [""]:
            if (name, task) != (job_adapter, question_key) and _can_be_asked(adapter, task):
                found.append(Target(name, adapter.title, task))
    return found


def reroute(
    db: Database,
    job_id: str,
    adapter: str,
    reviewer: Person,
    reason: str,
    *,
    task: str = "",
    adapters: Mapping[str, AdapterDefinition] | None = None,
    seen: str = "",
    frames_seen: int | None = None,
    undo_s: float = 0,
) -> ReviewOutcome:
    """Ask another adapter, or the same one another question, about the images of a case.

    Raises:
        ReviewError: Nothing was changed.
    """
    check_person(reviewer)
    enabled = known_adapters() if adapters is None else adapters
    question = _question(enabled, adapter, task)
    with telling(db) as session:
        shown, final_at = Shown(seen, frames_seen), until(undo_s)
        asked = f"{adapter} ({task})" if task else adapter
        said = f"wrong adapter, {asked} is asked instead" + (f": {reason.strip()}" if reason.strip() else "")
        if before := same_decision(find_case(session, job_id), "reroute", reviewer, said, shown):
            return before
        job = open_case(session, job_id, reviewer, "reroute", shown=shown, states=SIGNABLE)
        check_second_reader(job, reviewer, "reroute")
        made = _jobs(session, job, enabled, enabled[adapter], question, reviewer.name)
        ids = [new.id for new in made]
        outcome = end_case(session, job, "reroute", reviewer, said, shown, final_at, ids)
        for new in made:
            new.not_before = final_at
            why = f"{reviewer.name} sent it here from {job.adapter}"
            record_event(session, "job", new.id, study_id=new.study_id, reason=why, to_state=JobState.QUEUED)
        when = f" in {undo_s:g} s unless that is taken back" if undo_s > 0 else ""
        message = f"{asked} is asked instead{when} ({len(made)} job{'s' if len(made) > 1 else ''}); {outcome.message}"
        return replace(outcome, message=message)


def _question(enabled: Mapping[str, AdapterDefinition], adapter: str, task: str) -> Question | None:
    """Return what the adapter is to be asked. Raises `ReviewError` where that cannot be."""
    if adapter not in enabled:
        raise ReviewError(f"adapter {adapter!r} is not enabled here; choose one of {', '.join(enabled)}")
    question = Question(task) if task else None
    try:
        enabled[adapter].asked(question)
    except AdapterError as error:
        raise ReviewError(str(error)) from error
    return question


def _jobs(
    session: Session,
    old: Job,
    adapters: Mapping[str, AdapterDefinition],
    adapter: AdapterDefinition,
    question: Question | None,
    person: str,
) -> list[Job]:
    """Commit one job for each unit of the new adapter among the old job's images."""
    series = session.get_one(Series, old.series_id, with_for_update=True)
    headers = _headers(session, old, adapters)
    if not headers:
        raise ReviewError(NamedCase(old.id), ": none of its images is here any more; have them sent again")
    accepted = [header for header in headers if adapter.acceptance.obstacle(header) is None] or headers
    doubts = [f"{person} sent it here from {old.adapter}"]
    if obstacle := adapter.acceptance.obstacle(accepted[0]):
        doubts.append(f"the adapter would not have taken it by itself: {obstacle}")
    by_series = adapter.unit is Unit.SERIES
    units = [series.series_instance_uid] if by_series else [header.sop_instance_uid for header in accepted]
    made = []
    for unit in units:
        revision = _revision(session, series, adapter.name, question, unit, by_series=by_series)
        made.append(
            Job(
                study_id=old.study_id,
                series_id=old.series_id,
                adapter=adapter.name,
                question=None if question is None else question.to_json(),
                question_key="" if question is None else question.key,
                unit_uid=unit,
                revision=revision,
                priority=max(old.priority, adapter.priority),
                doubts=doubts,
            )
        )
    session.add_all(made)
    session.flush()
    return made


def _headers(session: Session, old: Job, adapters: Mapping[str, AdapterDefinition]) -> Sequence[InstanceHeader]:
    """Return the headers of the old job's unit: of one instance, or of its revision of the series."""
    chosen = select(Instance.header).where(Instance.series_id == old.series_id, Instance.state == InstanceState.STORED)
    try:
        by_instance = asked_adapter(adapters, old).unit is Unit.INSTANCE
    except LookupError:
        by_instance = session.scalar(select(Instance.id).where(Instance.sop_instance_uid == old.unit_uid)) is not None
    chosen = (
        chosen.where(Instance.sop_instance_uid == old.unit_uid)
        if by_instance
        else chosen.where(Instance.revision <= old.revision)
    )
    return [InstanceHeader.from_json(header) for header in session.scalars(chosen.order_by(Instance.id))]


def _revision(
    session: Session, series: Series, adapter: str, question: Question | None, unit: str, *, by_series: bool
) -> int:
    """Return a new job's revision; one that was asked the same before stands in the way while it lives."""
    key = "" if question is None else question.key
    same = session.scalars(
        select(Job).where(Job.adapter == adapter, Job.question_key == key, Job.unit_uid == unit).order_by(Job.revision)
    ).all()
    if same and same[-1].state not in ENDED:
        last = same[-1]
        raise ReviewError(f"{adapter} is asked about this already: job {last.id} is {last.state.value}")
    revision = max([job.revision for job in same], default=0) + 1
    if not by_series:
        return revision
    # A series counts its revisions itself, and the next late image must not find this number taken.
    series.revision = max(series.revision, revision)
    return series.revision


def _can_be_asked(adapter: AdapterDefinition, task: str) -> bool:
    """Tell whether a task can be put without a site's own labels or unit."""
    try:
        adapter.asked(Question(task) if task else None)
    except AdapterError:
        return False
    return True
