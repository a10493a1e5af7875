"""Review as JSON: the queue, one case, and a person's decisions about it.

Input: a case, and what is said about it. Output: what the decision did. Only people decide: a machine's token is
refused, since a signature needs a person's name. What cannot be decided now is 409 with the reason, and nothing is
changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from worker import review
from worker.db import queries
from worker.db.records import Job
from worker.db.sessions import Database
from worker.people.user import User
from worker.review import Reviewer, ReviewError, ReviewOutcome
from worker.roles import Role
from worker.schemas import ReviewCase
from worker.settings import ReviewSettings
from worker.web.access import requires
from worker.web.api_document import ERRORS, LAST_NUMBER, JobId, Limit, Offset, Text, next_page, problem
from worker.web.operations.parts import enabled
from worker.web.reading_room import reader

router = APIRouter(prefix="/api/review", tags=["review"], dependencies=[requires(Role.VIEWER)], responses=ERRORS)
Decider = Annotated[User, requires(Role.REVIEWER)]
DECISION: dict[int | str, dict[str, Any]] = {
    404: problem("there is no such job"),
    409: problem("it cannot be decided now: another person was faster or has it open, or it has changed"),
}


#: What the smallest integer column of a database takes, and more frames than any case has.
Frames = Annotated[int, Field(ge=0, le=LAST_NUMBER)]


class _Decision(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seen: Text = Field("", description="`seen` of the case as it was shown; empty to decide whatever it says now")
    frames_seen: Frames | None = Field(
        None, description="how many of the case's images (frames) the person had on screen; null where it is not known"
    )


class Acceptance(_Decision):
    """The answer is signed as it is."""

    comment: Text = Field("", description="kept with the decision")


class Correction(_Decision):
    """Other findings are signed."""

    findings: dict[str, Any] = Field(description="in the form of the adapter's answers")
    comment: Text = Field("", description="kept with the decision")


class Rejection(_Decision):
    """The answer is discarded."""

    reason: Text = Field(description="why; the ledger shows it")


class AnotherTry(_Decision):
    """The model is asked once more."""


class Rerouting(_Decision):
    """Another adapter is asked."""

    adapter: Text = Field(description="name of the adapter")
    task: Text = Field("", description="kind of question, where it has several")
    reason: Text = Field(description="why")


class SecondReading(_Decision):
    """Another person decides."""

    opinion: Text = Field(description="what the second reader should look at")
    findings: dict[str, Any] | None = Field(None, description="what the first reader would sign")


class Remark(BaseModel):
    """Words that decide nothing."""

    model_config = ConfigDict(extra="forbid")

    text: Text = Field(description="kept with the case")


class Sent(BaseModel):
    """An object that a destination has already."""

    sop_instance_uid: str
    destination: str


class Decided(BaseModel):
    """What a decision did."""

    job_id: str
    #: A `JobState`.
    state: str
    message: str
    already_sent: list[Sent]


class Claim(BaseModel):
    """Who has a case open."""

    is_own: bool
    reviewer_name: str


@router.get("")
def queue(request: Request, response: Response, offset: Offset = 0, limit: Limit = 100) -> list[ReviewCase]:
    """Return what waits for a person, the most urgent first."""
    with _database(request).reading() as session:
        found = queries.review_queue(session, limit=limit, offset=offset)
    next_page(request, response, offset=offset, limit=limit, returned=len(found))
    return found


@router.get("/{job_id}", responses={404: problem("there is no such job")})
def case(request: Request, job_id: JobId) -> ReviewCase:
    """Return one case; a decision about it sends its `seen` along."""
    with _database(request).reading() as session:
        if session.get(Job, job_id) is None:
            raise HTTPException(404, f"there is no job {job_id}")
        return queries.review_case(session, job_id)


@router.post("/{job_id}/claim", responses=DECISION)
def claim(request: Request, job_id: JobId, user: Decider) -> Claim:
    """Take or renew the claim to a case, so that nobody else decides about it meanwhile."""
    person = _person(request, user, job_id)
    state = review.claim(_database(request), job_id, person, _settings(request).claim_s)
    if state is None:
        raise HTTPException(409, f"job {job_id} waits for nobody")
    return Claim(is_own=state.is_own, reviewer_name=state.reviewer_name)


@router.post("/{job_id}/release", responses=DECISION)
def release(request: Request, job_id: JobId, user: Decider) -> Claim:
    """Give a case back."""
    person = _person(request, user, job_id)
    review.release(_database(request), job_id, person)
    return Claim(is_own=False, reviewer_name="")


@router.post("/{job_id}/accept", responses=DECISION)
def accept(request: Request, job_id: JobId, said: Acceptance, user: Decider) -> Decided:
    """Sign the answer as it is."""
    undo_s = _settings(request).undo_s
    return _decided(request, user, job_id, lambda db, person: review.accept(
        db, job_id, person, said.comment, seen=said.seen, frames_seen=said.frames_seen, undo_s=undo_s
    ))  # fmt: skip


@router.post("/{job_id}/edit", responses=DECISION)
def edit(request: Request, job_id: JobId, said: Correction, user: Decider) -> Decided:
    """Sign other findings than the model's; of a signed answer, a correction that stands in the place of its report."""
    undo_s, adapters = _settings(request).undo_s, enabled(request)
    return _decided(request, user, job_id, lambda db, person: review.edit(
        db, job_id, said.findings, person, said.comment, adapters=adapters, seen=said.seen,
        frames_seen=said.frames_seen, undo_s=undo_s
    ))  # fmt: skip


