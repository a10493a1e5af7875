"""A person's word about a case, out of a form: claim, accept, edit, reject, re-route, pass on, take back.

Input: a form of the case page; `seen` in it is the digest of what was shown. Output: the next case, with a line about
what was decided; or the same page with what stands in the way. Every form works without JavaScript.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData

from worker import review
from worker.db.records import Job
from worker.db.units import asked_adapter
from worker.people.user import User
from worker.review import Reviewer, ReviewError
from worker.roles import Role
from worker.web import auditing
from worker.web.access import requires
from worker.web.case import show
from worker.web.finding_forms import errors_by_field, findings_in
from worker.web.page import render
from worker.web.reading_room import reader, site_adapters
from worker.web.report_preview import preview

router = APIRouter(prefix="/cases", include_in_schema=False)

Decider = Annotated[User, requires(Role.REVIEWER)]
Seen = Annotated[str, Form(max_length=64)]
Words = Annotated[str, Form(max_length=2000)]


@router.get("/next")
def next_case(request: Request, user: Decider, after: Annotated[str, Query(max_length=32)] = "") -> Response:
    """Lead to the most urgent case that this person may take."""
    return _next(request, user, after)


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
def release(request: Request, user: Decider, job_id: str) -> Response:
    """Give a case back, and go back to the work list."""
    try:
        review.release(request.app.state.database, job_id, reader(request, user))
    except ReviewError as error:
        return show(request, user, job_id, trouble=str(error), status_code=409)
    return RedirectResponse("/", status_code=303)


@router.post("/{job_id}/accept")
def accept(request: Request, user: Decider, job_id: str, seen: Seen, comment: Words = "") -> Response:
    """Sign the answer as it is."""
    undo_s = request.app.state.settings.review.undo_s
    return _decide(request, user, job_id, "accept", comment, lambda db, person: review.accept(
        db, job_id, person, comment, seen=seen, undo_s=undo_s
    ))  # fmt: skip


@router.post("/{job_id}/reject")
def reject(request: Request, user: Decider, job_id: str, seen: Seen, reason: Words = "") -> Response:
    """Reject the answer."""
    undo_s = request.app.state.settings.review.undo_s
    return _decide(request, user, job_id, "reject", reason, lambda db, person: review.reject(
        db, job_id, person, reason, seen=seen, undo_s=undo_s
    ))  # fmt: skip


@router.post("/{job_id}/retry")
def retry(request: Request, user: Decider, job_id: str, seen: Seen) -> Response:
    """Ask the model once more."""
    return _decide(request, user, job_id, "retry", "", lambda db, person: review.retry(db, job_id, person, seen=seen))


@router.post("/{job_id}/reroute")
def reroute(
    request: Request, user: Decider, job_id: str, seen: Seen, target: Annotated[str, Form(max_length=200)] = "",
    reason: Words = "",
) -> Response:  # fmt: skip
    """Ask another adapter; `target` is its name, with its kind of question after a ``|``."""
    adapter, _, task = target.partition("|")
    return _decide(request, user, job_id, "reroute", reason, lambda db, person: review.reroute(
        db, job_id, adapter, person, reason, task=task, adapters=site_adapters(request), seen=seen
    ))  # fmt: skip


@router.post("/{job_id}/second-reader")
def second_reader(request: Request, user: Decider, job_id: str, seen: Seen, opinion: Words = "") -> Response:
    """Ask another person."""
    return _decide(request, user, job_id, "second-reader", opinion, lambda db, person: review.ask_second_reader(
        db, job_id, person, opinion, seen=seen
    ))  # fmt: skip


@router.post("/{job_id}/comment")
def comment(request: Request, user: Decider, job_id: str, text: Words = "") -> Response:
    """Keep a remark."""
    try:
        outcome = review.comment(request.app.state.database, job_id, reader(request, user), text)
        auditing.decided(request, outcome.job_id, "comment")
    except ReviewError as error:
        return show(request, user, job_id, trouble=str(error), opened="comment", comment=text, status_code=409)
    return RedirectResponse(f"/cases/{job_id}", status_code=303)


@router.post("/{job_id}/undo")
def undo(request: Request, user: Decider, job_id: str) -> Response:
    """Take the last decision back, and show the case again."""
    try:
        outcome = review.undo(request.app.state.database, job_id, reader(request, user))
        auditing.decided(request, outcome.job_id, "undo")
    except ReviewError as error:
        return show(request, user, job_id, trouble=str(error), status_code=409)
    return RedirectResponse(f"/cases/{job_id}", status_code=303)


@router.post("/{job_id}/edit")
async def read_edit(request: Request, user: Decider, job_id: str) -> Response:
    """Sign other findings than the model's: first shows what would be signed, then signs it."""
    return await run_in_threadpool(_edit, request, user, job_id, await request.form())


