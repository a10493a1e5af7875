"""Received instances -> study, series and instance rows, all of a batch in one transaction.

The same instance again is one instance; the same UID with other content is kept and flagged. Each new instance sets the
clock of its series, and brings a series that had been routed back to `receiving`. On failure nothing of the batch is
written, and the exception tells the caller.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from dicom_node.completeness import is_complete_by_itself
from dicom_node.headers import InstanceHeader
from dicom_node.scp import AssociationRecord
from dicom_node.spool import StoredFile
from worker.db import study_terms  # noqa: F401 - it keeps what a study is found by when its row is written
from worker.db.columns import utc_now
from worker.db.records import Association, Instance, Series, Study
from worker.db.sessions import Database
from worker.db.transitions import move_series, record_event
from worker.states import InstanceState, SeriesState

log = structlog.get_logger()

#: Tries of a transaction that lost a race against another node.
COMMIT_TRIES = 3


@dataclass(slots=True)
class Arrival:
    """An instance on its way into the database."""

    stored: StoredFile
    header: InstanceHeader
    received_at: datetime
    association_id: str | None = None
    calling_ae_title: str = ""
    called_ae_title: str = ""


@dataclass(slots=True)
class _KnownSeries:
    """The columns of a series row that ingest reads and writes, in the order `_FIND_SERIES` returns them."""

    id: int
    study_id: int
    state: SeriesState
    last_instance_at: datetime
    due_at: datetime | None


# Statements rather than mapped records where every instance passes: this is the path that limits the node's throughput.
_FIND_SERIES = (
    select(Series.id, Series.study_id, Series.state, Series.last_instance_at, Series.due_at)
    .join(Study)
    .where(Study.study_instance_uid == bindparam("study_uid"), Series.series_instance_uid == bindparam("series_uid"))
    .with_for_update(of=Series)
)
_SET_CLOCK = (
    update(Series.__table__)  # type: ignore[arg-type]
    .where(Series.id == bindparam("clock_of"))
    .values(last_instance_at=bindparam("last_instance_at"), due_at=bindparam("due_at"))
)
_FIND_INSTANCES = select(Instance.id, Instance.digest).where(Instance.sop_instance_uid == bindparam("sop_instance_uid"))
_INSERT_INSTANCE = insert(Instance.__table__)  # type: ignore[arg-type]


def commit_arrivals(
    db: Database, arrivals: Iterable[Arrival | AssociationRecord], stable_after: timedelta
) -> list[int]:
    """Write arrivals in one transaction; return the series that assembly should look at now."""
    arrivals = list(arrivals)
    for attempt in range(1, COMMIT_TRIES + 1):
        try:
            with db.writing() as session:
                return _write(session, arrivals, stable_after)
        except (IntegrityError, OperationalError):
            # Another node wrote the same study or series between our look and our insert: look again.
            if attempt == COMMIT_TRIES:
                raise
    raise AssertionError("unreachable")


def _write(session: Session, arrivals: list[Arrival | AssociationRecord], stable_after: timedelta) -> list[int]:
    to_assemble: dict[int, None] = {}
    series_by_uid: dict[tuple[str, str], _KnownSeries] = {}
    for arrival in arrivals:
        if isinstance(arrival, AssociationRecord):
            _set_clocks(session, series_by_uid.values())
            series_by_uid.clear()
            to_assemble.update(dict.fromkeys(_end_association(session, arrival)))
            continue
        key = (arrival.header.study_instance_uid, arrival.header.series_instance_uid)
        if key not in series_by_uid:
            series_by_uid[key] = _series_for(session, arrival.header)
        series = series_by_uid[key]
        if _add_instance(session, series, arrival):
            now = utc_now()
            complete = is_complete_by_itself(arrival.header)
            if series.state in (SeriesState.ROUTED, SeriesState.UNROUTED):
                known = session.get_one(Series, series.id)
                move_series(session, known, SeriesState.RECEIVING, "another instance arrived")
                series.state = known.state
            series.last_instance_at = now
            series.due_at = now if complete else now + stable_after
            if complete:
                to_assemble[series.id] = None
        elif series.state is SeriesState.RECEIVING and series.due_at is None:
            # Nothing in it can be used so far: it must come to an end all the same, with the reason.
            series.due_at = utc_now()
            to_assemble[series.id] = None
    _set_clocks(session, series_by_uid.values())
    return list(to_assemble)


def _set_clocks(session: Session, all_series: Iterable[_KnownSeries]) -> None:
    for series in all_series:
        session.execute(
            _SET_CLOCK,
            {"clock_of": series.id, "last_instance_at": series.last_instance_at, "due_at": series.due_at},
        )


def _series_for(session: Session, header: InstanceHeader) -> _KnownSeries:
    """Return the series of an instance, locked, made if need be."""
    uids = {"study_uid": header.study_instance_uid, "series_uid": header.series_instance_uid}
    row = session.execute(_FIND_SERIES, uids).first()
    if row is None:
        _make_series(session, header)
        row = session.execute(_FIND_SERIES, uids).one()
    return _KnownSeries(*row)


def _make_series(session: Session, header: InstanceHeader) -> None:
    study = session.scalar(select(Study).where(Study.study_instance_uid == header.study_instance_uid))
    if study is None:
        study = Study(
            study_instance_uid=header.study_instance_uid,
            accession_number=header.accession_number[:64],
            patient_id=header.patient_id[:128],
            issuer_of_patient_id=header.issuer_of_patient_id[:64],
            patient_birth_date=header.patient_birth_date[:16],
            patient_name=header.patient_name[:512],
            study_date=header.study_date[:16],
            study_description=header.study_description[:256],
        )
        session.add(study)
        session.flush()
    session.add(
        Series(study_id=study.id, series_instance_uid=header.series_instance_uid, modality=header.modality[:16])
    )
    session.flush()


def _add_instance(session: Session, series: _KnownSeries, arrival: Arrival) -> bool:
    """Add the row unless the same instance is there already; return whether assembly has something new to see."""
    header, stored = arrival.header, arrival.stored
    known = session.execute(_FIND_INSTANCES, {"sop_instance_uid": header.sop_instance_uid}).all()
    same = next((instance_id for instance_id, digest in known if digest == stored.sha256), None)
    if same is not None:
        return _receive_again(session, session.get_one(Instance, same), series)
    session.execute(
        _INSERT_INSTANCE,
        {
            "series_id": series.id,
            "sop_instance_uid": header.sop_instance_uid,
            "sop_class_uid": header.sop_class_uid,
            "transfer_syntax_uid": header.transfer_syntax_uid,
            "state": InstanceState.CONFLICT if known else InstanceState.STORED,
            "digest": stored.sha256,
            "size_bytes": stored.size,
            "path": str(stored.path),
            "header": header.to_json(),
            "association_id": arrival.association_id,
            "calling_ae_title": arrival.calling_ae_title,
            "called_ae_title": arrival.called_ae_title,
            "received_at": arrival.received_at,
        },
    )
    if known:
        reason = (
            f"SOP instance {header.sop_instance_uid} arrived again with other content: both are kept, the first is "
            "used, and answers on it are held for a person"
        )
        log.warning("conflicting instance", action="ingest", sop_instance_uid=header.sop_instance_uid)
        record_event(
            session,
            "instance",
            header.sop_instance_uid,
            study_id=series.study_id,
            reason=reason,
            to_state=InstanceState.CONFLICT,
        )
    return not known


def _receive_again(session: Session, same: Instance, series: _KnownSeries) -> bool:
    """The same instance again is one instance; but it brings back one whose file had gone."""
    log.info("instance is here already", action="ingest", sop_instance_uid=same.sop_instance_uid)
    if same.state is not InstanceState.MISSING:
        return False
    same.state = InstanceState.STORED
    same.revision = None
    record_event(
        session,
        "instance",
        same.id,
        study_id=series.study_id,
        reason="the instance whose file was gone was sent again",
        from_state=InstanceState.MISSING,
        to_state=InstanceState.STORED,
    )
    return True


def _end_association(session: Session, ended: AssociationRecord) -> list[int]:
    """Keep how the association ended; a released one makes its waiting series worth a look at once."""
    session.merge(
        Association(
            id=ended.association_id,
            calling_ae_title=ended.calling_ae_title,
            called_ae_title=ended.called_ae_title,
            peer_address=ended.peer_address,
            opened_at=ended.opened_at,
            closed_at=ended.closed_at,
            released=ended.released,
        )
    )
    if not ended.released:
        return []
    waiting = select(Instance.series_id).where(
        Instance.association_id == ended.association_id, Instance.revision.is_(None)
    )
    series_ids = sorted(set(session.scalars(waiting)))
    session.execute(
        update(Series).where(Series.id.in_(series_ids), Series.due_at.is_not(None)).values(due_at=utc_now()),
        execution_options={"synchronize_session": "fetch"},
    )
    return series_ids
