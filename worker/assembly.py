"""Series: receiving -> stable -> routed -> jobs, in one transaction.

Input: series rows whose clock (`due_at`) has come, or that something new arrived for. Output: the route decision and
the jobs, committed together. When the series is not whole yet, only its clock is set anew; a restart forgets nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.completeness import is_complete_by_itself
from dicom_node.headers import InstanceHeader
from dicom_node.volumes import geometry
from models.adapter import AdapterDefinition, Unit
from worker.db import preferred
from worker.db.columns import utc_now
from worker.db.records import Association, Instance, Job, Series
from worker.db.review_records import is_signed
from worker.db.sessions import Database
from worker.db.transitions import move_job, move_series
from worker.routing import Assignment, RouteDecision, SeriesSummary, route
from worker.series_preference import not_asked
from worker.settings import Settings
from worker.states import InstanceState, JobState, Priority, SeriesState

log = structlog.get_logger()

#: Jobs that a newer revision replaces at once: nobody outside has seen an answer of theirs.
NOT_YET_OUT = (JobState.QUEUED, JobState.RUNNING, JobState.GENERATED, JobState.DECIDED, JobState.HELD)


def assemble(db: Database, settings: Settings, adapters: Mapping[str, AdapterDefinition], series_id: int) -> list[str]:
    """Look at a series; if it is whole, route it and commit its jobs.

    Returns:
        Ids of the jobs that were committed.
    """
    with db.writing() as session:
        series = session.scalar(select(Series).where(Series.id == series_id).with_for_update())
        if series is None or series.state is not SeriesState.RECEIVING:
            return []
        rows = session.scalars(select(Instance).where(Instance.series_id == series_id).order_by(Instance.id)).all()
        usable = [row for row in rows if row.state is InstanceState.STORED]
        headers = {row.id: InstanceHeader.from_json(row.header) for row in usable}
        new = [row for row in usable if row.revision is None]
        if not new:
            series.due_at = None
            if rows and not usable:
                _leave_alone(session, series, rows)
            return []
        sign = _sign_of_completeness(session, settings, series, new, headers)
        if sign is None:
            since = series.last_instance_at if series.at_source is None else utc_now()
            series.due_at = since + timedelta(seconds=settings.dicom.stable_after_s)
            return []
        counted = {"at_source": None, "fetch_tries": 0, "fetch_after": None}
        move_series(session, series, SeriesState.STABLE, sign, due_at=None, **counted)
        decision = route(_summary(rows, usable, headers), settings.routes, adapters)
        asked = _best_series_only(session, series, headers, decision, adapters)
        jobs = _commit_route(session, series, new, asked, adapters)
        if not decision.is_by_site:
            _wait_for_better_ones(session, settings, series, jobs, adapters)
        return [job.id for job in jobs]


def _best_series_only(
    session: Session,
    series: Series,
    headers: Mapping[int, InstanceHeader],
    decision: RouteDecision,
    adapters: Mapping[str, AdapterDefinition],
) -> RouteDecision:
    """Drop what is better asked about another series of the study; a site rule's choice is final."""
    if decision.is_by_site:
        return decision
    reasons: dict[str, str] = {}
    for name in decision.adapters:
        adapter = adapters[name]
        if adapter.best_series_only:
            accepted = [header for header in headers.values() if adapter.acceptance.obstacle(header) is None]
            if reason := preferred.why_not_asked(session, series, adapter, accepted):
                reasons[name] = reason
    return not_asked(decision, reasons)


def _wait_for_better_ones(
    session: Session,
    settings: Settings,
    series: Series,
    jobs: Sequence[Job],
    adapters: Mapping[str, AdapterDefinition],
) -> None:
    """Give other series of the study, on their way now, the time to become whole; once, and not for long."""
    for job in jobs:
        adapter = adapters[job.adapter]
        if adapter.best_series_only and preferred.may_still_come(session, series, adapter):
            job.not_before = utc_now() + timedelta(seconds=settings.dicom.stable_after_s)


def _leave_alone(session: Session, series: Series, rows: Sequence[Instance]) -> None:
    """End a series of which nothing can be used, with the reason."""
    states = Counter(row.state for row in rows)
    words = {
        InstanceState.CONFLICT: "came under a SOP Instance UID that another object with other content has",
        InstanceState.MISSING: "has no file any more",
    }
    found = "; ".join(f"{count} {words[state]}" for state, count in states.items())
    reason = f"none of its {len(rows)} instances can be used: {found}"
    move_series(session, series, SeriesState.STABLE, reason)
    move_series(
        session, series, SeriesState.UNROUTED, reason, route_adapter=None, route_rule="none", route_reason=reason
    )