def _edit(request: Request, user: User, job_id: str, form: FormData) -> Response:
    sent = [(name, text) for name, text in form.multi_items() if isinstance(text, str)]
    said = dict(sent)
    remark, seen, step = said.get("comment", "")[:2000], said.get("seen", ""), said.get("step", "")
    adapters = site_adapters(request)
    with request.app.state.database.reading() as session:
        job = session.get(Job, job_id)
    if job is None:
        return show(request, user, job_id)
    typed: dict[str, Any] = {}
    try:
        model = asked_adapter(adapters, job).findings
        typed = findings_in(model, sent)
        findings = model.model_validate(typed).model_dump(mode="json")
        person = reader(request, user)
    except ValidationError as error:
        errors = errors_by_field(error)
        told = "These findings cannot be signed yet: see the marked fields."
        return show(
            request,
            user,
            job_id,
            trouble=told,
            opened="edit",
            typed=typed,
            errors=errors,
            comment=remark,
            status_code=422,
        )
    except (LookupError, ReviewError) as error:
        return show(request, user, job_id, trouble=str(error), status_code=409)
    if step == "change":
        return show(request, user, job_id, opened="edit", typed=typed, comment=remark)
    if step == "second reader":
        return _decide(request, user, job_id, "edit", remark, lambda db, person: review.ask_second_reader(
            db, job_id, person, remark, findings, adapters=adapters, seen=seen
        ), typed)  # fmt: skip
    if step == "sign":
        undo_s = request.app.state.settings.review.undo_s
        return _decide(request, user, job_id, "edit", remark, lambda db, person: review.edit(
            db, job_id, findings, person, remark, adapters=adapters, seen=seen, undo_s=undo_s
        ), typed)  # fmt: skip
    words = preview(adapters, job, findings, person)
    fields = [(name, text) for name, text in sent if name not in ("csrf_token", "step")]
    context = {"preview": words, "fields": fields, "job_id": job_id, "was": job.findings, "findings": findings}
    return render(request, "sign.html", context | {"undo_s": request.app.state.settings.review.undo_s})


def _decide(
    request: Request,
    user: User,
    job_id: str,
    opened: str,
    said: str,
    decision: Callable[[Any, Reviewer], review.ReviewOutcome],
    typed: dict[str, Any] | None = None,
) -> Response:
    """Take a decision and lead on, or show the case again with what stands in the way."""
    try:
        outcome = decision(request.app.state.database, reader(request, user))
        auditing.decided(request, outcome.job_id, opened)
    except ReviewError as error:
        return show(
            request, user, job_id, trouble=str(error), opened=opened, comment=said, typed=typed, status_code=409
        )
    return _next(request, user, job_id)


def _next(request: Request, user: User, after: str) -> Response:
    try:
        found = review.next_case(request.app.state.database, reader(request, user), after)
    except ReviewError:
        found = None
    decided = f"?{urlencode({'decided': after})}" if after else ""
    return RedirectResponse(f"/cases/{found}{decided}" if found else f"/{decided}", status_code=303)
