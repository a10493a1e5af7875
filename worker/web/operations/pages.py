"""Pages of operations: what is where, what is on its way, what failed, which adapters answer.

Input: the ledger and what processes reported. Output: HTML; the pipeline's part also alone, for the page that looks
again when something happens. A resend and another try are for administrators; each leaves an event that names them.
Addresses hold this software's own numbers only.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from worker import review
from worker.db.columns import utc_now
from worker.operations import destinations as outbox
from worker.operations import failures
from worker.operations.adapters import LAST_ANSWERS
from worker.operations.connection import check_connection
from worker.operations.delivery_shapes import Connection
from worker.operations.pipeline import pipeline
from worker.operations.waiting import ON_THE_WAY
from worker.people.user import User
from worker.review import ReviewError
from worker.roles import Role
from worker.states import DeliveryState
from worker.web.access import requires
from worker.web.api_document import LAST_NUMBER, NO_NUL, who
from worker.web.operations.parts import TABS, adapter_states, configured
from worker.web.page import render
from worker.web.reading_room import reader, told

router = APIRouter(prefix="/operations", include_in_schema=False, dependencies=[requires(Role.VIEWER)])

Administrator = Annotated[User, requires(Role.ADMINISTRATOR)]
Number = Annotated[int, Query(ge=0, le=LAST_NUMBER)]
Told = Annotated[str, Query(max_length=10)]
Named = Annotated[str, Form(max_length=64, pattern=NO_NUL)]
#: The deliveries that the page of failures shows, beside jobs.
LISTED = {"dead": [DeliveryState.DEAD], "unconfirmed": [DeliveryState.UNCONFIRMED], "waiting": ON_THE_WAY}


@router.get("/pipeline", response_class=HTMLResponse)
def the_pipeline(request: Request) -> Response:
    """Show what is where."""
    return _pipeline(request, "operations/pipeline.html")


@router.get("/pipeline/now", response_class=HTMLResponse)
def pipeline_now(request: Request) -> Response:
    """Show the part of the page that changes."""
    return _pipeline(request, "operations/pipeline_now.html")


@router.get("/destinations", response_class=HTMLResponse)
def destinations(request: Request, resent: Told = "", due: Told = "", offered: Told = "") -> Response:
    """Show each destination, and what was done about one."""
    done = {"resent": _number(resent), "due": _number(due), "offered": _number(offered)}
    return _destinations(request, "operations/destinations.html", done)


@router.get("/destinations/now", response_class=HTMLResponse)
def destinations_now(request: Request) -> Response:
    """Show the part of the page that changes."""
    return _destinations(request, "operations/destinations_now.html", {})


@router.post("/destinations/check", response_class=HTMLResponse)
def check(request: Request, _user: Administrator, destination: Named) -> Response:
    """Ask a destination whether it is there, and show what it said."""
    found = check_connection(request.app.state.settings, destination)
    return _destinations(request, "operations/destinations.html", {}, checked=found)


@router.post("/destinations/try-now")
def try_now(request: Request, _user: Administrator, destination: Named) -> Response:
    """Let what waits for its next try be tried now."""
    done = outbox.try_now(request.app.state.database, destination)
    configured(request, destination, done.in_words)
    return RedirectResponse(f"/operations/destinations?{urlencode({'due': done.due_now})}", status_code=303)


@router.post("/destinations/ask-again")
def ask_again(
    request: Request,
    _user: Administrator,
    destination: Named,
    sop_class_uid: Annotated[str, Form(max_length=64, pattern=NO_NUL)] = "",
) -> Response:
    """Offer a destination again what it was learned not to take."""
    done = outbox.ask_again(request.app.state.database, destination, sop_class_uid or None)
    configured(request, destination, done.in_words)
    return RedirectResponse(f"/operations/destinations?{urlencode({'offered': done.offered_again})}", status_code=303)


@router.get("/adapters", response_class=HTMLResponse)
def adapters(request: Request) -> Response:
    """Show each adapter."""
    with request.app.state.database.reading() as session:
        found = adapter_states(request).all(session)
    return render(request, "operations/adapters.html", {"adapters": found, "last_answers": LAST_ANSWERS, **TABS})


@router.get("/failures", response_class=HTMLResponse)
def failed(
    request: Request,
    show: Annotated[str, Query(pattern="^(dead|unconfirmed|waiting|jobs)$")] = "dead",
    destination: Annotated[str, Query(max_length=64, pattern=NO_NUL)] = "",
    before: Number = 0,
    start: Number = 0,
    resent: Told = "",
) -> Response:
    """Show dead letters, what nobody vouched for, what is on its way, or jobs without a usable answer."""
    context: dict[str, Any] = {"show": show, "destination": destination, "resent": _number(resent), "trouble": ""}
    return _failures(request, context, before=before, start=start)


@router.post("/resend")
def resend(
    request: Request,
    user: Administrator,
    delivery: Annotated[int | None, Form(ge=1, le=LAST_NUMBER)] = None,
    destination: Annotated[str, Form(max_length=64, pattern=NO_NUL)] = "",
    show: Annotated[str, Form(pattern="^(dead|unconfirmed|destinations)$")] = "dead",
) -> Response:
    """Put one delivery, all of a destination, or all there are back into the outbox."""
    done = outbox.resend(
        request.app.state.database,
        by=who(user),
        delivery_ids=None if delivery is None else [delivery],
        destination=destination or None,
    )
    configured(request, done.about(destination), done.in_words)
    resent = {"resent": done.queued_again}
    if show == "destinations":
        return RedirectResponse(f"/operations/destinations?{urlencode(resent)}", status_code=303)
    return RedirectResponse(f"/operations/failures?{urlencode({'show': show, **resent})}", status_code=303)


@router.post("/jobs/{job_id}/retry", response_class=HTMLResponse)
def retry(request: Request, user: Administrator, job_id: str) -> Response:
    """Ask the model once more."""
    try:
        review.retry(request.app.state.database, job_id, reader(request, user))
    except ReviewError as error:
        context: dict[str, Any] = {"show": "jobs", "destination": "", "resent": None, "trouble": told(error, str)}
        return _failures(request, context, status_code=409)
    return RedirectResponse("/operations/failures?show=jobs&resent=1", status_code=303)


def _pipeline(request: Request, template: str) -> Response:
    with request.app.state.database.reading() as session:
        found = pipeline(session, request.app.state.settings)
    return render(request, template, {"pipeline": found, "now": found.at, **TABS})


def _destinations(
    request: Request, template: str, done: dict[str, int | None], checked: Connection | None = None
) -> Response:
    with request.app.state.database.reading() as session:
        found = outbox.destination_states(session, request.app.state.settings)
    context = {"destinations": found, "now": utc_now(), "checked": checked, **done, **TABS}
    return render(request, template, context)


def _failures(
    request: Request, context: dict[str, Any], *, before: int = 0, start: int = 0, status_code: int = 200
) -> Response:
    show, destination = str(context["show"]), str(context["destination"])
    with request.app.state.database.reading() as session:
        states = outbox.destination_states(session, request.app.state.settings)
        counts = {"dead": sum(one.dead for one in states), "unconfirmed": sum(one.unconfirmed for one in states)}
        counts["waiting"] = sum(one.waiting + one.sending for one in states)
        counts["jobs"] = failures.count_failed(session)
        if show == "jobs":
            context["jobs"] = failures.failed_jobs(session, offset=start)
        else:
            context["page"] = outbox.deliveries(
                session, states=LISTED[show], destination=destination, before=before or None
            )
    context |= {"counts": counts, "destinations": states, "now": utc_now(), **TABS}
    return render(request, "operations/failures.html", context, status_code=status_code)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None
