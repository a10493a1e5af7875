"""DELIVERED -> CONFIRMED: each destination is asked whether it keeps what it was sent, until it says so.

Input: DELIVERED deliveries whose time to ask has come. Output: CONFIRMED; sent again, or DEAD, where the destination
says that it has not got the object; UNCONFIRMED with the reason where it cannot be asked, or does not answer however
often it is asked. The request is in the database before it is sent, so an answer finds it, on whichever association and
after whatever restart it comes. A destination that is down costs no ask. The second job of this step: what senders
asked of us is reported to those that did not wait for it.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node import commitment
from dicom_node.commitment import NotOfferedError, Reference
from dicom_node.headers import HeaderError, read_header
from dicom_node.outgoing import RequestError
from dicom_node.status import SUCCESS
from dicom_node.tls import TlsError
from dicom_node.uids import derive_uid
from worker.channels import LookUpError, channel_of
from worker.db import commitments
from worker.db.columns import utc_now
from worker.db.commitment_records import Commitment, CommitmentRequest
from worker.db.outbox import move, with_job
from worker.db.records import Delivery
from worker.db.sessions import Database
from worker.peers import peer_called, peer_of
from worker.settings import Destination, DicomDestination, Settings
from worker.states import DeliveryState

log = structlog.get_logger()

#: Doublings of the pause between two asks.
MOST_DOUBLINGS = 6
#: Tries to report to a sender before it is left to ask again.
REPORT_TRIES = 10


@dataclass(frozen=True, slots=True)
class _Question:
    """A delivery that is asked about."""

    delivery_id: int
    #: The ask that this is, from 1.
    ask: int
    reference: Reference
    path: Path


def confirm(db: Database, settings: Settings, destination: str) -> bool:
    """Ask a destination about one batch of what it was sent.

    Returns:
        True when more is to be asked now.
    """
    target = next((known for known in settings.destinations if known.name == destination), None)
    transaction_uid = derive_uid("storage commitment", uuid.uuid4().hex)
    questions, others = _claim(db, settings, destination, target, transaction_uid)
    if questions and target is not None:
        _ask(db, settings, target, transaction_uid, questions)
    if not questions and not others:
        return False
    with db.reading() as session:
        return session.scalar(_due(destination).limit(1)) is not None


def report_to_sender(db: Database, settings: Settings, request_id: int) -> bool:
    """Report what this node vouches for to a sender that did not wait for it; return whether it has taken it."""
    with db.writing() as session:
        row = session.get(CommitmentRequest, request_id, with_for_update=True)
        if row is None or row.not_before is None or row.not_before > utc_now():
            return False
        row.tries += 1
        pause_s = min(settings.delivery.retry_after_s * 2.0**row.tries, settings.delivery.retry_at_most_s)
        lease_s = 3 * settings.delivery.timeout_s
        row.not_before = utc_now() + timedelta(seconds=max(pause_s, lease_s))
        report, title, is_last = commitments.report_of(row), row.calling_ae_title, row.tries >= REPORT_TRIES
    error = _tell(settings, report, title)
    if error is None:
        commitments.reported(db, report.transaction_uid, title)
        return True
    log.warning("storage commitment not reported", action="commitment", calling_ae_title=title, reason=error.words)
    with db.writing() as session:
        row = session.get_one(CommitmentRequest, request_id)
        row.last_error = error.words
        later = utc_now() + timedelta(seconds=pause_s)
        row.not_before = None if is_last or error.is_final else later
    return False


@dataclass(frozen=True, slots=True)
class _Failure:
    words: str
    is_final: bool


def _tell(settings: Settings, report: commitment.Report, calling_ae_title: str) -> _Failure | None:
    timeout_s = settings.delivery.timeout_s
    try:
        peer = peer_called(settings, calling_ae_title)
        if peer is None:
            words = f"no address is known for {calling_ae_title}: enter it in `sources`"
            return _Failure(words, is_final=True)
        title = settings.dicom.ae_title
        commitment.tell(peer, report, calling_ae_title=title, connect_timeout_s=timeout_s, timeout_s=timeout_s)
    except (RequestError, TlsError) as error:
        return _Failure(str(error), is_final=False)
    return None


def _due(destination: str) -> Any:
    return select(Delivery.id).where(
        Delivery.destination == destination,
        Delivery.state == DeliveryState.DELIVERED,
        Delivery.confirm_at <= utc_now(),
    )


def _claim(
    db: Database, settings: Settings, destination: str, target: Destination | None, transaction_uid: str
) -> tuple[list[_Question], int]:
    """Take what is to be asked about; the time of the next ask is what keeps others from asking the same.

    Returns:
        The questions, and how many deliveries came to an end without one.
    """
    questions: list[_Question] = []
    ended = 0
    with db.writing() as session:
        in_order = (
            select(Delivery)
            .where(Delivery.id.in_(_due(destination)), Delivery.state == DeliveryState.DELIVERED)
            .order_by(Delivery.id)
            .options(with_job())
            .with_for_update(skip_locked=True, of=Delivery)
        )
        for row in session.scalars(in_order.limit(settings.delivery.batch)):
            if target is None or not target.is_asked:
                row.confirm_at = None
                ended += 1
            elif row.asks >= settings.delivery.confirm_asks:
                ended += _give_up(session, row, _no_answer(row, target))
            else:
                row.asks += 1
                row.confirm_at = utc_now() + timedelta(seconds=_pause_s(settings, row.asks))
                row.transaction_uid = transaction_uid if _commits(target) else None
                result = row.result
                reference = Reference(result.sop_class_uid, result.sop_instance_uid)
                questions.append(_Question(row.id, row.asks, reference, Path(result.path)))
        if questions and target is not None and _commits(target):
            session.add(Commitment(transaction_uid=transaction_uid, destination=destination))
    return questions, ended


def _commits(target: Destination) -> bool:
    """Whether it is asked for storage commitment, which is a DICOM node's service."""
    return isinstance(target, DicomDestination) and target.commitment