@router.post("/{job_id}/reject", responses=DECISION)
def reject(request: Request, job_id: JobId, said: Rejection, user: Decider) -> Decided:
    """Discard the answer; what was sent of it is taken back."""
    undo_s = _settings(request).undo_s
    return _decided(request, user, job_id, lambda db, person: review.reject(
        db, job_id, person, said.reason, seen=said.seen, frames_seen=said.frames_seen, undo_s=undo_s
    ))  # fmt: skip


@router.post("/{job_id}/retry", responses=DECISION)
def retry(request: Request, job_id: JobId, said: AnotherTry, user: Decider) -> Decided:
    """Ask the model once more."""
    return _decided(request, user, job_id, lambda db, person: review.retry(
        db, job_id, person, seen=said.seen, frames_seen=said.frames_seen
    ))  # fmt: skip


@router.post("/{job_id}/reroute", responses=DECISION)
def reroute(request: Request, job_id: JobId, said: Rerouting, user: Decider) -> Decided:
    """Ask another adapter about the same images, when the time to take that back is over."""
    undo_s, adapters = _settings(request).undo_s, enabled(request)
    return _decided(request, user, job_id, lambda db, person: review.reroute(
        db, job_id, said.adapter, person, said.reason, task=said.task, adapters=adapters, seen=said.seen,
        frames_seen=said.frames_seen, undo_s=undo_s
    ))  # fmt: skip


@router.post("/{job_id}/second-reader", responses=DECISION)
def second_reader(request: Request, job_id: JobId, said: SecondReading, user: Decider) -> Decided:
    """Ask for another person's decision."""
    adapters = enabled(request)
    return _decided(request, user, job_id, lambda db, person: review.ask_second_reader(
        db, job_id, person, said.opinion, said.findings, adapters=adapters, seen=said.seen,
        frames_seen=said.frames_seen
    ))  # fmt: skip


@router.post("/{job_id}/comment", responses=DECISION)
def comment(request: Request, job_id: JobId, said: Remark, user: Decider) -> Decided:
    """Keep a remark with a case."""
    return _decided(request, user, job_id, lambda db, person: review.comment(db, job_id, person, said.text))


@router.post("/{job_id}/undo", responses=DECISION)
def undo(request: Request, job_id: JobId, user: Decider) -> Decided:
    """Take one's own decision back, before anything has left."""
    return _decided(request, user, job_id, lambda db, person: review.undo(db, job_id, person))


def _decided(
    request: Request, user: User, job_id: str, decide: Callable[[Database, Reviewer], ReviewOutcome]
) -> Decided:
    person = _person(request, user, job_id)
    try:
        outcome = decide(_database(request), person)
    except ReviewError as error:
        raise HTTPException(409, str(error)) from None
    return Decided(
        job_id=outcome.job_id,
        state=outcome.state.value,
        message=outcome.message,
        already_sent=[
            Sent(sop_instance_uid=sent.sop_instance_uid, destination=sent.destination) for sent in outcome.already_sent
        ],
    )


def _person(request: Request, user: User, job_id: str) -> Reviewer:
    """Return who decides about a job that is there. Raises `HTTPException`."""
    with _database(request).reading() as session:
        if session.get(Job, job_id) is None:
            raise HTTPException(404, f"there is no job {job_id}")
    try:
        return reader(request, user)
    except ReviewError as error:
        raise HTTPException(403, str(error)) from None


def _settings(request: Request) -> ReviewSettings:
    settings: ReviewSettings = request.app.state.settings.review
    return settings


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database
