"""Findings -> results in the outbox: what was decided, or what a person signed, is written.

Input: a job that is DECIDED or ACCEPTED. Output, in one transaction: the result rows, the deliveries, and the state
RELEASED, HELD or VERIFIED; what an earlier revision had put into the PACS is superseded. The files are built outside
any transaction and are durable before their rows. On failure the job is HELD with the reason; a job that another
process has moved on in the meantime is dropped; a full disk or a lost database leaves it for the next ring.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from dicom_node.spool import Spool, StoredFile
from models.adapter import AdapterDefinition
from models.adapter import adapters as known_adapters
from models.confidence import Outcome
from models.rendering import RenderInterrupted
from worker.answer_rows import answer_of, predecessor_of, signature_of
from worker.db.columns import utc_now
from worker.db.outbox import queue_result
from worker.db.queries import UNSENT, deliveries_of, earlier_jobs
from worker.db.records import Delivery, Instance, Job, Result
from worker.db.review_records import is_signed, signing_review
from worker.db.sessions import Database
from worker.db.transitions import move_delivery, move_job
from worker.db.units import asked_adapter
from worker.destination_rules import kinds_to_write, recipients
from worker.documents import Answer, Document, Predecessor, Signature, build_documents
from worker.messages.outgoing import Told, build_messages, kinds_to_tell, told_before
from worker.rendering import renderer
from worker.result_kinds import ResultKind
from worker.settings import Settings
from worker.states import DeliveryState, JobState

log = structlog.get_logger()

#: Earlier revisions that a newer one takes the place of.
REPLACEABLE = (JobState.HELD, JobState.RELEASED, JobState.VERIFIED)
SIGNED_EARLIER = "a person has signed the result of an earlier revision of this series"


class _MovedOnError(Exception):
    """A row that the answer was built on has changed: everything is undone, and the next ring builds it anew."""


@dataclass(frozen=True, slots=True)
class _Assignment:
    """What is to be written for a job, read in one snapshot."""

    job_id: str
    state: JobState
    #: Why nothing can be written; the job is held.
    obstacle: str | None
    answer: Answer | None
    predecessor: Predecessor | None
    #: Signed, or released without a person; else it is only kept for a person to look at.
    may_leave: bool = False
    unit_uid: str = ""
    told: Told = field(default_factory=Told)


def write_results(
    db: Database,
    spool: Spool,
    settings: Settings,
    job_id: str,
    *,
    adapters: Mapping[str, AdapterDefinition] | None = None,
) -> tuple[str, ...]:
    """Write what a job's decision, or its reviewer, asks for.

    Returns:
        The names of the destinations that have something new to be sent; empty where the job waits for no one here.

    Raises:
        SpoolError: The disk does not take the files; the job stays as it is.
        RenderInterrupted: The process that draws was killed; the job stays as it is.
    """
    with db.reading() as session:
        job = session.get(Job, job_id)
        if job is None or job.state not in (JobState.DECIDED, JobState.ACCEPTED):
            return ()
        if job.not_before > utc_now():
            return ()  # who signed it can still take that back
        if _may_stand_again(earlier_jobs(session, job)):
            return ()  # what becomes of this one hangs on it
        assignment = _read(session, settings, job, known_adapters() if adapters is None else adapters)
    documents, obstacle = _build(settings, assignment)
    if obstacle is not None:
        _hold(db, assignment, obstacle)
        return ()
    stored = [(document, spool.put_bytes(document.data)) for document in documents]
    try:
        with db.writing() as session:
            return _commit(session, settings, assignment, stored)
    except _MovedOnError as moved:
        log.info("results are dropped", action="report", job_id=job_id, reason=str(moved))
        return ()


def _read(session: Session, settings: Settings, job: Job, adapters: Mapping[str, AdapterDefinition]) -> _Assignment:
    signature = signature_of(settings, job) if job.state is JobState.ACCEPTED else None
    findings = signing_review(job).findings if signature else job.findings
    adapter, obstacle = None, None
    try:
        adapter = asked_adapter(adapters, job)
    except LookupError as error:
        unusable = f"{error}; or reject the job"
    if findings is None or job.model_input is None or job.provenance is None:
        obstacle = job.decision_reason or job.error or "there are no findings"
    elif adapter is None:
        obstacle = unusable
    if obstacle is not None or adapter is None or findings is None:
        return _Assignment(job.id, job.state, obstacle, None, None)
    try:
        answer = answer_of(session, job, adapter, findings, signature)
    except ValidationError as error:
        obstacle = f"the findings do not fit this release of the adapter: {error.errors()[0]['msg']}; retry the job"
        return _Assignment(job.id, job.state, obstacle, None, None)
    may_leave = signature is not None or job.decision == Outcome.RELEASE.value
    told = told_before(session, job, earlier_jobs(session, job)) if may_leave else Told()
    predecessor = predecessor_of(session, job, answer)
    return _Assignment(job.id, job.state, None, answer, predecessor, may_leave, job.unit_uid, told)


def _build(settings: Settings, assignment: _Assignment) -> tuple[list[Document], str | None]:
    """Build the files; return them, or why the job must be held."""
    answer, predecessor = assignment.answer, assignment.predecessor
    if answer is None:
        return [], assignment.obstacle
    destinations = settings.destinations if assignment.may_leave else ()
    try:
        documents = build_documents(answer, predecessor, renderer(settings.rendering), kinds_to_write(destinations))
        kinds, unit_uid = kinds_to_tell(destinations), assignment.unit_uid
        messages = build_messages(answer, unit_uid, predecessor, documents, assignment.told, kinds)
        return [*documents, *messages], None
    except RenderInterrupted:
        raise  # nothing is wrong with the answer: the job stays as it is and is rung for again
    except Exception as error:  # the process edge of a job: adapters and images can fail in any way, a person is told
        log.exception("results cannot be written", action="report", job_id=assignment.job_id)
        return [], f"the results cannot be written: {type(error).__name__}: {error}"


def _hold(db: Database, assignment: _Assignment, reason: str) -> None:
    with db.writing() as session:
        job = session.get_one(Job, assignment.job_id)
        if job.state is assignment.state:
            failed = assignment.answer is not None or assignment.state is JobState.ACCEPTED
            move_job(session, job, JobState.HELD, reason, error=reason if failed else job.error)


def _commit(
    session: Session, settings: Settings, assignment: _Assignment, stored: Sequence[tuple[Document, StoredFile]]
) -> tuple[str, ...]:
    """Write rows, state and deliveries; return the destinations that have something new."""
    job = session.get_one(Job, assignment.job_id)
    answer = assignment.answer
    if (
        job.state is not assignment.state
        or answer is None
        or predecessor_of(session, job, answer) != assignment.predecessor
    ):
        raise _MovedOnError("the job, or the report it stands in the place of, has changed")
    earlier = earlier_jobs(session, job)
    told = told_before(session, job, earlier)
    signed = answer.signature
    to_state, reason = _verdict(job, signed, earlier)
    _move(session, job, to_state, reason)
    report_uid = next(document.sop_instance_uid for document, _ in stored if document.kind == ResultKind.SR)
    results = [
        _keep(session, job, document, file, report_uid, verified=signed is not None) for document, file in stored
    ]
    log.info("results written", action="report", job_id=job.id, state=to_state.value, results=len(results))
    if to_state is JobState.HELD:
        return ()
    if signed is not None:
        written = {result.id for result in results}
        before = [delivery for delivery in deliveries_of(session, job.id) if delivery.result_id not in written]
        _cancel(session, job, before, "the signed report stands in its place")
    for replaced in earlier:
        _supersede(session, replaced, job)
    return _queue(session, settings, job, results, told)


def _verdict(job: Job, signed: Signature | None, earlier: Sequence[Job]) -> tuple[JobState, str]:
    """Return where the job goes, and why."""
    if _may_stand_again(earlier):
        raise _MovedOnError("the rejection of an earlier revision can still be taken back")
    if signed is not None:
        if any(other.state is JobState.ACCEPTED for other in earlier):
            raise _MovedOnError("the signed report of an earlier revision is being written; it comes first")
        return JobState.VERIFIED, f"the report signed by {signed.person.name} is written"
    if job.decision != Outcome.RELEASE.value:
        return JobState.HELD, job.decision_reason or "held for review"
    # Looked at again here: assembly saw the earlier revisions before the model answered.
    if any(is_signed(other) for other in earlier):
        return JobState.HELD, SIGNED_EARLIER
    return JobState.RELEASED, job.decision_reason or "released"


def _may_stand_again(earlier: Sequence[Job]) -> bool:
    """Whether a rejection of one of these jobs can still be taken back, so that it would be the answer again."""
    return any(job.state is JobState.REJECTED and job.not_before > utc_now() for job in earlier)


def _move(session: Session, job: Job, to_state: JobState, reason: str) -> None:
    changed: dict[str, Any] = {}
    if reason == SIGNED_EARLIER:
        changed = {"decision": Outcome.REVIEW.value, "decision_reason": reason}
    if not move_job(session, job, to_state, reason, **changed):
        raise _MovedOnError(f"job {job.id} is {job.state.value} now")


def _keep(
    session: Session, job: Job, document: Document, file: StoredFile, report_uid: str, *, verified: bool
) -> Result:
    """Return the row of a result; the same object of an earlier try stays the one it was."""
    known = session.scalar(select(Result).where(Result.sop_instance_uid == document.sop_instance_uid))
    if known is not None:
        return known
    result = Result(
        job_id=job.id,
        sop_instance_uid=document.sop_instance_uid,
        sop_class_uid=document.sop_class_uid,
        kind=document.kind,
        verified=verified,
        digest=file.sha256,
        path=str(file.path),
        predecessor_sop_instance_uid=document.predecessor_sop_instance_uid,
        report_uid=report_uid,
    )
    session.add(result)
    session.flush()
    return result


def _supersede(session: Session, replaced: Job, by: Job) -> None:
    """End an earlier revision, and what of it was not sent yet."""
    if replaced.state not in REPLACEABLE:
        return
    reason = f"revision {by.revision} stands in its place"
    _move(session, replaced, JobState.SUPERSEDED, reason)
    _cancel(session, replaced, deliveries_of(session, replaced.id), reason)


def _cancel(session: Session, job: Job, deliveries: Sequence[Delivery], reason: str) -> None:
    """Stop what was not sent yet; what is on its way is stopped by delivery, should it come back."""
    for delivery in deliveries:
        if delivery.state in UNSENT:
            move_delivery(session, delivery, DeliveryState.CANCELLED, reason, study_id=job.study_id)


def _queue(session: Session, settings: Settings, job: Job, results: Sequence[Result], told: Told) -> tuple[str, ...]:
    """Put every result into the outbox of every destination whose rules it meets, and of those told of it before."""
    sent_by = session.scalars(
        select(Instance.calling_ae_title).where(Instance.series_id == job.series_id).distinct()
    ).all()
    decision = signing_review(job).action if job.state is JobState.VERIFIED else Outcome.RELEASE.value
    names = recipients(settings.destinations, job.adapter, decision, sent_by, told.destinations)
    rung: dict[str, None] = {}
    for destination in (known for known in settings.destinations if known.name in names):
        for result in (made for made in results if made.kind in destination.results):
            queue_result(session, job, result, destination.name)
            rung[destination.name] = None
    return tuple(rung)