def _no_answer(row: Delivery, target: Destination) -> str:
    if not _commits(target):
        return f"{row.destination} does not find it, asked {row.asks} times"
    return (
        f"{row.destination} did not say whether it keeps it, asked {row.asks} times; if it reports on associations of "
        f"its own, it must know this node's address, and dicom.calling_ae_titles must name it if it is not empty"
    )


def _give_up(session: Session, row: Delivery, reason: str) -> bool:
    return move(session, row, DeliveryState.UNCONFIRMED, reason, confirm_at=None, last_error=reason)


def _pause_s(settings: Settings, asks: int) -> float:
    return settings.delivery.confirm_after_s * 2.0 ** min(asks - 1, MOST_DOUBLINGS)


def _ask(
    db: Database, settings: Settings, target: Destination, transaction_uid: str, questions: Sequence[_Question]
) -> None:
    """Ask, and keep what comes of it."""
    try:
        if isinstance(target, DicomDestination) and target.commitment:
            _ask_for_commitment(db, settings, target, transaction_uid, questions)
        else:
            _look_for(db, settings, target, questions)
    except NotOfferedError as error:
        if isinstance(target, DicomDestination) and target.confirm == "find":
            log.info("storage commitment not offered", action="confirm", destination=target.name, reason=str(error))
            try:
                _look_for(db, settings, target, questions)
            except LookUpError as trouble:
                _postpone(db, settings, questions, str(trouble), is_permanent=trouble.is_permanent)
        else:
            remedy = "set `commitment: false` for this destination, or `confirm: find`"
            _postpone(db, settings, questions, f"{error}; {remedy}", is_permanent=True)
    except LookUpError as error:
        _postpone(db, settings, questions, str(error), is_permanent=error.is_permanent)
    except (RequestError, TlsError) as error:
        _postpone(db, settings, questions, str(error), is_permanent=False)


def _ask_for_commitment(
    db: Database, settings: Settings, target: DicomDestination, transaction_uid: str, questions: Sequence[_Question]
) -> None:
    def keep(report: commitment.Report) -> int:
        known = commitments.take_report(db, settings.delivery, report)
        return SUCCESS if known else 0x0115  # invalid argument value

    delivery = settings.delivery
    commitment.ask(
        peer_of(settings, target),
        commitment.Request(transaction_uid, tuple(question.reference for question in questions)),
        calling_ae_title=settings.dicom.ae_title,
        on_report=keep,
        wait_s=delivery.confirm_wait_s,
        connect_timeout_s=delivery.timeout_s,
        timeout_s=delivery.timeout_s,
    )
    log.info(
        "storage commitment asked for",
        action="confirm",
        destination=target.name,
        transaction_uid=transaction_uid,
        instances=len(questions),
    )


def _look_for(db: Database, settings: Settings, target: Destination, questions: Sequence[_Question]) -> None:
    """Ask for each object whether it is there; one that is not there yet may be being filed. Raises `LookUpError`."""
    channel, delivery = channel_of(target), settings.delivery
    if channel.has is None:
        raise LookUpError(f"{target.name} cannot be asked what it has", is_permanent=True)
    for question in questions:
        try:
            header = read_header(question.path)
        except (HeaderError, OSError) as error:
            _postpone(db, settings, [question], f"the result cannot be read any more: {error}", is_permanent=True)
            continue
        is_there = channel.has(settings, target, header)
        with db.writing() as session:
            row = session.get_one(Delivery, question.delivery_id, options=[with_job()], with_for_update=True)
            if row.state is not DeliveryState.DELIVERED or row.asks != question.ask:
                continue  # sent again, or confirmed by a late report, in the meantime
            if is_there:
                commitments.confirm(session, row, channel.asked_by)
            elif question.ask >= delivery.confirm_asks:
                words = f"{target.name} does not find it by {channel.asked_by}, asked {question.ask} times"
                commitments.deny(session, delivery, row, words)


def _postpone(
    db: Database, settings: Settings, questions: Sequence[_Question], reason: str, *, is_permanent: bool
) -> None:
    """The question could not be put: it is put later, which costs no ask, unless it never can be."""
    later = utc_now() + timedelta(seconds=settings.delivery.retry_at_most_s)
    with db.writing() as session:
        for question in questions:
            row = session.get_one(Delivery, question.delivery_id, options=[with_job()], with_for_update=True)
            if row.state is not DeliveryState.DELIVERED or row.asks != question.ask:
                continue
            if is_permanent:
                _give_up(session, row, reason)
            else:
                row.asks, row.confirm_at, row.last_error = question.ask - 1, later, f"cannot be confirmed yet: {reason}"
    log.warning("delivery not confirmed", action="confirm", deliveries=len(questions), reason=reason)
