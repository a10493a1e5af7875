"""The state of the whole pipeline at one moment: what is where, since when, who works, and what is wrong.

Input: the ledger, what processes reported of themselves, the disk. Output: a `Pipeline`. What is counted are states
that rows pass through, each from an index of its own: a ledger of any size costs the same. A disk that cannot be read
is left out, with a remark.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, false, func, select
from sqlalchemy.orm import Session

from worker.db.columns import utc_now
from worker.db.process_reports import ProcessReport, reports
from worker.db.records import Delivery, Event, Job, Series, Study
from worker.operations.shapes import BrokerState, Disk, EngineState, Pipeline, ProcessState, Stage
from worker.operations.troubles import troubles
from worker.operations.waiting import ON_THE_WAY, made_at
from worker.settings import Settings
from worker.states import DeliveryState, JobState, SeriesState

HOUR = timedelta(hours=1)
#: Stage -> subject and new state of the event by which something enters it.
ENTERED_BY = {
    "stable": ("series", SeriesState.STABLE),
    "routed": ("series", SeriesState.ROUTED),
    "running": ("job", JobState.GENERATED),
    "held": ("job", JobState.HELD),
    "delivering": ("delivery", DeliveryState.DELIVERED),
    "failed": ("delivery", DeliveryState.DEAD),
}
WORKED_ON = (JobState.RUNNING, JobState.GENERATED, JobState.DECIDED, JobState.ACCEPTED)


def pipeline(session: Session, settings: Settings) -> Pipeline:
    """Return what there is to see now."""
    said = reports(session)
    stages, disk = _stages(session), _disk(settings)
    processes, engines, broker = _processes(said), _engines(said), _broker(said)
    return Pipeline(
        at=utc_now(),
        stages=stages,
        disk=disk,
        broker=broker,
        processes=processes,
        engines=engines,
        troubles=troubles(session, settings, stages=stages, disk=disk, processes=processes, broker=broker),
    )


def _stages(session: Session) -> list[Stage]:
    came = _came_lately(session)
    day = utc_now() - timedelta(days=1)
    received = select(func.count(Study.id), func.min(Study.first_received_at)).where(Study.first_received_at >= day)
    series = select(func.count(), func.min(Series.last_instance_at))
    jobs = select(func.count(), func.min(Job.created_at))
    held = select(func.count(), func.min(Job.waiting_since)).where(Job.state == JobState.HELD)
    places = (
        ("received", "studies of the last 24 hours", received),
        ("receiving", "series that images are still expected for", series.where(Series.state == SeriesState.RECEIVING)),
        ("stable", "whole series whose route is being decided", series.where(Series.state == SeriesState.STABLE)),
        ("routed", "jobs that wait for a model", jobs.where(Job.state == JobState.QUEUED)),
        ("running", "jobs being answered, scored or written", jobs.where(Job.state.in_(WORKED_ON))),
        ("held", "answers that wait for a person", held),
    )
    stages = []
    for name, means, chosen in places:
        count, oldest = session.execute(chosen).one()
        stages.append(Stage(name=name, means=means, count=count, oldest_since=oldest, last_hour=came.get(name)))
    delivering = _deliveries(session, "delivering", "results on their way", ON_THE_WAY, came["delivering"])
    return [*stages, delivering, _failed(session, came["failed"])]


def _came_lately(session: Session) -> dict[str, int]:
    """Return how many came to each stage in the last hour, where that is counted, by one statement."""
    since = utc_now() - HOUR
    passed = {
        name: select(func.count()).where(Event.subject == subject, Event.to_state == state, Event.at >= since)
        for name, (subject, state) in ENTERED_BY.items()
    }
    passed["received"] = select(func.count()).where(Study.first_received_at >= since)
    row = session.execute(select(*(chosen.scalar_subquery() for chosen in passed.values()))).one()
    return dict(zip(passed, row, strict=True))


def _deliveries(
    session: Session, name: str, means: str, states: Sequence[DeliveryState], last_hour: int | None
) -> Stage:
    count, oldest = session.execute(select(func.count(), func.min(Delivery.id)).where(Delivery.state.in_(states))).one()
    return Stage(name=name, means=means, count=count, oldest_since=made_at(session, oldest), last_hour=last_hour)


def _failed(session: Session, last_hour: int) -> Stage:
    """Count dead letters, and jobs without a usable answer."""
    dead = _deliveries(session, "failed", "", (DeliveryState.DEAD,), last_hour)
    chosen = select(func.count(), func.min(Job.waiting_since))
    jobs = [session.execute(chosen.where(*conditions)).one() for conditions in without_answer()]
    count = sum(found for found, _ in jobs)
    since = min((at for at in (dead.oldest_since, *(oldest for _, oldest in jobs)) if at is not None), default=None)
    means = f"dead letters ({dead.count}), and jobs without a usable answer ({count})"
    return Stage(name="failed", means=means, count=dead.count + count, oldest_since=since, last_hour=last_hour)


def without_answer() -> tuple[tuple[ColumnElement[bool], ...], ...]:
    """Return the conditions of jobs that wait for a person with nothing to look at: no answer, or one without form.

    They are two, each a range of the index `ix_jobs_failed`; one that holds both would read every job that waits.
    """
    return tuple((Job.state == JobState.HELD, known) for known in (Job.parsed.is_(None), Job.parsed == false()))


def _disk(settings: Settings) -> Disk | None:
    try:
        usage = shutil.disk_usage(settings.data_dir)
    except OSError:
        return None
    return Disk(
        folder=str(settings.data_dir),
        free=usage.free,
        total=usage.total,
        little=settings.disk.warn_below_bytes,
        is_little=usage.free < settings.disk.warn_below_bytes,
        kept_free=settings.disk.keep_free_bytes,
        is_too_little=usage.free < settings.disk.keep_free_bytes,
    )


def _processes(said: Sequence[ProcessReport]) -> list[ProcessState]:
    found = []
    for report in said:
        if report.subject == "supervisor":
            for facts in report.facts["processes"]:
                alive = facts["alive"] and report.is_fresh
                found.append(ProcessState(**{**facts, "alive": alive}, place=report.place))
    return found


def _engines(said: Sequence[ProcessReport]) -> list[EngineState]:
    return [
        EngineState(**report.facts, place=report.place, at=report.at, is_fresh=report.is_fresh)
        for report in said
        if report.subject == "engine"
    ]


def _broker(said: Sequence[ProcessReport]) -> BrokerState:
    fresh = [report for report in said if report.subject == "broker" and report.is_fresh]
    if not fresh:
        return BrokerState(reachable=None, rings={}, at=None)
    last = max(fresh, key=lambda report: report.at)
    return BrokerState(reachable=last.facts["reachable"], rings=last.facts["rings"], at=last.at)
