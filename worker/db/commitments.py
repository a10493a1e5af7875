"""Storage commitment in the ledger: what destinations vouch for, and what this node vouches for (PS3.4 J).

Input: reports of destinations, requests of senders. Output: deliveries CONFIRMED, or sent again, or dead with the
reason; requests kept with the answer to them until it is taken. A report that comes twice, late, or for an object that
has been sent again in the meantime changes nothing it should not.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dicom_node import commitment
from dicom_node.commitment import Reference, Report
from dicom_node.status import Outcome
from worker.db.columns import utc_now
from worker.db.commitment_records import Commitment, CommitmentRequest
from worker.db.outbox import move, with_job
from worker.db.records import Delivery, Instance, Result, Series
from worker.db.sessions import Database
from worker.delivery_settings import DeliverySettings
from worker.states import DeliveryState, InstanceState

log = structlog.get_logger()

#: Deliveries about which a destination's word is news.
ASKED_ABOUT = (DeliveryState.DELIVERED, DeliveryState.UNCONFIRMED)
#: Failure Reasons (PS3.3 C.14.1.1) that sending again cannot mend: class/instance conflict, class not supported.
NEVER_KEPT = frozenset({commitment.CLASS_INSTANCE_CONFLICT, 0x0122})
#: References looked up in one statement.
LOOK_UP_AT_ONCE = 500
#: How long a requester has to take the report on its own association before one is opened to it.
REPORT_AFTER_S = 10.0


def take_report(db: Database, settings: DeliverySettings, report: Report) -> bool:
    """Keep a destination's word on a request of ours; return False where no such request was made."""
    with db.writing() as session:
        asked = session.get(Commitment, report.transaction_uid)
        if asked is None:
            return False
        asked.answered_at = utc_now()
        for row in _spoken_of(session, asked.destination, report.committed):
            confirm(session, row, "storage commitment")
        reasons = {reference.sop_instance_uid: reason for reference, reason in report.failed}
        for row in _spoken_of(session, asked.destination, [reference for reference, _ in report.failed]):
            # An object that was sent again after this request is not denied by the answer to it.
            if row.transaction_uid == report.transaction_uid:
                reason = reasons[row.result.sop_instance_uid]
                words = f"{row.destination} does not vouch for it: {commitment.failure_in_words(reason)}"
                deny(session, settings, row, words, for_good=reason in NEVER_KEPT)
    return True


def confirm(session: Session, row: Delivery, by: str) -> bool:
    """A destination vouches for an object."""
    reason = f"{row.destination} vouches for it ({by})"
    # What was said of failed asks does not hold any more; the destination's remark on the object itself does.
    remark = row.last_error if (row.last_error or "").startswith(Outcome.WARNING) else None
    return move(
        session, row, DeliveryState.CONFIRMED, reason, confirmed_at=utc_now(), confirm_at=None, last_error=remark
    )


def deny(session: Session, settings: DeliverySettings, row: Delivery, words: str, *, for_good: bool = False) -> bool:
    """A destination says that it has not got an object: it is sent again, if that can help."""
    denials = row.denials + 1
    changes: dict[str, Any] = {"denials": denials, "confirm_at": None, "transaction_uid": None, "last_error": words}
    if for_good or denials > settings.confirm_resends:
        return move(session, row, DeliveryState.DEAD, words, **changes)
    pause_s = min(settings.retry_after_s * 2.0**denials, settings.retry_at_most_s)
    later = utc_now() + timedelta(seconds=pause_s)
    return move(session, row, DeliveryState.PENDING, f"{words}; it is sent again", not_before=later, **changes)


def _spoken_of(session: Session, destination: str, references: Sequence[Reference]) -> list[Delivery]:
    """Return the deliveries that references mean; another class under our UID is not our object."""
    classes = {reference.sop_instance_uid: reference.sop_class_uid for reference in references}
    uids = list(classes)
    found: list[Delivery] = []
    for start in range(0, len(uids), LOOK_UP_AT_ONCE):
        wanted = (
            select(Delivery)
            .join(Delivery.result)
            .where(
                Delivery.destination == destination,
                Delivery.state.in_(ASKED_ABOUT),
                Result.sop_instance_uid.in_(uids[start : start + LOOK_UP_AT_ONCE]),
            )
            .options(with_job())
            .with_for_update(of=Delivery)
        )
        found += session.scalars(wanted.order_by(Delivery.id)).all()
    return [row for row in found if classes[row.result.sop_instance_uid] == row.result.sop_class_uid]


