"""What is sent in place of an object whose SOP class a destination does not take.

Input: a delivery that was refused for its SOP class, or would be. Output, in one transaction: the delivery CANCELLED
with the reason, and in its place the next best of the same answer in the outbox: a report in a plainer SR class, else
the pictures; pictures in place of a multi-frame or paper report. A destination that has a report in a plainer class,
from before it took the best one, gets what follows in the same class, since the best would name a report that it has
not got. Key objects and presentation states are additions: they are left out where the destination gets more of the
answer. Where there is nothing else the delivery stays as it is, and is a dead letter. A new file is durable before its
row; a delivery that has moved on in the meantime is left alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import structlog
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID
from sqlalchemy import Select, exists, or_, select
from sqlalchemy.orm import Session, aliased

from dicom_node.results import write_dicom
from dicom_node.spool import Spool, StoredFile
from dicom_node.sr_classes import Reference, in_class, plainer_classes
from worker.db import refusals
from worker.db.outbox import due, move, queue_result, with_job, withdraw, withdrawn
from worker.db.records import Delivery, Result
from worker.db.sessions import Database
from worker.result_kinds import PLAINER_REPORTS, ResultKind
from worker.settings import Settings
from worker.states import DeliveryState

log = structlog.get_logger()

#: What is drawn or printed: the pictures say the same.
_SHOWN_BY_PICTURES: Final = (ResultKind.SR, *PLAINER_REPORTS.values(), ResultKind.SC_MULTI, ResultKind.PDF)
#: They add to an answer and do not carry it.
_ADDITIONS: Final = (ResultKind.KO, ResultKind.PR)
#: A delivery that will arrive, or has.
_ALIVE: Final = frozenset(DeliveryState) - {DeliveryState.DEAD, DeliveryState.CANCELLED}


@dataclass(frozen=True, slots=True)
class _Rewritten:
    """A report in another class, on disk."""

    sop_instance_uid: str
    sop_class_uid: str
    predecessor_sop_instance_uid: str | None
    file: StoredFile


def replace_refused(db: Database, settings: Settings, destination: str) -> int:
    """Replace what is due for a destination and of a class that it is known not to take; return how many."""
    kept_s = settings.delivery.refusals_kept_s
    with db.reading() as session:
        refused = refusals.refused_classes(session, destination, kept_s)
        follows = _known_in_plainer_class(destination, refused)
        waiting = due(destination).join(Delivery.result).order_by(Delivery.id).limit(settings.delivery.batch)
        following = session.scalars(waiting.where(Result.kind == ResultKind.SR, exists(follows))).all()
        hopeless = session.scalars(waiting.where(Result.sop_class_uid.in_(refused))).all() if refused else []
    replaced = sum(_keep_to_class(db, settings, delivery_id) for delivery_id in following)
    return replaced + sum(replace_delivery(db, settings, delivery_id) for delivery_id in hopeless)


def learn_refusal(db: Database, destination: str, sop_class_uid: str, said: str) -> None:
    """Remember that a destination does not take a SOP class, and what it said."""
    with db.writing() as session:
        refusals.learn(session, destination, [sop_class_uid], said)


def replace_delivery(db: Database, settings: Settings, delivery_id: int, token: str | None = None) -> bool:
    """End a delivery whose class is refused, and queue what is sent in its place; False where there is nothing.

    Args:
        db: The database.
        settings: The settings.
        delivery_id: A delivery that waits, or that the caller holds.
        token: The caller's claim.
    """
    with db.reading() as session:
        row = session.get_one(Delivery, delivery_id, options=[with_job()])
        refused = refusals.refused_classes(session, row.destination, settings.delivery.refusals_kept_s)
        rewritten = _rewritten(session, settings, row, refused)
    with db.writing() as session:
        row = session.get_one(Delivery, delivery_id, options=[with_job()], with_for_update={"of": Delivery})
        if row.state is not (DeliveryState.PENDING if token is None else DeliveryState.SENDING):
            return True  # it has moved on
        claim = {} if token is None else {"claim_token": None, "tries": row.tries + 1}
        if reason := withdrawn(row):
            withdraw(session, row, reason, token=token, last_error=reason, **claim)
        elif instead := _put_in_place(session, row, rewritten, refused):
            reason = f"{row.destination} does not take {UID(row.result.sop_class_uid).name}: {instead}"
            move(session, row, DeliveryState.CANCELLED, reason, token=token, last_error=reason, **claim)
        else:
            return False
    log.info("result replaced", action="deliver", delivery_id=delivery_id, reason=reason)
    return True


def _keep_to_class(db: Database, settings: Settings, delivery_id: int) -> bool:
    """Send a report in the class that the destination has it, or its predecessor, in; False where that cannot be."""
    with db.reading() as session:
        row = session.get_one(Delivery, delivery_id, options=[with_job()])
        refused = refusals.refused_classes(session, row.destination, settings.delivery.refusals_kept_s)
        known = _known_in_plainer_class(row.destination, refused).correlate(None).where(Result.id == row.result_id)
        sop_class_uid = session.scalar(known.limit(1))
        rewritten = None if sop_class_uid is None else _rewritten(session, settings, row, refused, sop_class_uid)
    if rewritten is None:
        return False
    with db.writing() as session:
        row = session.get_one(Delivery, delivery_id, options=[with_job()], with_for_update={"of": Delivery})
        if row.state is not DeliveryState.PENDING:
            return True  # it has moved on
        if reason := withdrawn(row):
            return withdraw(session, row, reason, last_error=reason)
        if not _queue(session, row, _keep(session, row.result, rewritten)):
            return False
        known_as = UID(rewritten.sop_class_uid).name
        reason = f"{row.destination} has it, or the report before it, as {known_as}: it is sent as that"
        return move(session, row, DeliveryState.CANCELLED, reason, last_error=reason)


def _known_in_plainer_class(destination: str, refused: frozenset[str]) -> Select[str]:
    """Return the query for the class in which a destination has a result, or the report before it, if a plainer one."""
    plainer, sent = aliased(Result), aliased(Delivery)
    return (
        select(plainer.sop_class_uid)
        .join(sent, sent.result_id == plainer.id)
        .where(
            plainer.kind.in_(PLAINER_REPORTS.values()),
            plainer.sop_class_uid.not_in(refused),
            or_(
                plainer.report_uid == Result.sop_instance_uid,
                plainer.report_uid == Result.predecessor_sop_instance_uid,
            ),
            sent.destination == destination,
            sent.state.in_(_ALIVE),
        )
        .correlate(Result)
    )


def _rewritten(
    session: Session, settings: Settings, row: Delivery, refused: frozenset[str], only: str = ""
) -> _Rewritten | None:
    """Write the report in the best class that the destination may take, or in `only`; None where there is none."""
    result = row.result
    classes = [uid for uid in plainer_classes(result.sop_class_uid) if uid not in refused and only in ("", uid)]
    original = _report_of(session, result)
    if not classes or original is None:
        return None
    try:
        ds = dcmread(original.path)
    except (OSError, InvalidDicomError):
        return None  # the dead letter says that it cannot be read
    known_as = _as_known_there(session, original, row.destination)
    for sop_class_uid in classes:
        other = in_class(ds, sop_class_uid, known_as)
        if other is not None:
            file = Spool(settings.data_dir / "spool").put_bytes(write_dicom(other))
            was = original.predecessor_sop_instance_uid
            predecessor = known_as[was][1] if was in known_as else was
            return _Rewritten(str(other.SOPInstanceUID), str(other.SOPClassUID), predecessor, file)
    return None


def _report_of(session: Session, result: Result) -> Result | None:
    """Return the report as it was written first."""
    if result.kind == ResultKind.SR:
        return result
    return session.scalar(select(Result).where(Result.sop_instance_uid == result.report_uid))


def _as_known_there(session: Session, report: Result, destination: str) -> dict[str, Reference]:
    """Return how a destination knows the report that this one stands in the place of, if in another class."""
    if report.predecessor_sop_instance_uid is None:
        return {}
    wanted = (
        select(Result)
        .join(Result.deliveries)
        .where(
            Result.report_uid == report.predecessor_sop_instance_uid,
            Result.kind.in_(PLAINER_REPORTS.values()),
            Delivery.destination == destination,
            Delivery.state.in_(_ALIVE),
        )
    )
    found = session.scalars(wanted.order_by(Result.id.desc()).limit(1)).first()
    if found is None:
        return {}
    return {report.predecessor_sop_instance_uid: (found.sop_class_uid, found.sop_instance_uid)}


def _put_in_place(session: Session, row: Delivery, rewritten: _Rewritten | None, refused: frozenset[str]) -> str | None:
    """Queue what is sent instead; return what that is in words, or None where there is nothing."""
    if rewritten is not None and _queue(session, row, _keep(session, row.result, rewritten)):
        return f"it is sent as {UID(rewritten.sop_class_uid).name}"
    others = _of_same_answer(session, row.result)
    if row.result.kind in _SHOWN_BY_PICTURES:
        pictures = [result for result in others if result.kind == ResultKind.SC and result.sop_class_uid not in refused]
        queued = [_queue(session, row, picture) for picture in pictures]
        if queued and all(queued):
            return "the pictures stand in its place"
    if row.result.kind in _ADDITIONS:
        gets = {result.kind for result in others if _state_at(result, row.destination) in _ALIVE}
        if gets - {*_ADDITIONS}:
            return "it adds to an answer that is sent in other kinds, and is left out"
    return None


def _of_same_answer(session: Session, result: Result) -> list[Result]:
    if result.report_uid is None:
        return []
    wanted = select(Result).where(Result.report_uid == result.report_uid, Result.id != result.id)
    return list(session.scalars(wanted.order_by(Result.id)))


def _state_at(result: Result, destination: str) -> DeliveryState | None:
    return next((row.state for row in result.deliveries if row.destination == destination), None)


def _queue(session: Session, row: Delivery, result: Result) -> bool:
    """Let the destination get a result too; return whether it will have it. One that it gets already is left alone."""
    state = _state_at(result, row.destination)
    if state is None:
        queue_result(session, row.result.job, result, row.destination)
        return True
    return state in _ALIVE


def _keep(session: Session, refused: Result, rewritten: _Rewritten) -> Result:
    """Return the row of a rewritten report, which several destinations may share."""
    report_uid = refused.report_uid or refused.sop_instance_uid
    # Whoever writes the same report for another destination waits here.
    session.execute(select(Result.id).where(Result.sop_instance_uid == report_uid).with_for_update())
    known = session.scalar(select(Result).where(Result.sop_instance_uid == rewritten.sop_instance_uid))
    if known is not None:
        return known
    values: dict[str, Any] = {
        "job_id": refused.job_id,
        "sop_instance_uid": rewritten.sop_instance_uid,
        "sop_class_uid": rewritten.sop_class_uid,
        "kind": PLAINER_REPORTS[rewritten.sop_class_uid],
        "verified": refused.verified,
        "digest": rewritten.file.sha256,
        "path": str(rewritten.file.path),
        "predecessor_sop_instance_uid": rewritten.predecessor_sop_instance_uid,
        "report_uid": report_uid,
    }
    result = Result(**values)
    session.add(result)
    session.flush()
    return result
