"""What is held, who decided what: a person accepts, edits, rejects or sends back an answer.

Input: a HELD job, or a RELEASED one that a person looks at afterwards, with the reviewer and what they say. Output, in
one transaction: the review row (with the findings that are signed), the job's new state, and for a rejected job the
end of its unsent deliveries. Reporting then writes what was signed. On failure nothing is changed, and `ReviewError`
says in words what stands in the way, such as another person who decided first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError
from sqlalchemy import null
from sqlalchemy.orm import Session

from dicom_node.report import Person
from models.adapter import AdapterDefinition
from models.adapter import adapters as known_adapters
from worker.db.queries import UNSENT, QueryError, deliveries_of, find_job, review_queue
from worker.db.records import Job, Review, utc_now
from worker.db.sessions import Database
from worker.db.transitions import move_delivery, move_job
from worker.db.units import asked_adapter
from worker.schemas import ReviewCase
from worker.settings import Settings
from worker.states import DeliveryState, JobState

log = structlog.get_logger()

#: VR LO, and each component group of VR PN (PS3.5 6.2), in characters.
LONGEST_NAME = 64
#: Columns of a job that a run fills in.
WRITTEN_BY_A_RUN = (
    *("claim_token", "claimed_by", "claim_expires_at", "model_input", "generation", "provenance"),
    *("findings", "confidence", "decision", "decision_reason", "answered_at", "error"),
)
ON_THE_WAY_OR_THERE = frozenset(
    {DeliveryState.SENDING, DeliveryState.DELIVERED, DeliveryState.CONFIRMED, DeliveryState.UNCONFIRMED}
)


class ReviewError(Exception):
    """The decision cannot be taken; the message says why and what can be done."""


@dataclass(frozen=True, slots=True)
class SentObject:
    """An object of the job that a destination has already, or is receiving this moment."""

    sop_instance_uid: str
    destination: str


@dataclass(frozen=True, slots=True)
class ReviewOutcome:
    """What a decision did."""

    job_id: str
    state: JobState
    #: One or two sentences for the reviewer.
    message: str
    already_sent: tuple[SentObject, ...] = ()


def reviewer(settings: Settings, name: str, organization: str = "") -> Person:
    """Return the person who decides, with the organisation from the settings where none is given.

    Raises:
        ReviewError: The name is missing, or something cannot be written into a DICOM object.
    """
    person = Person(name.strip(), organization.strip() or settings.review.organization.strip())
    _check_person(person)
    return person


def queue(db: Database) -> list[ReviewCase]:
    """Return the jobs that wait for a person: most urgent first, then the one that waits longest."""
    with db.reading() as session:
        return review_queue(session)


def accept(db: Database, job_id: str, reviewer: Person, comment: str = "") -> ReviewOutcome:
    """Sign the model's findings as they are. `job_id` is anything that `find_job` takes.

    Raises:
        ReviewError: Nothing was changed.
    """
    _check_signer(reviewer)
    with db.writing() as session:
        job = _reviewable(session, job_id, "accept")
        if job.findings is None:
            raise ReviewError(
                f"job {job.id} has no findings to accept ({job.decision_reason or job.error}); "
                "edit it and give the findings, or reject it"
            )
        return _sign(session, job, "accept", reviewer, comment, job.findings)


def edit(
    db: Database,
    job_id: str,
    findings: Mapping[str, Any],
    reviewer: Person,
    comment: str = "",
    *,
    adapters: Mapping[str, AdapterDefinition] | None = None,
) -> ReviewOutcome:
    """Sign other findings than the model's. `job_id` is anything that `find_job` takes.

    Raises:
        ReviewError: The findings do not have the adapter's form (the message names each field), or as for `accept`.
    """
    _check_signer(reviewer)
    with db.writing() as session:
        job = _reviewable(session, job_id, "edit")
        if job.model_input is None or job.provenance is None:
            raise ReviewError(
                f"job {job.id} cannot be edited: the model never saw its images "
                f"({job.decision_reason or job.error}); retry or reject it"
            )
        try:
            adapter = asked_adapter(known_adapters() if adapters is None else adapters, job)
        except LookupError as error:
            raise ReviewError(f"job {job.id}: {error}; or reject it") from error
        signed = _validated(adapter.findings, findings).model_dump(mode="json")
        return _sign(session, job, "edit", reviewer, comment, signed)


def reject(db: Database, job_id: str, reviewer: Person, reason: str) -> ReviewOutcome:
    """Discard an answer: nothing (more) of it is sent. `job_id` is anything that `find_job` takes.

    Returns:
        The outcome; `already_sent` names what cannot be called back.

    Raises:
        ReviewError: Nothing was changed.
    """
    _check_person(reviewer)
    if not reason.strip():
        raise ReviewError("a rejection needs a reason: it is what the ledger shows")
    with db.writing() as session:
        job = _reviewable(session, job_id, "reject")
        _move(session, job, JobState.REJECTED, f"rejected by {reviewer.name}: {reason.strip()}", "reject")
        _add_review(session, job, "reject", reviewer, reason)
        sent = _stop_deliveries(session, job, f"rejected by {reviewer.name}")
        message = f"job {job.id} is rejected; nothing more of it is sent"
        if sent:
            objects = ", ".join(f"{entry.sop_instance_uid} to {entry.destination}" for entry in sent)
            message += f". Already sent, a rejection note follows: {objects}"
        return ReviewOutcome(job.id, job.state, message, sent)


def retry(db: Database, job_id: str, reviewer: Person) -> ReviewOutcome:
    """Put a held job back into the queue, as if it had never run. `job_id` is anything that `find_job` takes.

    Raises:
        ReviewError: Nothing was changed.
    """
    _check_person(reviewer)
    with db.writing() as session:
        job = _find(session, job_id)
        if job.state is not JobState.HELD:
            raise ReviewError(_obstacle(session, job, "retry"))
        reason = f"{reviewer.name} asked for another try"
        as_new = {name: null() for name in WRITTEN_BY_A_RUN}
        _move(session, job, JobState.QUEUED, reason, "retry", attempts=0, not_before=utc_now(), **as_new)
        _add_review(session, job, "retry", reviewer, "")
        return ReviewOutcome(job.id, job.state, f"job {job.id} is queued again")


def _find(session: Session, reference: str) -> Job:
    try:
        return find_job(session, reference)
    except QueryError as error:
        raise ReviewError(str(error)) from None


def _reviewable(session: Session, reference: str, action: str) -> Job:
    job = _find(session, reference)
    if job.state not in (JobState.HELD, JobState.RELEASED):
        raise ReviewError(_obstacle(session, job, action))
    return job


def _obstacle(session: Session, job: Job, action: str) -> str:
    """Say why this job cannot be decided on as it stands."""
    start = f"job {job.id} cannot be {_PAST[action]}: "
    if job.state is JobState.SUPERSEDED:
        return start + "late images made a newer revision, which stands in its place; review that one"
    if job.state in (JobState.ACCEPTED, JobState.VERIFIED, JobState.REJECTED):
        decided = [review for review in job.reviews if review.action in ("accept", "edit", "reject")]
        if decided:
            last = decided[-1]
            return start + (
                f"it was {_PAST[last.action]} by {last.reviewer_name} at {last.decided_at:%Y-%m-%d %H:%M:%S} UTC"
            )
    if job.state is JobState.RELEASED:
        return start + "it is released, not held; accept, edit or reject it"
    return start + f"it is {job.state.value}, its answer is still being worked on"


_PAST = {"accept": "accepted", "edit": "edited", "reject": "rejected", "retry": "retried"}


def _sign(
    session: Session, job: Job, action: str, person: Person, comment: str, findings: dict[str, Any]
) -> ReviewOutcome:
    _move(session, job, JobState.ACCEPTED, f"{_PAST[action]} by {person.name}", action)
    _add_review(session, job, action, person, comment, findings)
    return ReviewOutcome(job.id, job.state, f"job {job.id} is {_PAST[action]}; its verified report is being written")


def _add_review(
    session: Session,
    job: Job,
    action: str,
    person: Person,
    comment: str,
    findings: dict[str, Any] | None = None,
) -> None:
    session.add(
        Review(
            job_id=job.id,
            action=action,
            reviewer_name=person.name,
            reviewer_organization=person.organization,
            comment=comment.strip(),
            findings=findings,
        )
    )


def _move(session: Session, job: Job, to_state: JobState, reason: str, action: str, **columns: Any) -> None:
    """Move the job, or say that another person was faster."""
    if not move_job(session, job, to_state, reason, **columns):
        session.refresh(job)
        raise ReviewError(_obstacle(session, job, action))
    log.info("job reviewed", action=action, job_id=job.id, state=to_state.value)


def _stop_deliveries(session: Session, job: Job, reason: str) -> tuple[SentObject, ...]:
    """Cancel what was not sent yet; return what was."""
    sent = []
    for delivery in deliveries_of(session, job.id):
        stopped = delivery.state in UNSENT and move_delivery(
            session, delivery, DeliveryState.CANCELLED, reason, study_id=job.study_id
        )
        if not stopped:
            session.refresh(delivery)
        if delivery.state in ON_THE_WAY_OR_THERE:
            sent.append(SentObject(delivery.result.sop_instance_uid, delivery.destination))
    return tuple(sent)


def _check_signer(person: Person) -> None:
    _check_person(person)
    if not person.organization.strip():
        raise ReviewError(
            "the reviewer's organisation is missing; a verified report must name it (PS3.3 C.17.2): "
            "give it with the decision, or set review.organization"
        )


def _check_person(person: Person) -> None:
    """Refuse what DICOM cannot hold (VR PN and LO, PS3.5 6.2)."""
    if not person.name.strip(" ^"):
        raise ReviewError("the reviewer's name is missing")
    for what, text in (("name", person.name), ("organisation", person.organization)):
        if len(text) > LONGEST_NAME or "\\" in text or not text.isprintable() or (what == "name" and "=" in text):
            raise ReviewError(
                f"the reviewer's {what} {text!r} cannot be written into a DICOM object: at most {LONGEST_NAME} "
                "printable characters without backslash, and no = in a name"
            )


def _validated(model: type[BaseModel], findings: Mapping[str, Any]) -> BaseModel:
    """Check edited findings as strictly as a form: a misspelt field must not vanish."""
    unknown = sorted(set(findings) - set(model.model_fields))
    if unknown:
        raise ReviewError(
            f"unknown field {', '.join(map(repr, unknown))}; the findings have {', '.join(model.model_fields)}"
        )
    try:
        return model.model_validate(dict(findings))
    except ValidationError as error:
        lines = [
            f"\n  {'.'.join(str(part) for part in fault['loc']) or 'findings'}: {fault['msg']} (got {fault['input']!r})"
            for fault in error.errors()
        ]
        raise ReviewError(
            "the findings do not have the form that the adapter's report needs:" + "".join(lines)
        ) from None
