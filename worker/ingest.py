"""Received instance -> rows, one transaction; C-STORE answers success only after it.

Input: `ReceivedInstance`s whose files are durable. Output: study, series and instance rows, and a doorbell ring.
One writer thread takes what all associations have waiting and commits it together, so that many senders share one disk
flush. When a commit fails, every sender in it gets a failure status and keeps its images; their files, if any, are
adopted at the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue

import structlog
from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from dicom_node import status
from dicom_node.completeness import is_complete_by_itself
from dicom_node.headers import InstanceHeader
from dicom_node.scp import AssociationRecord, ReceivedInstance
from dicom_node.spool import StoredFile
from worker.db.records import Association, Instance, Series, Study, utc_now
from worker.db.sessions import Database
from worker.db.transitions import move_series, record_event
from worker.states import InstanceState, SeriesState

log = structlog.get_logger()

#: Instances in one transaction.
BATCH = 256
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
class _Waiting:
    """What an association thread waits for: an arrival, or the end of its association."""

    work: Arrival | AssociationRecord
    done: Future[int] = field(default_factory=Future)


class IngestWriter:
    """The one thread that writes received instances to the database."""

    def __init__(self, db: Database, stable_after_s: float, ring_assemble: Callable[[int], None]) -> None:
        """Start the writer thread; `ring_assemble(series_id)` is called after each commit that assembly should see."""
        self._db = db
        self._stable_after = timedelta(seconds=stable_after_s)
        self._ring_assemble = ring_assemble
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="ingest", daemon=True)
        self._thread.start()

    def record(self, received: ReceivedInstance) -> int:
        """Block until the instance's row is committed; return the DIMSE status to answer."""
        return self._wait(
            Arrival(
                stored=received.stored,
                header=received.header,
                received_at=received.received_at,
                association_id=received.association_id,
                calling_ae_title=received.calling_ae_title,
                called_ae_title=received.called_ae_title,
            )
        )

    def association_ended(self, ended: AssociationRecord) -> None:
        """Record how an association ended: a release is a sign that its series are whole."""
        if ended.instances:
            self._wait(ended)

    def close(self) -> None:
        """Write what waits, and stop."""
        self._queue.put(None)
        self._thread.join()

    def _wait(self, work: Arrival | AssociationRecord) -> int:
        waiting = _Waiting(work)
        self._queue.put(waiting)
        return waiting.done.result()

    def _write_all(self) -> None:
        stopping = False
        while not stopping:
            batch, stopping = self._take_batch()
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[_Waiting]) -> None:
        """Write a batch in one transaction and answer all who wait for it."""
        try:
            to_assemble = commit_arrivals(self._db, [w.work for w in batch], self._stable_after)
        except Exception as error:  # noqa: BLE001 - whatever the database's reason, senders must get a failure status
            if len(batch) > 1 and not isinstance(error, OperationalError):
                # The database is there but refuses a value: one bad instance must not fail those beside it.
                for waiting in batch:
                    self._commit([waiting])
                return
            log.error("received instances cannot be recorded", action="ingest", count=len(batch), error=str(error))
            answer = status.OUT_OF_RESOURCES if isinstance(error, OperationalError) else status.CANNOT_UNDERSTAND
            for waiting in batch:
                waiting.done.set_result(answer)
            return
        for waiting in batch:
            waiting.done.set_result(status.SUCCESS)
        for series_id in to_assemble:
            self._ring_assemble(series_id)

    def _take_batch(self) -> tuple[list[_Waiting], bool]:
        first = self._queue.get()
        if first is None:
            return [], True
        batch = [first]
        while len(batch) < BATCH:
            try:
                following = self._queue.get_nowait()
            except Empty:
                break
            if following is None:
                return batch, True
            batch.append(following)
        return batch, False


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
    series_by_uid: dict[tuple[str, str], Series] = {}
    for arrival in arrivals:
        if isinstance(arrival, AssociationRecord):
            session.flush()
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
                move_series(session, series, SeriesState.RECEIVING, "another instance arrived")
            series.last_instance_at = now
            series.due_at = now if complete else now + stable_after
            if complete:
                to_assemble[series.id] = None
        elif series.state is SeriesState.RECEIVING and series.due_at is None:
            # Nothing in it can be used so far: it must come to an end all the same, with the reason.
            series.due_at = utc_now()
            to_assemble[series.id] = None
    return list(to_assemble)


def _series_for(session: Session, header: InstanceHeader) -> Series:
    """Return the series of an instance, locked, made if need be."""
    study = session.scalar(select(Study).where(Study.study_instance_uid == header.study_instance_uid))
    if study is None:
        study = Study(
            study_instance_uid=header.study_instance_uid,
            accession_number=header.accession_number[:64],
            patient_id=header.patient_id[:128],
            patient_name=header.patient_name[:512],
            study_date=header.study_date[:16],
            study_description=header.study_description[:256],
        )
        session.add(study)
        session.flush()
    of_study = select(Series).where(
        Series.study_id == study.id, Series.series_instance_uid == header.series_instance_uid
    )
    series = session.scalar(of_study.with_for_update())
    if series is None:
        series = Series(
            study_id=study.id, series_instance_uid=header.series_instance_uid, modality=header.modality[:16]
        )
        session.add(series)
        session.flush()
    return series


def _add_instance(session: Session, series: Series, arrival: Arrival) -> bool:
    """Add the row unless the same instance is there already; return whether assembly has something new to see."""
    header, stored = arrival.header, arrival.stored
    known = session.scalars(select(Instance).where(Instance.sop_instance_uid == header.sop_instance_uid)).all()
    same = next((row for row in known if row.digest == stored.sha256), None)
    if same is not None:
        return _receive_again(session, same, series)
    instance = Instance(
        series_id=series.id,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        state=InstanceState.CONFLICT if known else InstanceState.STORED,
        digest=stored.sha256,
        size_bytes=stored.size,
        path=str(stored.path),
        header=header.to_json(),
        association_id=arrival.association_id,
        calling_ae_title=arrival.calling_ae_title,
        called_ae_title=arrival.called_ae_title,
        received_at=arrival.received_at,
    )
    session.add(instance)
    session.flush()
    if known:
        reason = (
            f"SOP instance {header.sop_instance_uid} arrived again with other content: both are kept, the first is "
            "used, and answers on it are held for a person"
        )
        log.warning("conflicting instance", action="ingest", sop_instance_uid=header.sop_instance_uid)
        record_event(
            session,
            "instance",
            instance.id,
            study_id=series.study_id,
            reason=reason,
            to_state=InstanceState.CONFLICT,
        )
    return not known


def _receive_again(session: Session, same: Instance, series: Series) -> bool:
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
