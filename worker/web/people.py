"""Users and machines, for administrators: who may log in, in which role, under which name; which tokens are good.

Input: forms. Output: rows, as `dicom-worker users` makes them; a one-time password and a token are shown once. What
cannot be done is the same page with the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Form, Path, Request, Response
from fastapi.responses import HTMLResponse
from sqlalchemy.orm import Session

from worker.audit import events
from worker.db.columns import utc_now
from worker.db.people import Account
from worker.people import accounts, passwords, tokens
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
    password = passwords.one_time_password()

    def added(session: Session) -> tuple[str, str]:
        accounts.add(
            session, login, role, person_name=person_name, organization=organization, password=password,
            is_one_time=True,
        )  # fmt: skip
        return login.lower(), f"{login.lower()} is added as {role}."

    return _changed(request, added, password)


@router.post("/{number}/role", response_class=HTMLResponse)
def set_role(request: Request, number: Number, role: Annotated[Role, Form()]) -> Response:
    """Give a user another role."""

    def changed(session: Session) -> tuple[str, str]:
        account = _account(session, number)
        accounts.set_role(session, account, role)
        return account.login, f"{account.login} is {role} now, and logged out everywhere."

    return _changed(request, changed, roles=True)


@router.post("/{number}/name", response_class=HTMLResponse)
def set_name(request: Request, number: Number, person_name: Text = "", organization: Text = "") -> Response:
    """Set the names with which a user signs."""

    def changed(session: Session) -> tuple[str, str]:
        account = _account(session, number)
        accounts.name(account, person_name, organization)
        return account.login, f"{account.login} signs as {account.person_name or 'nobody'}."

    return _changed(request, changed)


@router.post("/{number}/password", response_class=HTMLResponse)
def reset_password(request: Request, number: Number) -> Response:
    """Give a user a one-time password; the tokens in their name end with the old one."""
    password = passwords.one_time_password()

    def changed(session: Session) -> tuple[str, str]:
        account = _account(session, number)
        revoked = accounts.tokens_revoked(accounts.reset_password(session, account, password, is_one_time=True))
        return account.login, f"{account.login} has a new password and is logged out everywhere{revoked}."

    return _changed(request, changed, password)


@router.post("/{number}/disable", response_class=HTMLResponse)
def disable(request: Request, number: Number) -> Response:
    """Let a user in no more."""

    def changed(session: Session) -> tuple[str, str]:
        account = _account(session, number)
        revoked = accounts.tokens_revoked(accounts.disable(session, account))
        return account.login, f"{account.login} is disabled and logged out everywhere{revoked}."

    return _changed(request, changed)


@router.post("/{number}/enable", response_class=HTMLResponse)
def enable(request: Request, number: Number) -> Response:
    """Let a disabled user in again."""

    def changed(session: Session) -> tuple[str, str]:
        account = _account(session, number)
        accounts.enable(account)
        return account.login, f"{account.login} is enabled."

    return _changed(request, changed)


@router.post("/{number}/log-out", response_class=HTMLResponse)
def log_out(request: Request, number: Number) -> Response:
    """End all sessions of a user."""

    def changed(session: Session) -> tuple[str, str]:
        account = _account(session, number)
        accounts.log_out_everywhere(session, account)
        return account.login, f"{account.login} is logged out everywhere."

    return _changed(request, changed)


@router.post("/tokens", response_class=HTMLResponse)
def add_token(
    request: Request,
    user: Annotated[User, requires(Role.ADMINISTRATOR)],
    name: Text,
    role: Annotated[Role, Form()],
    days: Annotated[float, Form(ge=0.01, le=3660, allow_inf_nan=False)],
    account: Annotated[int | None, Form(ge=1, le=LAST_NUMBER)] = None,
) -> Response:
    """Make a token, of a machine's own or in a user's name, and show it once.

    In somebody else's name it only looks: nobody, an administrator neither, signs reports as another person.
    """
    made = ""

    def added(session: Session) -> tuple[str, str]:
        nonlocal made
        owner = None if account is None else _account(session, account)
        made = tokens.add(session, name, role, days, owner)
        if owner is not None and owner.id != user.id and role is not Role.VIEWER:
            raise accounts.PeopleError(
                f"a token in the name of {owner.login} could sign as them: make it a {Role.VIEWER}"
            )
        in_name = "" if owner is None else f", in the name of {owner.login}"
        return f"token:{name.strip()}", f"The token {name.strip()} is a {role} for {days:g} days{in_name}."

    return _changed(request, added, token=lambda: made, roles=True)


@router.post("/tokens/revoke", response_class=HTMLResponse)
def revoke_token(request: Request, name: Text) -> Response:
    """End a token."""

    def revoked(session: Session) -> tuple[str, str]:
        tokens.revoke(session, name)
        return f"token:{name}", f"The token {name} is revoked: it opens nothing any more."

    return _changed(request, revoked)


def _account(session: Session, number: int) -> Account:
    account = session.get(Account, number)
    if account is None:
        raise accounts.PeopleError("there is no such user any more")
    return account


def _changed(
    request: Request,
    change: Callable[[Session], tuple[str, str]],
    password: str = "",
    *,
    token: Callable[[], str] = lambda: "",
    roles: bool = False,
) -> Response:
    """Change something in one transaction; show the page with what was done, or with why it could not be.

    `change` returns whom it is about, and what was done in words; `token` what it made, which is shown once.
    """
    try:
        with request.app.state.database.writing() as session:
            login, done = change(session)
    except accounts.PeopleError as error:
        return _page(request, trouble=f"{str(error)[0].upper()}{str(error)[1:]}.", status_code=400)
    auditing.write(request, lambda us, who: events.user_changed(us, who, login, done, roles=roles))
    return _page(request, done=done, password=password, token=token())


def _page(
    request: Request,
    *,
    done: str = "",
    password: str = "",
    token: str = "",
    trouble: str = "",
    status_code: int = 200,
) -> Response:
    with request.app.state.database.reading() as session:
        everybody = accounts.everybody(session)
        all_tokens = tokens.listed(session)
    context = {
        "people": everybody,
        "tokens": all_tokens,
        "roles": list(Role),
        "done": done,
        "password": password,
        "token": token,
        "now": utc_now(),
        "trouble": trouble,
    }
    return render(request, "people.html", context, status_code)
