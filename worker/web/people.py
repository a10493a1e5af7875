"""Users and machines, for administrators: who may log in, in which role, under which name; which tokens are good.

Input: forms. Output: rows, as `dicom-worker users` makes them; a one-time password and a token are shown once. What
cannot be done is the same page with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from worker.audit import events
from worker.audit.owed import telling
from worker.db.columns import utc_now
from worker.db.people import Account
from worker.people import accounts, administration, tokens
from worker.people.administration import Change
from worker.people.user import User
from worker.roles import Role
from worker.web import auditing
from worker.web.access import requires
from worker.web.api_document import LAST_NUMBER
from worker.web.page import render

router = APIRouter(prefix="/people", include_in_schema=False, dependencies=[requires(Role.ADMINISTRATOR)])

Text = Annotated[str, Form(max_length=256)]
Number = Annotated[int, Path(ge=1, le=LAST_NUMBER)]


@router.get("", response_class=HTMLResponse)
def people(request: Request) -> Response:
    """Show everybody who may log in, and all tokens."""
    return _page(request)


@router.post("", response_class=HTMLResponse)
def add(
    request: Request,
    login: Text,
    role: Annotated[Role, Form()],
    person_name: Text = "",
    organization: Text = "",
) -> Response:
    """Add a user with a one-time password."""
    return _changed(request, lambda session: administration.add(session, login, role, person_name, organization))


@router.post("/{number}/role", response_class=HTMLResponse)
def set_role(request: Request, number: Number, role: Annotated[Role, Form()]) -> Response:
    """Give a user another role."""
    return _changed(request, lambda session: administration.set_role(session, _account(session, number), role))


@router.post("/{number}/name", response_class=HTMLResponse)
def set_name(request: Request, number: Number, person_name: Text = "", organization: Text = "") -> Response:
    """Set the names with which a user signs."""
    return _changed(
        request, lambda session: administration.set_name(_account(session, number), person_name, organization)
    )


@router.post("/{number}/password", response_class=HTMLResponse)
def reset_password(request: Request, number: Number) -> Response:
    """Give a user a one-time password."""
    return _changed(request, lambda session: administration.reset_password(session, _account(session, number)))


@router.post("/{number}/disable", response_class=HTMLResponse)
def disable(request: Request, number: Number) -> Response:
    """Let a user in no more."""
    return _changed(request, lambda session: administration.disable(session, _account(session, number)))


@router.post("/{number}/enable", response_class=HTMLResponse)
def enable(request: Request, number: Number) -> Response:
    """Let a disabled user in again."""
    return _changed(request, lambda session: administration.enable(_account(session, number)))


@router.post("/{number}/log-out", response_class=HTMLResponse)
def log_out(request: Request, number: Number) -> Response:
    """End all sessions of a user."""
    return _changed(request, lambda session: administration.log_out(session, _account(session, number)))


@router.post("/tokens", response_class=HTMLResponse)
def add_token(
    request: Request,
    user: Annotated[User, requires(Role.ADMINISTRATOR)],
    name: Text,
    role: Annotated[Role, Form()],
    days: Annotated[float, Form(ge=0.01, le=3660, allow_inf_nan=False)],
    account: Annotated[int | None, Form(ge=1, le=LAST_NUMBER)] = None,
) -> Response:
    """Make a token, of a machine's own or in a user's name, and show it once."""

    def added(session: Session) -> Change:
        owner = None if account is None else _account(session, account)
        return administration.add_token(session, user, name, role, days, owner)

    return _changed(request, added)


@router.post("/tokens/revoke", response_class=HTMLResponse)
def revoke_token(request: Request, name: Text) -> Response:
    """End a token."""
    return _changed(request, lambda session: administration.revoke_token(session, name))


def carry_out(request: Request, change: Callable[[Session], Change]) -> Change:
    """Change something in one transaction, and tell the audit trail. Raises `PeopleError`."""
    with telling(request.app.state.database) as session:
        made = change(session)
        told = partial(events.user_changed, login=made.about, what=made.done, roles=made.roles)
        auditing.owe(request, session, told)
    return made


def _account(session: Session, number: int) -> Account:
    account = session.get(Account, number)
    if account is None:
        raise accounts.PeopleError("there is no such user any more")
    return account


def _changed(request: Request, change: Callable[[Session], Change]) -> Response:
    """Change something; show the page with what was done, or with why it could not be."""
    try:
        return _page(request, made=carry_out(request, change))
    except accounts.PeopleError as error:
        return _page(request, trouble=f"{str(error)[0].upper()}{str(error)[1:]}.", status_code=400)


def _page(request: Request, *, made: Change | None = None, trouble: str = "", status_code: int = 200) -> Response:
    with request.app.state.database.reading() as session:
        everybody = accounts.everybody(session)
        all_tokens = tokens.listed(session)
    context = {
        "people": everybody,
        "tokens": all_tokens,
        "roles": list(Role),
        "made": made,
        "now": utc_now(),
        "trouble": trouble,
    }
    return render(request, "people.html", context, status_code)
