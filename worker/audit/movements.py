"""Instances that came or went -> audit messages: one for each association or batch and each patient.

Input: rows that say what was received or sent. Output: lines of the audit trail. A database that cannot be read costs
the message, which the log says, and never what was received or sent.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from dicom_node.scp import AssociationRecord
from worker.audit.events import Actor, StudySeen, transferred
from worker.audit.trail import AuditTrail
from worker.db.records import Delivery, Instance, Job, Result, Series, Study
from worker.db.sessions import Database

log = structlog.get_logger()

#: Study Instance UID, patient ID, accession number, SOP Class UID, number of instances.
_Row = tuple[str, str, str, str, int]


def of_associations(trail: AuditTrail, db: Database) -> Callable[[AssociationRecord], None]:
    """Return a function that records what an association brought, once it has ended."""

    def record(ended: AssociationRecord) -> None:
        wanted = (
            select(*_STUDY, Instance.sop_class_uid, func.count())
            .join(Series, Series.id == Instance.series_id)
            .join(Study, Study.id == Series.study_id)
            .where(Instance.association_id == ended.association_id)
            .group_by(*_STUDY, Instance.sop_class_uid)
        )
        peer = Actor(ended.calling_ae_title, address=ended.peer_address, ae_title=ended.calling_ae_title)
        try:
            with db.reading() as session:
                rows = [_row(*row) for row in session.execute(wanted)]
        except SQLAlchemyError as error:
            _lost(error)
            return
        for studies in _by_patient(rows):
            trail.write(transferred(trail.system, peer, studies, to_us=True, peer_asked=True))

    return record


def record_sent(
    trail: AuditTrail, db: Database, delivery_ids: Sequence[int], destination: str, address: str, ae_title: str = ""
) -> None:
    """Record what a destination took in one batch."""
    wanted = (
        select(*_STUDY, Result.sop_class_uid, func.count())
        .join(Job, Job.study_id == Study.id)
        .join(Result, Result.job_id == Job.id)
        .join(Delivery, Delivery.result_id == Result.id)
        .where(Delivery.id.in_(delivery_ids))
        .group_by(*_STUDY, Result.sop_class_uid)
    )
    try:
        with db.reading() as session:
            rows = [_row(*row) for row in session.execute(wanted)]
    except SQLAlchemyError as error:
        _lost(error)
        return
    peer = Actor(destination, address=address, ae_title=ae_title)
    for studies in _by_patient(rows):
        trail.write(transferred(trail.system, peer, studies, to_us=False, peer_asked=False))


_STUDY = (Study.study_instance_uid, Study.patient_id, Study.accession_number)


def _row(study: str, patient: str, accession: str, sop_class_uid: str, count: int) -> _Row:
    return study, patient, accession, sop_class_uid, count


def _by_patient(rows: Iterable[_Row]) -> list[list[StudySeen]]:
    """Return the studies of each patient; a message is about one patient (PS3.15 A.5.3.7)."""
    counts: dict[tuple[str, str, str], dict[str, int]] = defaultdict(dict)
    for study, patient, accession, sop_class_uid, count in rows:
        counts[study, patient, accession][sop_class_uid] = count
    patients: dict[str, list[StudySeen]] = defaultdict(list)
    for (study, patient, accession), instances in counts.items():
        patients[patient].append(StudySeen(study, patient, accession, instances))
    return list(patients.values())


def _lost(error: SQLAlchemyError) -> None:
    log.error("an audit message is lost", action="audit", reason=str(error).splitlines()[0])
