"""Pages about routes: the rules in force, what they say of a received study, and other rules tried on the last days.

Input: a study, or rules as YAML in a form. Output: HTML. A mistake in the rules is the same page with what is wrong,
line by line, and the text as it was typed. Nothing is changed by any of it.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy import or_, select

from worker.db.records import Study
from worker.operations import rules
from worker.operations.replay import DAYS_AT_MOST, SERIES, SERIES_AT_MOST
from worker.operations.why_not import why_not
from worker.people.user import User
from worker.roles import Role
from worker.settings import Settings
from worker.web.access import requires
from worker.web.api_document import NO_NUL, who
from worker.web.caller import caller_of
from worker.web.operations.parts import TABS, enabled, replays
from worker.web.page import render, status_of
from worker.web.replays import ReplayBusyError

router = APIRouter(include_in_schema=False, dependencies=[requires(Role.VIEWER)])

DAYS = 7
Reviewer = Annotated[User, requires(Role.REVIEWER)]


@router.get("/operations/rules", response_class=HTMLResponse)
def in_force(request: Request, again: Annotated[str, Query(max_length=32, pattern=NO_NUL)] = "") -> Response:
    """Show the rules in the order in which they are looked at, and the form to try others; `again`: a replay's."""
    return _rules(request, text=replays(request).text_of(again) or None)


@router.post("/operations/rules/explain", response_class=HTMLResponse)
def find_study(request: Request, q: Annotated[str, Form(max_length=64, pattern=NO_NUL)] = "") -> Response:
    """Lead to the routes of the study that is meant; by POST, so that no address holds an accession number."""
    wanted = q.strip()
    with request.app.state.database.reading() as session:
        meant = or_(Study.accession_number == wanted, Study.study_instance_uid == wanted)
        found = session.scalars(select(Study.id).where(meant).order_by(Study.id.desc()).limit(1)).first()
    if not wanted or found is None:
        return _rules(request, no_study="No study has this accession number or UID. Look for it with Find.", status=404)
    return RedirectResponse(f"/studies/{found}/routes", status_code=303)


@router.get("/studies/{number}/routes", response_class=HTMLResponse)
def of_study(request: Request, number: str) -> Response:
    """Show where the rules in force send each series of a study, rule by rule, and why there is no result yet."""
    settings: Settings = request.app.state.settings
    is_number = number.isascii() and number.isdigit() and len(number) < 10
    with request.app.state.database.reading() as session:
        found = rules.explain_study(session, settings.routes, enabled(request), int(number)) if is_number else None
        why = why_not(session, settings, int(number)) if found else None
    if found is None:
        nothing = {"title": "Not found", "message": "There is no such study. Search for it above."}
        return render(request, "message.html", nothing, status_code=404)
    return render(request, "operations/study_routes.html", {"routes": found, "why": why, **TABS})


@router.post("/operations/rules/replay", response_class=HTMLResponse)
def begin(
    request: Request,
    user: Reviewer,
    text: Annotated[str, Form(max_length=rules.LONGEST_TEXT)] = "",
    days: Annotated[float, Form(gt=0, le=DAYS_AT_MOST)] = DAYS,
    series: Annotated[int, Form(ge=1, le=SERIES_AT_MOST)] = SERIES,
) -> Response:
    """Begin to try rules; the page that follows shows how far it is."""
    try:
        tried = rules.read_rules(text, enabled(request))
        begun = replays(request).start(
            tried, enabled(request), by=who(user), days=days, series_at_most=series, text=text
        )
    except rules.RulesError as error:
        return _rules(request, text=text, days=days, series=series, wrong=str(error).splitlines(), status=400)
    except ReplayBusyError as error:
        return _rules(request, text=text, days=days, series=series, wrong=[str(error)], status=409)
    return RedirectResponse(f"/operations/rules/replays/{begun.id}", status_code=303)


@router.get("/operations/rules/replays/{replay_id}", response_class=HTMLResponse)
def shown(request: Request, replay_id: str) -> Response:
    """Show a replay: how far it is, or what it found."""
    found = replays(request).get(replay_id)
    if found is None:
        nothing = {"title": "Not found", "message": "This replay is forgotten. Begin it again at Rules."}
        return render(request, "message.html", nothing, status_code=404)
    context = {"replay": found, "text": replays(request).text_of(replay_id), **TABS}
    renew_s = 1 if found.state == "running" else None
    return render(request, "operations/replay.html", context | {"renew_s": renew_s}, status_of(request, renew_s))


@router.post("/operations/rules/replays/{replay_id}/stop")
def stop(request: Request, _user: Reviewer, replay_id: str) -> Response:
    """Stop a replay."""
    replays(request).stop(replay_id)
    replays(request).wait(replay_id, 2)
    return RedirectResponse(f"/operations/rules/replays/{replay_id}", status_code=303)


def _rules(
    request: Request,
    *,
    text: str | None = None,
    days: float = DAYS,
    series: int = SERIES,
    wrong: list[str] | None = None,
    no_study: str = "",
    status: int = 200,
) -> Response:
    settings: Settings = request.app.state.settings
    caller = caller_of(request)
    context = {
        "rules": rules.rules_in_force(settings.routes, enabled(request)),
        "text": rules.rules_as_yaml(settings.routes) if text is None else text,
        "days": days,
        "series": series,
        "most_days": DAYS_AT_MOST,
        "most_series": SERIES_AT_MOST,
        "wrong": wrong or [],
        "no_study": no_study,
        "replays": replays(request).recent(),
        "may_try": caller is not None and caller.user.may(Role.REVIEWER),
        **TABS,
    }
    return render(request, "operations/rules.html", context, status_code=status)
