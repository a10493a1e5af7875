"""A user's own page: where they are logged in, and which tokens act in their name.

Input: clicks on buttons. Output: sessions that have ended and tokens that are revoked. What is not theirs is 404.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from worker.audit import events
from worker.audit.owed import telling
from worker.db.people import Account, OpenSession
from worker.people import accounts, sessions, tokens
from worker.people.user import User
from worker.roles import Role
from worker.web import auditing
from worker.web.access import requires
from worker.web.caller import caller_of
from worker.web.page import render

router = APIRouter(prefix="/account", include_in_schema=False)

#: What stands in a User-Agent -> what people call it; later ones also stand in those of earlier ones.
_BROWSERS: Final = (
    *(("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("FxiOS/", "Firefox"), ("CriOS/", "Chrome")),
    *(("Chrome/", "Chrome"), ("Safari/", "Safari")),
)
_SYSTEMS: Final = (
    *(("Windows", "Windows"), ("Android", "Android"), ("iPad", "iPadOS or iOS"), ("iPhone", "iPadOS or iOS")),
    *(("Mac OS X", "macOS"), ("Linux", "Linux")),
)

UserOfPage = Annotated[User, requires(Role.VIEWER)]


@router.get("", response_class=HTMLResponse)
def account(request: Request, user: UserOfPage) -> Response:
    """Show the user's sessions and tokens."""
    with request.app.state.database.reading() as session:
        number = -1 if user.id is None else user.id
        opened = sessions.of_user(session, number, request.app.state.settings.web)
        in_their_name = tokens.listed(session, number)
        row = session.get(Account, number)
    caller = caller_of(request)
    context = {
        "sessions": opened,
        "browser_in_words": browser_in_words,
        "this": sessions.digest_of(caller.session_token) if caller is not None else "",
        "tokens": in_their_name,
        "has_password": row is not None and bool(row.password_hash),
    }
    return render(request, "account.html", context)


@router.post("/sessions/end")
def end_session(request: Request, user: UserOfPage, session_id: Annotated[str, Form(max_length=64)]) -> Response:
    """End one of the user's sessions."""
    with request.app.state.database.writing() as session:
        opened = session.get(OpenSession, session_id)
        where = "" if opened is None else opened.peer_address
        ended = user.id is not None and sessions.end(session, session_id, of=user.id)
    if ended:
        remark = f"ended from elsewhere: the session that was opened from {where or 'an unknown address'}"
        auditing.write(request, lambda us, who: events.authentication(us, who, logs_in=False, remark=remark))
    return _back(request, found=ended)


@router.post("/tokens/revoke")
def revoke_token(request: Request, user: UserOfPage, name: Annotated[str, Form(max_length=64)]) -> Response:
    """End one of the tokens in the user's name."""
    with telling(request.app.state.database) as session:
        theirs = {token.name for token in tokens.listed(session, user.id)} if user.id is not None else set()
        try:
            found = name in theirs and bool(tokens.revoke(session, name))
        except accounts.PeopleError:  # gone this moment
            found = False
        if found:
            told = partial(events.user_changed, login=user.login, what=f"token {name} revoked")
            auditing.owe(request, session, told)
    return _back(request, found=found)


def browser_in_words(agent: str) -> str:
    """Return what a User-Agent header means to a person; as it is, where it is none of the well-known."""
    program = next((name for mark, name in _BROWSERS if mark in agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    return " on ".join(filter(None, (program, system))) if program else agent or "unknown"


def _back(request: Request, *, found: bool) -> Response:
    if found:
        return RedirectResponse("/account", status_code=303)
    return render(request, "message.html", {"title": "Not found", "message": "It has ended already."}, 404)