def vouch(db: Database, request: commitment.Request, calling_ae_title: str) -> Report:
    """Keep a sender's request with our answer, in one transaction; return the answer.

    An instance counts as safe when its row says stored and its file is there. The request also tells assembly that the
    sender is done with these instances.
    """
    with db.writing() as session:
        report, row_ids = _judge(session, request)
        for start in range(0, len(row_ids), LOOK_UP_AT_ONCE):
            part = row_ids[start : start + LOOK_UP_AT_ONCE]
            session.execute(
                update(Instance).where(Instance.id.in_(part)).values(commitment_uid=request.transaction_uid),
                execution_options={"synchronize_session": False},
            )
            series = select(Instance.series_id).where(Instance.id.in_(part), Instance.revision.is_(None))
            session.execute(
                update(Series).where(Series.id.in_(series), Series.due_at.is_not(None)).values(due_at=utc_now()),
                execution_options={"synchronize_session": False},
            )
        row = _request(session, request.transaction_uid, calling_ae_title)
        if row is None:
            row = CommitmentRequest(transaction_uid=request.transaction_uid, calling_ae_title=calling_ae_title[:16])
            session.add(row)
        row.committed = [[r.sop_class_uid, r.sop_instance_uid] for r in report.committed]
        row.failed = [[r.sop_class_uid, r.sop_instance_uid, reason] for r, reason in report.failed]
        row.reported_at, row.last_error = None, None
        row.not_before = utc_now() + timedelta(seconds=REPORT_AFTER_S)
    return report


def reported(db: Database, transaction_uid: str, calling_ae_title: str | None = None) -> None:
    """The sender has taken our answer."""
    done = update(CommitmentRequest).where(CommitmentRequest.transaction_uid == transaction_uid)
    if calling_ae_title is not None:
        done = done.where(CommitmentRequest.calling_ae_title == calling_ae_title)
    with db.writing() as session:
        session.execute(done.values(reported_at=utc_now(), not_before=None, last_error=None))


def report_of(row: CommitmentRequest) -> Report:
    """Return the answer that was kept."""
    failed = tuple((Reference(str(found[0]), str(found[1])), int(found[2])) for found in row.failed)
    return Report(row.transaction_uid, commitment.references(row.committed), failed)


def due_reports(session: Session, now: datetime) -> list[int]:
    """Return the ids of the requests whose answer was not taken yet."""
    wanted = select(CommitmentRequest.id).where(CommitmentRequest.not_before <= now)
    return list(session.scalars(wanted.order_by(CommitmentRequest.id)))


def _request(session: Session, transaction_uid: str, calling_ae_title: str) -> CommitmentRequest | None:
    return session.scalar(
        select(CommitmentRequest).where(
            CommitmentRequest.transaction_uid == transaction_uid,
            CommitmentRequest.calling_ae_title == calling_ae_title[:16],
        )
    )


def _judge(session: Session, request: commitment.Request) -> tuple[Report, list[int]]:
    """Return our answer to a request, and the ids of the instances that we vouch for."""
    committed, failed, row_ids = [], [], []
    known: dict[str, list[tuple[int, str, str]]] = {}
    uids = [reference.sop_instance_uid for reference in request.references]
    for start in range(0, len(uids), LOOK_UP_AT_ONCE):
        wanted = select(Instance.id, Instance.sop_instance_uid, Instance.sop_class_uid, Instance.path).where(
            Instance.sop_instance_uid.in_(uids[start : start + LOOK_UP_AT_ONCE]),
            Instance.state == InstanceState.STORED,
        )
        for row_id, uid, sop_class_uid, path in session.execute(wanted):
            known.setdefault(uid, []).append((row_id, sop_class_uid, path))
    for reference in request.references:
        there = [row for row in known.get(reference.sop_instance_uid, []) if Path(row[2]).is_file()]
        same = [row for row in there if row[1] == reference.sop_class_uid]
        if same:
            committed.append(reference)
            row_ids += [row[0] for row in same]
        else:
            failed.append((reference, commitment.CLASS_INSTANCE_CONFLICT if there else commitment.NO_SUCH_OBJECT))
    return Report(request.transaction_uid, tuple(committed), tuple(failed)), row_ids
