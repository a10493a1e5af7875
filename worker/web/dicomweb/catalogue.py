"""Rows -> the stored objects that DICOMweb shows: what was received, and the results that were released.

Input: a session of `Database.reading()`. Output: `StudyEntry`s with their series, and `StoredObject`s with their files.
Not shown are instances whose file is gone, the second of two with the same UID, and results that wait for a person or
that a person rejected: nothing leaves by this door that would not be sent. What is not there is an empty answer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import ColumnElement, Row, Select, func, select
from sqlalchemy.orm import Session

from dicom_node.headers import HeaderError, InstanceHeader, read_header
from worker.db.records import Instance, Job, Result, Series, Study
from worker.result_kinds import MESSAGES, PLAINER_REPORTS
from worker.states import InstanceState, JobState

log = structlog.get_logger()

#: Jobs whose results were released; those of a better or later job stand in for superseded ones.
SHOWN_JOBS: Final = (JobState.RELEASED, JobState.ACCEPTED, JobState.VERIFIED)
#: Messages to other systems are results too, and no DICOM objects. A report is shown once, in its own class.
IS_AN_OBJECT: Final = Result.kind.not_in((*MESSAGES, *PLAINER_REPORTS.values()))
#: Studies looked up at a time.
_CHUNK: Final = 200


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One SOP instance in the spool."""

    header: InstanceHeader
    path: Path
    digest: str


@dataclass(frozen=True, slots=True)
class SeriesEntry:
    """A series: how many instances it has, and one of them, which speaks for all."""

    series_instance_uid: str
    instances: int
    first: StoredObject


@dataclass(frozen=True, slots=True)
class StudyEntry:
    """A study with its series, in the order they came."""

    id: int
    study_instance_uid: str
    accession_number: str
    patient_id: str
    patient_name: str
    study_date: str
    study_description: str
    series: tuple[SeriesEntry, ...] = field(default=())

    @property
    def first(self) -> StoredObject:
        """An instance that speaks for the study."""
        return self.series[0].first


_STUDY_COLUMNS = (
    *(Study.id, Study.study_instance_uid, Study.accession_number, Study.patient_id, Study.patient_name),
    *(Study.study_date, Study.study_description),
)


def studies(session: Session, conditions: Sequence[ColumnElement[bool]] = ()) -> Iterator[StudyEntry]:
    """Yield the studies that meet the conditions and have something to show, newest first."""
    last: int | None = None
    while True:
        wanted = select(*_STUDY_COLUMNS).where(*conditions).order_by(Study.id.desc()).limit(_CHUNK)
        rows = session.execute(wanted if last is None else wanted.where(Study.id < last)).all()
        series = _series_of(session, [row.id for row in rows])
        for row in rows:
            if series[row.id]:
                yield StudyEntry(*row, series=tuple(series[row.id]))
        if len(rows) < _CHUNK:
            return
        last = rows[-1].id


def objects(
    session: Session, study_instance_uid: str, series_instance_uid: str = "", sop_instance_uid: str = ""
) -> Iterator[StoredObject]:
    """Yield the objects of a study, a series or one instance: received ones in the order they came, then results."""
    received = (
        select(Instance.path, Instance.digest, Instance.header)
        .join(Instance.series)
        .join(Series.study)
        .where(Study.study_instance_uid == study_instance_uid, Instance.state == InstanceState.STORED)
        .order_by(Instance.series_id, Instance.id)
    )
    made = _results().where(Study.study_instance_uid == study_instance_uid)
    if series_instance_uid:
        received = received.where(Series.series_instance_uid == series_instance_uid)
    if sop_instance_uid:
        received = received.where(Instance.sop_instance_uid == sop_instance_uid)
        made = made.where(Result.sop_instance_uid == sop_instance_uid)
    for row in session.execute(received).all():
        yield _received(row)
    for _, result in _shown_results(session, made):
        if series_instance_uid in ("", result.header.series_instance_uid):
            yield result


def studies_with_instance(sop_instance_uids: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition that a study holds one of these SOP instances."""
    uids = list(sop_instance_uids)
    received = select(Series.study_id).join(Series.instances).where(Instance.sop_instance_uid.in_(uids))
    made = select(Job.study_id).join(Job.results).where(Result.sop_instance_uid.in_(uids), IS_AN_OBJECT)
    return Study.id.in_(received.union(made))


def studies_with_series(series_instance_uids: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition that a study may hold one of these series: no row names the series of a result."""
    received = select(Series.study_id).where(Series.series_instance_uid.in_(list(series_instance_uids)))
    made = select(Job.study_id).join(Job.results).where(IS_AN_OBJECT)
    return Study.id.in_(received.union(made))


def _results() -> Select[int, str, str, str]:
    return (
        select(Job.study_id, Result.sop_instance_uid, Result.path, Result.digest)
        .join(Result.job)
        .join(Job.study)
        .where(Job.state.in_(SHOWN_JOBS), IS_AN_OBJECT)
        .order_by(Result.id)
    )


def _series_of(session: Session, study_ids: Sequence[int]) -> dict[int, list[SeriesEntry]]:
    """Return the series of studies; three statements however many there are."""
    found: dict[int, dict[str, SeriesEntry]] = defaultdict(dict)
    if study_ids:
        counted = (
            select(Instance.series_id, func.count().label("instances"), func.min(Instance.id).label("first"))
            .join(Instance.series)
            .where(Series.study_id.in_(study_ids), Instance.state == InstanceState.STORED)
            .group_by(Instance.series_id)
            .subquery()
        )
        wanted = (
            select(
                *(Series.study_id, Series.series_instance_uid, counted.c.instances),
                *(Instance.path, Instance.digest, Instance.header),
            )
            .join(counted, counted.c.series_id == Series.id)
            .join(Instance, Instance.id == counted.c.first)
            .order_by(Series.id)
        )
        for row in session.execute(wanted):
            entry = SeriesEntry(row.series_instance_uid, row.instances, _received(row))
            found[row.study_id][row.series_instance_uid] = entry
        for study_id, result in _shown_results(session, _results().where(Job.study_id.in_(study_ids))):
            uid = result.header.series_instance_uid
            known = found[study_id].get(uid, SeriesEntry(uid, 0, result))
            found[study_id][uid] = replace(known, instances=known.instances + 1)
    return defaultdict(list, {study_id: list(series.values()) for study_id, series in found.items()})


def _shown_results(session: Session, wanted: Select[int, str, str, str]) -> Iterator[tuple[int, StoredObject]]:
    """Yield results with the ids of their studies, but for those that a PACS has sent back: these were received."""
    rows = session.execute(wanted).all()
    uids = [row.sop_instance_uid for row in rows]
    sent_back = select(Instance.sop_instance_uid).where(
        Instance.sop_instance_uid.in_(uids), Instance.state == InstanceState.STORED
    )
    known = set(session.scalars(sent_back)) if uids else set()
    for row in rows:
        if row.sop_instance_uid in known:
            continue
        try:
            yield row.study_id, StoredObject(_header_of(row.path, row.digest), Path(row.path), row.digest)
        except (HeaderError, OSError) as error:
            log.warning("result cannot be read", action="dicomweb", error=str(error))


def _received(row: Row[Any]) -> StoredObject:
    return StoredObject(InstanceHeader.from_json(row.header), Path(row.path), row.digest)


@lru_cache(maxsize=8192)
def _header_of(path: str, digest: str) -> InstanceHeader:
    return read_header(Path(path))
