"""Accept, edit, reject or try again: one person's word about one case.

Input and output as in `worker.review`. `job_id` is anything that `find_job` takes. `seen` is the `seen_digest` of what
the person was shown: a decision about something else is refused. `frames_seen` is how many of its images they looked
at, where that is known. `undo_s` is how long the decision can be taken back; until then nothing is written and nothing
leaves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import null
from sqlalchemy.orm import Session

from dicom_node.report import Person
from models.adapter import AdapterDefinition
from worker.audit.owed import telling
from worker.db.columns import utc_now
from worker.db.queries import UNSENT, deliveries_of, review_queue
from worker.db.records import Job
from worker.db.review_records import signing_review
from worker.db.sessions import Database
from worker.db.transitions import move_delivery
from worker.review.cases import (
    CORRECTABLE,
    PAST,
    ReviewOutcome,
    SentObject,
    add_review,
    check_second_reader,
    find_case,
    move_case,
    obstacle,
    open_case,
)
from worker.review.errors import NamedCase, ReviewError
from worker.review.forms import in_form
from worker.review.people import check_person, check_signer
from worker.review.repeating import same_decision
from worker.review.shown import Shown
from worker.schemas import ReviewCase
from worker.states import DeliveryState, JobState

#: Columns of a job that a run fills in.
WRITTEN_BY_A_RUN = (
    *("claim_token", "claimed_by", "claim_expires_at", "model_input", "generation", "provenance"),
    *("findings", "confidence", "decision", "decision_reason", "answered_at", "error"),
)
ON_THE_WAY_OR_THERE = frozenset(
    {DeliveryState.SENDING, DeliveryState.DELIVERED, DeliveryState.CONFIRMED, DeliveryState.UNCONFIRMED}
)


def queue(db: Database) -> list[ReviewCase]:
    """Return the jobs that wait for a person: most urgent first, then the one that waits longest."""
    with db.reading() as session:
        return review_queue(session)


def accept(
    db: Database,
    job_id: str,
    reviewer: Person,
    comment: str = "",
    *,
    seen: str = "",
    frames_seen: int | None = None,
    undo_s: float = 0,
) -> ReviewOutcome:
    """Sign the model's findings as they are.

    Raises:
        ReviewError: Nothing was changed.
    """
    check_signer(reviewer)
    with telling(db) as session:
        shown = Shown(seen, frames_seen)
        if before := same_decision(find_case(session, job_id), "accept", reviewer, comment, shown):
            return before
        job = open_case(session, job_id, reviewer, "accept", shown=shown)
        if job.findings is None:
            raise ReviewError(
                NamedCase(job.id),
                f" has no findings to accept ({job.decision_reason or job.error}); "
                "edit it and give the findings, or reject it",
            )
        return _sign(session, job, "accept", reviewer, comment, job.findings, shown, undo_s)


def edit(
    db: Database,
    job_id: str,
    findings: Mapping[str, Any],
    reviewer: Person,
    comment: str = "",
    *,
    adapters: Mapping[str, AdapterDefinition] | None = None,
    seen: str = "",
    frames_seen: int | None = None,
    undo_s: float = 0,
) -> ReviewOutcome:
    """Sign other findings than the model's, or other ones than those that are signed: a correction of the report.

    Raises:
        ReviewError: The findings do not have the adapter's form (the message names each field), or as for `accept`.
    """
    check_signer(reviewer)
    with telling(db) as session:
        shown, job = Shown(seen, frames_seen), find_case(session, job_id)
        before = same_decision(job, "edit", reviewer, comment, shown)
        if before and signing_review(job).findings == in_form(job, findings, adapters):
            return before
        open_case(session, job.id, reviewer, "edit", shown=shown, states=CORRECTABLE)
        if job.model_input is None or job.provenance is None:
            raise ReviewError(
                NamedCase(job.id),
                f" cannot be edited: the model never saw its images ({job.decision_reason or job.error}); "
                "retry or reject it",
            )
        signed = in_form(job, findings, adapters, "; or reject it")
        if job.state is JobState.VERIFIED and signed == signing_review(job).findings:
            already = ": these findings are signed already; change what is wrong, or reject them"
            raise ReviewError(NamedCase(job.id), already)
        return _sign(session, job, "edit", reviewer, comment, signed, shown, undo_s)


def reject(
    db: Database,
    job_id: str,
    reviewer: Person,
    reason: str,
    *,
    seen: str = "",
    frames_seen: int | None = None,
    undo_s: float = 0,
) -> ReviewOutcome:
    """Discard an answer: nothing (more) of it is sent, and what was sent is taken back by a rejection note.

    Returns:
        The outcome; `already_sent` names what cannot be called back.

    Raises:
        ReviewError: Nothing was changed.
    """
    check_person(reviewer)
    if not reason.strip():
        raise ReviewError("a rejection needs a reason: it is what the ledger shows")
    with telling(db) as session:
        shown = Shown(seen, frames_seen)
        if before := same_decision(find_case(session, job_id), "reject", reviewer, reason, shown):
            return before
        job = open_case(session, job_id, reviewer, "reject", shown=shown, states=CORRECTABLE)
        check_second_reader(job, reviewer, "reject")
        return end_case(session, job, "reject", reviewer, reason, shown, until(undo_s))


def end_case(
    session: Session,
    job: Job,
    action: str,
    reviewer: Person,
    reason: str,
    shown: Shown,
    final_at: datetime,
    started: Sequence[str] = (),
) -> ReviewOutcome:
    """Reject a case that is open for this person.

    Args:
        session: The transaction.
        job: The case.
        action: How the row names what was done.
        reviewer: Who does it.
        reason: Why.
        shown: What they had before them.
        final_at: Until then it can be taken back.
        started: Ids of the jobs that are asked instead.
    """
    from_state = job.state
    said = f"{PAST[action]} by {reviewer.name}: {reason.strip()}"
    move_case(session, job, JobState.REJECTED, said, action, not_before=final_at)
    seen = add_review(session, job, action, reviewer, reason, from_state=from_state, shown=shown, started=started)
    sent = _stop_deliveries(session, job, f"{PAST[action]} by {reviewer.name}")
    message = f"job {job.id} is {PAST[action]}; nothing more of it is sent"
    if sent:
        objects = ", ".join(f"{entry.sop_instance_uid} to {entry.destination}" for entry in sent)
        message += f". Already sent, a rejection note follows: {objects}"
    return ReviewOutcome(job.id, job.state, message, sent, seen)


def retry(
    db: Database, job_id: str, reviewer: Person, *, seen: str = "", frames_seen: int | None = None
) -> ReviewOutcome:
    """Put a held job back into the queue, as if it had never run.

    Raises:
        ReviewError: Nothing was changed.
    """
    check_person(reviewer)
    with telling(db) as session:
        job = find_case(session, job_id)
        if job.state is not JobState.HELD:
            raise obstacle(job, "retry")
        shown = Shown(seen, frames_seen)
        open_case(session, job.id, reviewer, "retry", shown=shown)
        check_second_reader(job, reviewer, "retry")
        if any(result.verified for result in job.results):
            signed = " cannot be retried: a signed report of it is out; edit it, or reject it"
            raise ReviewError(NamedCase(job.id), signed)
        reason = f"{reviewer.name} asked for another try"
        said = add_review(session, job, "retry", reviewer, "", from_state=job.state, shown=shown)
        as_new = {name: null() for name in WRITTEN_BY_A_RUN}
        anew = {"attempts": 0, "not_before": utc_now(), "second_reader": False}
        move_case(session, job, JobState.QUEUED, reason, "retry", **anew, **as_new)
        return ReviewOutcome(job.id, job.state, f"job {job.id} is queued again", shown=said)


def _sign(
    session: Session,
    job: Job,
    action: str,
    person: Person,
    comment: str,
    findings: dict[str, Any],
    shown: Shown,
    undo_s: float,
) -> ReviewOutcome:
    check_second_reader(job, person, action)
    from_state = job.state
    is_correction = from_state is JobState.VERIFIED
    done = "corrected" if is_correction else PAST[action]
    move_case(session, job, JobState.ACCEPTED, f"{done} by {person.name}", action, not_before=until(undo_s))
    said = add_review(session, job, action, person, comment, from_state=from_state, shown=shown, findings=findings)
    follows = "corrected report, which stands in the place of the signed one," if is_correction else "verified report"
    follows = f"its {follows} is being written"
    if undo_s > 0:
        follows = follows.replace("is being written", f"is written in {undo_s:g} s unless that is taken back")
    return ReviewOutcome(job.id, job.state, f"job {job.id} is {done}; {follows}", shown=said)


def until(undo_s: float) -> datetime:
    """Return when a decision of now becomes final."""
    return utc_now() + timedelta(seconds=undo_s)


def _stop_deliveries(session: Session, job: Job, reason: str) -> tuple[SentObject, ...]:
    """Cancel what was not sent yet; return what was."""
    sent = []
    for delivery in deliveries_of(session, job.id):
        stopped = delivery.state in UNSENT and move_delivery(
            session, delivery, DeliveryState.CANCELLED, reason, study_id=job.study_id, stopped_by_decision=True
        )
        if not stopped:
            session.refresh(delivery)
        if delivery.state in ON_THE_WAY_OR_THERE:
            sent.append(SentObject(delivery.result.sop_instance_uid, delivery.destination))
    return tuple(sent)
