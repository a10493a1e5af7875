"""Which FHIR and HL7 messages an answer needs: what tells it, and what takes it back wherever it was told.

Input: rows and the documents that were written for a job. Output: messages as `Document`s, to be kept and queued as
those are. A system that was told an answer is told what becomes of it, whatever rules it has: a signature, a later
revision, a rejection. Events are not made here (`worker.announcing`). On failure `MessageError`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Final

from sqlalchemy.orm import Session

from dicom_node.uids import derive_uid
from worker.answers import Answer, report_of
from worker.db.queries import deliveries_of
from worker.db.records import Job, Result, Review
from worker.db.retractions import has_arrived, replaced, told_later
from worker.documents import Document, Predecessor
from worker.messages import fhir, hl7v2
from worker.messages.statement import MessageError, Standing, Statement, answer_uid, name_groups, subject_of
from worker.result_kinds import MessageKind, ResultKind
from worker.settings import Destination
from worker.states import DeliveryState, JobState

_BUILDERS: Final = {MessageKind.FHIR: fhir.build_bundle, MessageKind.HL7: hl7v2.build_oru}
#: Events tell a history, and hold no answer that could become out of date here.
_ABOUT_EVENTS: Final = (MessageKind.EVENT, MessageKind.EVENT.ending)
_RETRACTORS: Final = {MessageKind.FHIR: fhir.build_retraction, MessageKind.HL7: hl7v2.build_retraction}


@dataclass(frozen=True, slots=True)
class Told:
    """What was told of an answer before: for this job, and for earlier revisions."""

    #: The latest message of each kind that was written, sent or not: each takes back what the one before it said.
    latest: dict[MessageKind, Path] = field(default_factory=dict)
    #: Names of the destinations that were sent one, or a signed report, which nobody took back.
    destinations: frozenset[str] = frozenset()
    #: Whether one of them was signed.
    was_signed: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """A message that takes back what destinations were told."""

    document: Document
    destinations: tuple[str, ...]


def told_before(session: Session, job: Job, earlier: Sequence[Job]) -> Told:
    """Return what was told of a job's answer; `earlier` are its earlier revisions."""
    written = [result for known in (job, *earlier) for result in known.results if result.kind in _BUILDERS]
    if not written and not any(result.verified for known in (job, *earlier) for result in known.results):
        return Told()
    # Who was told what a person took back afterwards holds nothing any more: its own rules say what it gets now.
    standing = takewhile(lambda known: known.state is not JobState.REJECTED, (job, *earlier))
    deliveries = [delivery for known in standing for delivery in deliveries_of(session, known.id)]
    return Told(
        latest={MessageKind(result.kind): Path(result.path) for result in sorted(written, key=lambda row: row.id)},
        destinations=frozenset(
            delivery.destination
            for delivery in deliveries
            if (delivery.result.kind in _BUILDERS or delivery.result.verified)
            and delivery.result.kind not in _ABOUT_EVENTS
            and (delivery.state is DeliveryState.SENDING or has_arrived(delivery))
        ),
        was_signed=any(result.verified for result in written),
    )


def kinds_to_tell(destinations: Iterable[Destination]) -> list[MessageKind]:
    """Return the kinds of message that destinations take."""
    taken = {kind for destination in destinations for kind in destination.results}
    return [kind for kind in MessageKind if kind in taken and kind in _BUILDERS]


def build_messages(
    answer: Answer,
    unit_uid: str,
    predecessor: Predecessor | None,
    documents: Collection[Document],
    told: Told,
    kinds: Collection[MessageKind],
) -> list[Document]:
    """Return the messages that tell an answer, of the wanted kinds.

    Args:
        answer: The answer, signed or not.
        unit_uid: Of its job.
        predecessor: The report that the answer stands in the place of.
        documents: What was written for it; the structured report is among them.
        told: What was told before.
        kinds: Which messages.

    Raises:
        MessageError: A message cannot be written.
    """
    if not kinds:
        return []
    report = next(document for document in documents if document.kind == ResultKind.SR)
    statement = _statement(answer, unit_uid, predecessor, report, told)
    messages = []
    for kind in kinds:
        before = _read(told.latest[kind]) if kind in told.latest else None
        uid = derive_uid("message", kind, report.sop_instance_uid)
        messages.append(Document(kind.value, uid, "", _BUILDERS[kind](statement, before)))
    return messages


def to_take_back(session: Session, job: Job) -> dict[int, list[str]]:
    """Return the messages (ids of their results) that destinations were told last, and those destinations.

    Where it never arrived itself, what was told of an earlier revision that it took the place of is taken back.
    Nothing is left of a kind that was taken back already, nor where a later revision is told.
    """
    done, later = {result.kind for result in job.results}, told_later(session, job)
    last: dict[tuple[str, str], int] = {}
    for known in (job, *replaced(session, job)):
        for delivery in deliveries_of(session, known.id):
            kind = delivery.result.kind
            key = (kind, delivery.destination)
            if kind not in _BUILDERS or MessageKind(kind).ending in done or key in later:
                continue
            if has_arrived(delivery):
                last[key] = max(last.get(key, 0), delivery.result_id)
    told: dict[int, list[str]] = {}
    for (_, destination), result_id in sorted(last.items()):
        told.setdefault(result_id, []).append(destination)
    return told


def build_endings(session: Session, job: Job, rejection: Review) -> list[Ending]:
    """Return the messages that take back a rejected answer wherever it was told.

    Raises:
        MessageError: A message that was sent cannot be read any more.
    """
    told = to_take_back(session, job)
    return [Ending(_ending(session.get_one(Result, row_id), rejection), tuple(names)) for row_id, names in told.items()]


def _ending(told: Result, rejection: Review) -> Document:
    kind = MessageKind(told.kind)
    name = next((group.text for group in name_groups(rejection.reviewer_name) if group.text), rejection.reviewer_name)
    data = _RETRACTORS[kind](_read(Path(told.path)), name, rejection.comment, rejection.decided_at)
    uid = derive_uid("message", kind.ending, told.sop_instance_uid, rejection.decided_at.isoformat())
    return Document(kind.ending, uid, "", data)


def _statement(
    answer: Answer, unit_uid: str, predecessor: Predecessor | None, report: Document, told: Told
) -> Statement:
    signature = answer.signature
    standing = Standing.PRELIMINARY
    if signature is not None:
        standing = Standing.AMENDED if signature.edited or told.was_signed else Standing.FINAL
    subject, sr_uid = subject_of(report.data)
    series_uid = answer.files[0].header.series_instance_uid
    return Statement(
        report=report_of(answer, predecessor),
        standing=standing,
        subject=subject,
        answer_uid=answer_uid(series_uid, unit_uid, answer.adapter.name, answer.question_key),
        sr_uid=sr_uid,
        confidence_method="" if answer.confidence is None else answer.confidence.method,
        signer=None if signature is None else signature.person,
        is_edited=signature is not None and signature.edited,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MessageError(f"the earlier message {path} cannot be read: {error.strerror}") from error
