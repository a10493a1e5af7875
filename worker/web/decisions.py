"""A person's word about a case, out of a form: claim, accept, edit, reject, re-route, pass on, take back.

Input: a form of the case page; `Before` says what was shown, and in which work list the person goes on. Output: the
next case of that list, with a line about what was decided; or the same page with what stands in the way. Every form
works without JavaScript.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from worker import review
from worker.db import saved_views
from worker.db.records import Job
from worker.db.units import asked_adapter
from worker.people.user import User
from worker.review import Reviewer, ReviewError
from worker.roles import Role
from worker.states import JobState
from worker.web.access import requires
from worker.web.case import show
from worker.web.changes import is_unchanged
from worker.web.finding_forms import errors_by_field, findings_in
from worker.web.page import render
from worker.web.reading_room import account_of, reader, site_adapters, told
from worker.web.signing import sign_page

router = APIRouter(prefix="/cases", include_in_schema=False)

Decider = Annotated[User, requires(Role.REVIEWER)]
Words = Annotated[str, Form(max_length=2000)]
Id = Annotated[str, Query(max_length=32)]


@dataclass(frozen=True, slots=True)
class Before:
    """What a person had before them when they sent a form."""

    #: Digest of the answer that was shown.
    seen: str = ""
    #: Pictures that were on the screen, each counted once; None where the browser did not say.
    frames_seen: int | None = None
    #: Id of the work list's filters that they go on with; empty for everything.
    view: str = ""

    @property
    def shown(self) -> dict[str, Any]:
        """Return what the decisions of `worker.review` want to know of it.

        A form that does not say which answer it is about decides nothing: what stands here instead fits no answer.
        """
        return {"seen": self.seen or "not said", "frames_seen": self.frames_seen}


def before(
    seen: Annotated[str, Form(max_length=64)] = "",
    looked: Annotated[str, Form(max_length=16)] = "",
    view: Annotated[str, Form(max_length=32)] = "",
) -> Before:
    """Return the fields that every form of a case has; `looked` is empty where no script has counted."""
    return Before(seen, int(looked) if looked.isascii() and looked.isdigit() else None, view)


Had = Annotated[Before, Depends(before)]


@router.get("/next")
def next_case(request: Request, user: Decider, after: Id = "", view: Id = "") -> Response:
    """Lead to the first case of a work list that this person may take; without filters, to the most urgent."""
    return _next(request, user, after, view)


@router.post("/{job_id}/claim")
def claim(request: Request, user: Decider, job_id: str) -> Response:
    """Take or renew the claim to a case; answers with the line that says whose it is."""
    settings = request.app.state.settings.review
    try:
        person = reader(request, user)
    except ReviewError as error:
        return render(request, "claim.html", {"claim": None, "why": str(error)})
    state = review.claim(request.app.state.database, job_id, person, settings.claim_s)
    return render(request, "claim.html", {"claim": state, "job_id": job_id, "why": "decided"})


@router.post("/{job_id}/release")
def release(request: Request, user: Decider, job_id: str, had: Had) -> Response:
    """Give a case back, and go back to the work list."""
    try:
        review.release(request.app.state.database, job_id, reader(request, user))
    except ReviewError as error:
        return show(request, user, job_id, trouble=told(error), status_code=409)
    return RedirectResponse(f"/{_asked(view=had.view)}", status_code=303)


@router.post("/{job_id}/accept")
def accept(request: Request, user: Decider, job_id: str, had: Had, comment: Words = "") -> Response:
    """Sign the answer as it is."""
    return _decide(request, user, job_id, "accept", had, comment, lambda db, person: review.accept(
        db, job_id, person, comment, undo_s=_undo_s(request), **had.shown
    ))  # fmt: skip


@router.post("/{job_id}/reject")
def reject(request: Request, user: Decider, job_id: str, had: Had, reason: Words = "") -> Response:
    """Reject the answer."""
    return _decide(request, user, job_id, "reject", had, reason, lambda db, person: review.reject(
        db, job_id, person, reason, undo_s=_undo_s(request), **had.shown
    ))  # fmt: skip


@router.post("/{job_id}/retry")
def retry(request: Request, user: Decider, job_id: str, had: Had) -> Response:
    """Ask the model once more."""
    return _decide(request, user, job_id, "retry", had, "", lambda db, person: review.retry(
        db, job_id, person, **had.shown
    ))  # fmt: skip


@router.post("/{job_id}/reroute")
def reroute(
    request: Request, user: Decider, job_id: str, had: Had, target: Annotated[str, Form(max_length=200)] = "",
    reason: Words = "",
) -> Response:  # fmt: skip
    """Ask another adapter; `target` is its name, with its kind of question after a ``|``."""
    adapter, _, task = target.partition("|")
    return _decide(request, user, job_id, "reroute", had, reason, lambda db, person: review.reroute(
        db, job_id, adapter, person, reason, task=task, adapters=site_adapters(request), undo_s=_undo_s(request),
        **had.shown,
    ))  # fmt: skip


@router.post("/{job_id}/second-reader")
def second_reader(request: Request, user: Decider, job_id: str, had: Had, opinion: Words = "") -> Response:
    """Ask another person."""
    return _decide(request, user, job_id, "second-reader", had, opinion, lambda db, person: review.ask_second_reader(
        db, job_id, person, opinion, **had.shown
    ))  # fmt: skip


@router.post("/{job_id}/comment")
def comment(request: Request, user: Decider, job_id: str, had: Had, text: Words = "") -> Response:
    """Keep a remark."""
    try:
        review.comment(request.app.state.database, job_id, reader(request, user), text)
    except ReviewError as error:
        return show(
            request, user, job_id, view=had.view, trouble=told(error), opened="comment", comment=text, status_code=409
        )
    return RedirectResponse(f"/cases/{job_id}{_asked(view=had.view)}", status_code=303)


@router.post("/{job_id}/undo")
def undo(request: Request, user: Decider, job_id: str, had: Had) -> Response:
    """Take the last decision back, and show the case again."""
    try:
        review.undo(request.app.state.database, job_id, reader(request, user))
    except ReviewError as error:
        return show(request, user, job_id, view=had.view, trouble=told(error), status_code=409)
    return RedirectResponse(f"/cases/{job_id}{_asked(view=had.view)}", status_code=303)


@router.post("/{job_id}/edit")
async def read_edit(request: Request, user: Decider, job_id: str, had: Had) -> Response:
    """Sign other findings than the model's: first shows what would be signed, then signs it."""
    return await run_in_threadpool(_edit, request, user, job_id, had, await request.form())


