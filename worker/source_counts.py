"""How many images of a series its source has (C-FIND): asked before quiet time alone lets the series count as whole.

Input: a series that is quiet, and a source that is asked (`sources[].count`). Output: the count on the series' row, for
assembly to wait by. A source that does not answer leaves the row without one, and quiet time decides as before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import structlog
from pydicom.dataset import Dataset
from sqlalchemy import select, update
from sqlalchemy.orm import joinedload

from dicom_node.completeness import SLICE_SOP_CLASS_UIDS
from dicom_node.query import COUNT_OF_SERIES, IMAGES_OF_SERIES, Keys, QueryError, find
from dicom_node.tls import TlsError
from worker.db.columns import utc_now
from worker.db.records import Instance, Series
from worker.db.sessions import Database
from worker.peers import peer_of
from worker.settings import Settings, Source
from worker.states import SeriesState

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of whom."""

    source: Source
    study_instance_uid: str
    series_instance_uid: str


def count_at_source(db: Database, settings: Settings, series_id: int) -> int | None:
    """Ask the source of a quiet series how many instances it has; keep and return the answer, if there is one."""
    question = question_of(db, settings, series_id)
    if question is None:
        return None
    try:
        count = _count(settings, question)
    except (QueryError, TlsError) as error:
        log.warning("images at the source not counted", action="count", series_id=series_id, reason=str(error))
        count = None
    with db.writing() as session:
        session.execute(update(Series).where(Series.id == series_id).values(at_source=count))
    return count


def question_of(db: Database, settings: Settings, series_id: int) -> Question | None:
    """Return what is to be asked; None where nothing is: the series still grows, or its sender is not asked."""
    asked = {source.ae_title: source for source in settings.sources if source.count}
    if not asked:
        return None
    with db.reading() as session:
        series = session.get(Series, series_id, options=[joinedload(Series.study)])
        if series is None or series.state is not SeriesState.RECEIVING:
            return None
        if series.last_instance_at > utc_now() - timedelta(seconds=settings.dicom.stable_after_s):
            return None
        found = session.execute(
            select(Instance.calling_ae_title, Instance.sop_class_uid).where(Instance.series_id == series_id).distinct()
        ).all()
        titles = {title for title, _ in found}
        # Only slices have others to wait for.
        if len(titles) != 1 or not {uid for _, uid in found} <= SLICE_SOP_CLASS_UIDS:
            return None
        source = asked.get(titles.pop())
        return None if source is None else Question(source, series.study.study_instance_uid, series.series_instance_uid)


def _count(settings: Settings, question: Question) -> int | None:
    """Return the count, None where the source does not have the series. Raises `QueryError` and `TlsError`."""
    peer = peer_of(settings, question.source)

    def ask(keys: Keys) -> list[Dataset]:
        timeout_s, title = settings.delivery.timeout_s, settings.dicom.ae_title
        identifier = keys.identifier(question.study_instance_uid, question.series_instance_uid)
        return find(
            peer, keys.level, identifier, calling_ae_title=title, connect_timeout_s=timeout_s, timeout_s=timeout_s
        )

    matches = ask(COUNT_OF_SERIES)
    stated = [str(match.get("NumberOfSeriesRelatedInstances") or "") for match in matches]
    if stated and stated[0].isdigit():
        return int(stated[0])
    # The count is an optional key (PS3.4 table C.6-4): archives without it are asked for the instances themselves.
    return len(ask(IMAGES_OF_SERIES)) or None
