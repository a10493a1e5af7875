"""Other rules over the series of the last days: what would have gone elsewhere. Nothing is changed.

Input: rules, and the headers that the ledger keeps. Output: a `ReplayReport`, series by series where the rules in force
and the other ones differ. Both are asked about the same headers, so that a difference is the rules' alone. Studies are
read one by one, the newest first, up to a bound, and whoever asked can see how far it is and stop it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from models.adapter import AdapterDefinition
from worker.db.columns import utc_now
from worker.db.records import Series, Study
from worker.db.sessions import Database
from worker.operations.rule_shapes import ReplayReport, RouteChange, RouteCount
from worker.operations.rules import INSTANCES_AT_MOST, decide, summaries_of
from worker.routing import RouteDecision, SeriesSummary
from worker.settings import RouteRule
from worker.states import SeriesState

#: Series that are looked at, unless told otherwise, and at most.
SERIES = 2000
SERIES_AT_MOST = 50_000
#: Changes that are listed; all are counted.
LISTED = 500
#: Longest time that is looked back, in days.
DAYS_AT_MOST = 366
_DECIDED = (SeriesState.ROUTED, SeriesState.UNROUTED)

#: What a decision says of a series beside the adapters.
_KEPT: Mapping[str, Callable[[RouteDecision], object]] = {
    "questions": lambda decision: [one.question and one.question.key for one in decision.assignments],
    "images": lambda decision: [one.accepted_uids for one in decision.assignments],
    "priority": lambda decision: decision.priority,
    "doubts": lambda decision: decision.doubts,
}


class ReplayStopped(Exception):
    """Whoever asked has lost interest."""


def replay(
    db: Database,
    in_force: Sequence[RouteRule],
    tried: Sequence[RouteRule],
    enabled: Mapping[str, AdapterDefinition],
    *,
    days: float,
    series_at_most: int = SERIES,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> ReplayReport:
    """Compare two sets of rules.

    Args:
        db: The ledger, which is only read.
        in_force: The rules that decide now.
        tried: The rules that somebody thinks of.
        enabled: Adapters by name.
        days: How far to look back, by when a study was first received.
        series_at_most: Series to look at, the newest first; the last study is looked at whole.
        progress: Called after each study with the series that are done, and those there are to do; it may raise
            `ReplayStopped`.

    Raises:
        ReplayStopped: `progress` did.
    """
    with db.reading() as session:
        studies, in_time = _chosen(session, days, series_at_most)
    of, done = sum(count for _, count in studies), 0
    counts: Counter[tuple[tuple[str, ...], tuple[str, ...]]] = Counter()
    changes: list[RouteChange] = []
    progress(0, of)
    for study_id, series in studies:
        # A transaction each: a long one would keep the database from clearing up.
        with db.reading() as session:
            summaries = _summaries(session, study_id)
        before, after = (decide(list(summaries.values()), rules, enabled) for rules in (in_force, tried))
        for summary, old, new in zip(summaries.values(), before, after, strict=True):
            if _outcome(old) == _outcome(new):
                continue
            counts[old.adapters, new.adapters] += 1
            if len(changes) < LISTED:
                changes.append(_change(study_id, summary, old, new))
        done += series
        progress(done, of)
    return ReplayReport(
        days=days,
        series=of,
        series_in_time=in_time,
        changed=counts.total(),
        counts=[
            RouteCount(before=list(old), after=list(new), series=count) for (old, new), count in counts.most_common()
        ],
        changes=changes,
        is_cut=counts.total() > len(changes),
    )


def _chosen(session: Session, days: float, at_most: int) -> tuple[list[tuple[int, int]], int]:
    """Return the studies to look at with how many series each has, and how many series there are in that time."""
    counted = (
        select(Series.study_id, func.count())
        .join(Study, Study.id == Series.study_id)
        .where(Study.first_received_at >= utc_now() - timedelta(days=days), Series.state.in_(_DECIDED))
        .group_by(Series.study_id)
        .order_by(Series.study_id.desc())
    )
    chosen: list[tuple[int, int]] = []
    room = in_time = 0
    for study_id, count in session.execute(counted):
        in_time += count
        if room < at_most:
            chosen.append((study_id, count))
            room += count
    return chosen, in_time


def _summaries(session: Session, study_id: int) -> dict[int, SeriesSummary]:
    ids = session.scalars(select(Series.id).where(Series.study_id == study_id, Series.state.in_(_DECIDED))).all()
    return summaries_of(session, ids, at_most=INSTANCES_AT_MOST)


def _outcome(decision: RouteDecision) -> tuple[object, ...]:
    """Return what becomes of a series: who is asked what, how urgently, and what makes it doubtful."""
    asked = tuple((one.adapter, one.question and one.question.key, one.accepted_uids) for one in decision.assignments)
    return asked, decision.priority if asked else None, decision.doubts


def _change(study_id: int, summary: SeriesSummary, old: RouteDecision, new: RouteDecision) -> RouteChange:
    first = summary.headers[0]
    return RouteChange(
        study_id=study_id,
        series_instance_uid=first.series_instance_uid,
        modality=first.modality,
        instances=len(summary.headers),
        before=list(old.adapters),
        after=list(new.adapters),
        rule_before=old.rule,
        rule_after=new.rule,
        reason_after=new.reason,
        priority_before=old.priority.value,
        priority_after=new.priority.value,
        differs=_differs(old, new),
    )


def _differs(old: RouteDecision, new: RouteDecision) -> list[str]:
    """Name what differs between two decisions about the same series; of what goes elsewhere only that."""
    if old.adapters != new.adapters:
        return ["adapters"]
    return [name for name, kept in _KEPT.items() if kept(old) != kept(new)]