def _sign_of_completeness(
    session: Session,
    settings: Settings,
    series: Series,
    new: Sequence[Instance],
    headers: Mapping[int, InstanceHeader],
) -> str | None:
    """Return the best sign that the series is whole, in words, or None."""
    if all(is_complete_by_itself(headers[row.id]) for row in new):
        return "each instance is complete by itself"
    transactions = {row.commitment_uid for row in new}
    # Some senders ask after each image: only a request for several together says that they are all.
    if len(new) > 1 and len(transactions) == 1 and None not in transactions:
        return f"the sender asked for storage commitment of all {len(new)} new images together"
    association_ids = {row.association_id for row in new}
    only = association_ids.pop() if len(association_ids) == 1 else None
    if only is not None:
        association = session.get(Association, only)
        shape = geometry(list(headers.values()))
        if association is not None and association.released and shape.complete:
            return f"the association was released and the geometry is complete ({shape.slices} slices)"
    quiet_s = (utc_now() - series.last_instance_at).total_seconds()
    if series.at_source is not None:
        here = len(headers)
        if here >= series.at_source:
            return f"all {series.at_source} images that the source has are here"
        if quiet_s >= settings.dicom.missing_after_s:
            waited = f"{settings.dicom.missing_after_s:g} s"
            return f"no new image for {waited}, though the source has {series.at_source} and {here} are here"
        return None
    if quiet_s >= settings.dicom.stable_after_s:
        return f"no new image for {settings.dicom.stable_after_s:g} s"
    return None


def _summary(
    rows: Sequence[Instance], usable: Sequence[Instance], headers: Mapping[int, InstanceHeader]
) -> SeriesSummary:
    return SeriesSummary(
        headers=tuple(headers[row.id] for row in usable),
        calling_ae_title=usable[0].calling_ae_title,
        called_ae_title=usable[0].called_ae_title,
        conflicting_uids=tuple(row.sop_instance_uid for row in rows if row.state is InstanceState.CONFLICT),
    )


def _commit_route(
    session: Session,
    series: Series,
    new: Sequence[Instance],
    decision: RouteDecision,
    adapters: Mapping[str, AdapterDefinition],
) -> list[Job]:
    by_series = any(adapters[name].unit is Unit.SERIES for name in decision.adapters)
    revision = series.revision + 1 if by_series else max(series.revision, 1)
    for row in new:
        row.revision = revision
    moved = move_series(
        session,
        series,
        SeriesState.ROUTED if decision.assignments else SeriesState.UNROUTED,
        decision.reason,
        revision=revision,
        route_adapter=",".join(decision.adapters) or None,
        route_rule=decision.rule,
        route_reason=decision.reason,
    )
    if not moved:
        return []
    jobs = [
        job
        for assignment in decision.assignments
        for job in _jobs(session, series, new, assignment, adapters[assignment.adapter], decision.priority)
    ]
    session.add_all(jobs)
    session.flush()
    if jobs:
        log.info(
            "series routed",
            action="route",
            series_id=series.id,
            adapters=decision.adapters,
            jobs=[job.id for job in jobs],
        )
    return jobs


def _jobs(
    session: Session,
    series: Series,
    new: Sequence[Instance],
    assignment: Assignment,
    adapter: AdapterDefinition,
    priority: Priority,
) -> list[Job]:
    """Return one job for each unit that an adapter is to be asked about."""
    question, doubts = assignment.question, list(assignment.doubts)
    key = "" if question is None else question.key
    by_series = adapter.unit is Unit.SERIES
    if by_series:
        doubts += _supersede_earlier(session, series, adapter.name, key)
        units = [series.series_instance_uid]
    else:
        accepted = set(assignment.accepted_uids)
        units = [row.sop_instance_uid for row in new if row.sop_instance_uid in accepted]
    return [
        Job(
            study_id=series.study_id,
            series_id=series.id,
            adapter=adapter.name,
            question=None if question is None else question.to_json(),
            question_key=key,
            unit_uid=unit,
            revision=series.revision if by_series else _next_revision(session, adapter.name, key, unit),
            priority=max(priority.rank, adapter.priority),
            doubts=doubts,
        )
        for unit in units
    ]


def _next_revision(session: Session, adapter: str, question_key: str, unit_uid: str) -> int:
    """A run is done once; only one whose file was lost and sent again is done anew."""
    done = session.scalars(
        select(Job.revision).where(Job.adapter == adapter, Job.question_key == question_key, Job.unit_uid == unit_uid)
    ).all()
    return max(done, default=0) + 1


def _supersede_earlier(session: Session, series: Series, adapter: str, question_key: str) -> list[str]:
    """Take earlier revisions that nobody has seen out of the way; return doubts that those a person signed raise."""
    revision = series.revision
    earlier = session.scalars(
        select(Job).where(
            Job.series_id == series.id,
            Job.adapter == adapter,
            Job.question_key == question_key,
            Job.revision < revision,
        )
    ).all()
    signed = [job for job in earlier if is_signed(job)]
    for job in earlier:
        if job.state in NOT_YET_OUT and job not in signed:
            move_job(session, job, JobState.SUPERSEDED, f"late images made revision {revision}")
    if signed:
        return ["a person has signed the result of an earlier revision of this series"]
    return []
