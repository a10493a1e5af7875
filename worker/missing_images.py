"""Slices that the source of a series has and this node has not: its source is asked to send them, a few times.

Input: a series that is quiet and shorter than its source says (`worker.source_counts`), of a source with
`fetch_missing`. Output: the source sends what is missing and nothing else; the ledger says what was asked and what came
of it. Each try is claimed before it is made, so that no two processes make the same one. When all tries are used up,
assembly goes on without the rest (`dicom.missing_after_s`). On failure the reason stands in the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dicom_node.peer import PeerError
from dicom_node.query import QueryError, Retrieval
from dicom_node.spool import SpoolError
from dicom_node.tls import TlsError
from worker.db.columns import utc_now
from worker.db.records import Instance, Series
from worker.db.sessions import Database
from worker.db.transitions import record_event
from worker.fetching import ImageArchive, Receive, images_here
from worker.peers import peer_of
from worker.settings import Settings
from worker.source_counts import Question, question_of
from worker.states import InstanceState

log = structlog.get_logger()

#: Times the source of a series is asked; more often than that it does not have them, or does not want to.
TRIES = 3
#: A try that was claimed and never ended (its process was killed) counts as over after this time.
LEASE_S = 600.0


@dataclass(frozen=True, slots=True)
class _Try:
    """One claimed try."""

    number: int
    question: Question
    here: frozenset[str]
    ours: frozenset[str]


def fetch_missing(db: Database, settings: Settings, series_id: int, receive: Receive) -> bool:
    """Have the source of a series send what is missing of it; return whether it was asked.

    Args:
        db: The ledger.
        settings: Name the source.
        series_id: Of a series whose images were counted at its source.
        receive: Takes what comes by C-GET.
    """
    question = question_of(db, settings, series_id)
    if question is None or not question.source.fetch_missing:
        return False
    claimed = _claim(db, series_id, question)
    if claimed is None:
        return False
    try:
        words = _fetch(db, settings, claimed, receive)
    except (QueryError, TlsError, PeerError, SpoolError) as error:
        words = f"that failed: {error}"
    pause_s = settings.dicom.stable_after_s * 2.0**claimed.number
    with db.writing() as session:
        _set_next(session, series_id, pause_s)
        series = session.get_one(Series, series_id)
        reason = f"{question.source.name} was asked for the missing images, try {claimed.number} of {TRIES}: {words}"
        record_event(session, "series", series_id, study_id=series.study_id, reason=reason)
    log.info("missing images asked for", action="fetch", series_id=series_id, reason=reason)
    return True


def _claim(db: Database, series_id: int, question: Question) -> _Try | None:
    """Take the next try, if one is due: the row must be as it was read."""
    now = utc_now()
    with db.writing() as session:
        series = session.get(Series, series_id, with_for_update=True)
        if series is None or series.at_source is None or series.fetch_tries >= TRIES:
            return None
        if series.fetch_after is not None and series.fetch_after > now:
            return None
        here, ours = images_here(session, question.study_instance_uid)
        of_series = select(func.count()).where(Instance.series_id == series_id, Instance.state != InstanceState.MISSING)
        if session.scalars(of_series).one() >= series.at_source:
            return None
        series.fetch_tries += 1
        series.fetch_after = now + timedelta(seconds=LEASE_S)
        return _Try(series.fetch_tries, question, frozenset(here), frozenset(ours))


def _fetch(db: Database, settings: Settings, claimed: _Try, receive: Receive) -> str:
    """Ask; return what came of it in words."""
    question = claimed.question
    archive = ImageArchive(
        peer_of(settings, question.source),
        settings.dicom.ae_title,
        settings.delivery.timeout_s,
        receive,
        question.source.retrieve,
    )
    study, series = question.study_instance_uid, question.series_instance_uid
    there = [uid for uid in archive.images(study, series) if uid not in claimed.ours]
    missing = [uid for uid in there if uid not in claimed.here]
    done = archive.send(study, series, missing, is_whole=False) if missing else Retrieval()
    sent = done.completed + done.warning
    words = f"{sent} of {len(missing)} sent" + (f", {done.failed} failed" if done.failed else "")
    return words if missing else "it names none that is not here"


def _set_next(session: Session, series_id: int, pause_s: float) -> None:
    """Set when the next try may be made, and have assembly look at the series soon."""
    now = utc_now()
    later = now + timedelta(seconds=pause_s)
    session.execute(update(Series).where(Series.id == series_id).values(fetch_after=later))
    session.execute(update(Series).where(Series.id == series_id, Series.due_at.is_not(None)).values(due_at=now))