def _edit(request: Request, user: User, job_id: str, had: Before, form: FormData) -> Response:
    sent = [(name, text) for name, text in form.multi_items() if isinstance(text, str)]
    said = dict(sent)
    remark, step = said.get("comment", "")[:2000], said.get("step", "")
    adapters = site_adapters(request)
    with request.app.state.database.reading() as session:
        job = session.get(Job, job_id)
    if job is None:
        return show(request, user, job_id)
    again: dict[str, Any] = {"view": had.view, "opened": "edit", "comment": remark}
    try:
        model = asked_adapter(adapters, job).findings
        typed = findings_in(model, sent)
        findings = model.model_validate(typed).model_dump(mode="json")
        is_accepted = is_unchanged(findings, job.findings) and job.state is not JobState.VERIFIED
        findings = dict(job.findings or {}) if is_accepted else findings
        person = reader(request, user)
    except ValidationError as error:
        trouble, errors = "These findings cannot be signed yet: see the marked fields.", errors_by_field(error)
        return show(request, user, job_id, trouble=trouble, typed=typed, errors=errors, status_code=422, **again)
    except (LookupError, ReviewError) as error:
        return show(request, user, job_id, view=had.view, trouble=told(error), status_code=409)
    if step == "change":
        return show(request, user, job_id, typed=typed, **again)
    if step == "second reader":
        return _decide(request, user, job_id, "edit", had, remark, lambda db, person: review.ask_second_reader(
            db, job_id, person, remark, findings, adapters=adapters, **had.shown
        ), typed)  # fmt: skip
    if step == "sign" and is_accepted:  # nothing was edited, and no report shall say so
        return _decide(request, user, job_id, "accept", had, remark, lambda db, person: review.accept(
            db, job_id, person, remark, undo_s=_undo_s(request), **had.shown
        ))  # fmt: skip
    if step == "sign":
        return _decide(request, user, job_id, "edit", had, remark, lambda db, person: review.edit(
            db, job_id, findings, person, remark, adapters=adapters, undo_s=_undo_s(request), **had.shown
        ), typed)  # fmt: skip
    return sign_page(request, job_id, person, findings, sent)


def _decide(
    request: Request,
    user: User,
    job_id: str,
    opened: str,
    had: Before,
    said: str,
    decision: Callable[[Any, Reviewer], review.ReviewOutcome],
    typed: dict[str, Any] | None = None,
) -> Response:
    """Take a decision and lead on, or show the case again with what stands in the way."""
    try:
        decision(request.app.state.database, reader(request, user))
    except ReviewError as error:
        again: dict[str, Any] = {"view": had.view, "opened": opened, "comment": said, "typed": typed}
        return show(request, user, job_id, trouble=told(error), status_code=409, **again)
    return _next(request, user, job_id, had.view)


def _next(request: Request, user: User, after: str, view: str) -> Response:
    database = request.app.state.database
    with database.reading() as session:
        filters, _ = saved_views.filters_of(session, account_of(user), view)
    try:
        found = review.next_case(database, reader(request, user), after, filters)
    except ReviewError:
        found = None
    place = f"/cases/{found}" if found else "/"
    return RedirectResponse(f"{place}{_asked(view=view, decided=after)}", status_code=303)


def _asked(**values: str) -> str:
    """Return the query of an address, without what is empty."""
    given = {name: value for name, value in values.items() if value}
    return f"?{urlencode(given)}" if given else ""


def _undo_s(request: Request) -> float:
    undo_s: float = request.app.state.settings.review.undo_s
    return undo_s
