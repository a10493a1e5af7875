"""Log in and out, and choose a password.

Input: what is typed into the log-in page. Output: a session and its cookie, and the way back to where the person was.
On failure the same page with the reason: the same for a wrong password as for an unknown user, and after several
failures how long to wait.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from worker.audit import events
from worker.audit.events import Actor
from worker.audit.owed import telling
from worker.db.people import Account
from worker.people import accounts, devices, sessions
from worker.people.login import TooSoonError, check_password
from worker.people.oidc import OidcError
from worker.people.passwords import PasswordError, check_new
from worker.people.user import User
from worker.roles import Role
from worker.settings import Settings
from worker.web import access, auditing
from worker.web.access import CHANGE_PASSWORD, check_origin, own_address, requires
from worker.web.caller import caller_of
from worker.web.page import render

router = APIRouter(include_in_schema=False)

OVERDUE: Final = (
    f"This one-time password was good for {accounts.ONE_TIME_DAYS} days. Ask an administrator for a new one; who has "
    "none runs: dicom-worker users set-password LOGIN --one-time"
)
#: Holds what `worker.people.devices` knows a browser by.
DEVICE_COOKIE: Final = "dicom_worker_device"

#: Holds the ID token with which a provider is told at log-out whose session ends (`id_token_hint`).
HINT_COOKIE: Final = "dicom_worker_id_token"

UserOfPage = Annotated[User, requires(Role.VIEWER)]


@router.get("/login", response_class=HTMLResponse)
def login_page(request: Request, next: Annotated[str, Query(max_length=512)] = "/") -> Response:
    """Ask who it is; who is logged in already goes on."""
    if request.app.state.settings.web.login == "off":
        return RedirectResponse("/", status_code=303)
    return login_page_with(request, next)


@router.post("/login", response_class=HTMLResponse)
def log_in(
    request: Request,
    login: Annotated[str, Form(max_length=256)] = "",
    password: Annotated[str, Form(max_length=1024)] = "",
    next: Annotated[str, Form(max_length=512)] = "/",
) -> Response:
    """Let somebody in, or say that login and password do not fit."""
    check_origin(request)
    peer = peer_address(request)
    try:
        account = check_password(request.app.state.database, login, password, peer, device_of(request))
    except TooSoonError as error:
        tell_refused(request, login, "too many attempts", often=True)
        answer = login_page_with(request, next, f"{error}.", 429)
        answer.headers["Retry-After"] = str(error.wait_s)
        return answer
    if account is None:
        tell_refused(request, login, "wrong login or password")
        return login_page_with(request, next, "This login and password do not fit together.", 403)
    if accounts.is_overdue(account):
        tell_refused(request, login, "the one-time password is overdue")
        return login_page_with(request, next, OVERDUE, 403)
    return let_in(request, account, CHANGE_PASSWORD if account.must_change_password else own_address(next))


@router.post("/logout")
def log_out(request: Request, user: UserOfPage) -> Response:
    """End this session, and at the provider that vouched for the user theirs there."""
    caller = caller_of(request)
    if caller is not None and caller.session_token:
        with request.app.state.database.writing() as session:
            sessions.end(session, sessions.digest_of(caller.session_token))
        auditing.write(request, lambda us, who: events.authentication(us, who, logs_in=False))
    answer = _to_the_provider(request, user) or RedirectResponse("/login", status_code=303)
    for name in (access.COOKIE, HINT_COOKIE):
        access.delete_cookie(request, answer, name)
    # What this browser kept of the pages goes, too; its storage holds no more than the choice of light or dark.
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


def _to_the_provider(request: Request, user: User) -> Response | None:
    """Return the page that leads on to the provider's log-out; None where there is nothing to end.

    A page of its own: browsers let no form lead to another site, since the pages' policy forbids it.
    """
    oidc, provider = request.app.state.settings.web.oidc, request.app.state.provider
    if oidc is None or user.id is None:
        return None
    with request.app.state.database.reading() as session:
        account = session.get(Account, user.id)
        if account is None or account.issuer != oidc.issuer:
            return None
    id_token = request.cookies.get(access.cookie_name(request, HINT_COOKIE), "")
    try:
        address = provider.end_session_address(id_token, f"{base_address(request)}/login")
    except OidcError:  # it cannot be asked: here the session has ended all the same
        return None
    if address is None:
        return None
    request.state.caller = None
    context = {"bare": True, "provider": oidc.name, "address": address, "refresh_s": f"0; url={address}"}
    return render(request, "logged_out.html", context)


@router.get(CHANGE_PASSWORD, response_class=HTMLResponse)
def password_page(request: Request, user: UserOfPage) -> Response:
    """Ask for a new password."""
    return _password_page(request, user)


@router.post(CHANGE_PASSWORD, response_class=HTMLResponse)
def change_password(
    request: Request,
    user: UserOfPage,
    current: Annotated[str, Form(max_length=1024)] = "",
    password: Annotated[str, Form(max_length=1024)] = "",
    again: Annotated[str, Form(max_length=1024)] = "",
) -> Response:
    """Set a new password; every other session of this user ends."""
    settings: Settings = request.app.state.settings
    database = request.app.state.database
    try:  # counted: whoever found a browser open must not try one after the other
        peer, device = peer_address(request), device_of(request)
        account = check_password(database, user.login, current, peer, device) if user.id is not None else None
    except TooSoonError as error:
        return _password_page(request, user, f"{str(error)[0].upper()}{str(error)[1:]}.")
    if account is None:
        return _password_page(request, user, "The current password is another one.")
    if password != again:
        return _password_page(request, user, "The new password was not typed the same way twice.")
    if password == current:
        return _password_page(request, user, "The new password must be another one than the current.")
    try:
        check_new(password, settings.web.password_length, (user.login, user.person_name, user.organization))
    except PasswordError as error:
        return _password_page(request, user, f"{str(error)[0].upper()}{str(error)[1:]}.")
    with telling(database) as session:
        account = session.get_one(Account, user.id)
        accounts.set_password(session, account, password)
        told = partial(events.user_changed, login=user.login, what="password changed")
        auditing.owe(request, session, told)
    return let_in(request, account, "/")


def let_in(request: Request, account: Account, address: str, *, by_password: bool = True) -> Response:
    """Open a session under a new token, whatever the browser held before, and lead on.

    Somebody who was disabled, or whose password was changed, since `account` was read is shown the log-in page.
    """
    settings: Settings = request.app.state.settings
    held = access.cookie_of(request)
    with request.app.state.database.writing() as session:
        if held:
            sessions.end(session, sessions.digest_of(held))
        # Locked, and never written back: what an administrator changed this moment must stand.
        now = session.get(Account, account.id, with_for_update=True)
        if now is None or now.disabled or now.password_hash != account.password_hash:
            return login_page_with(request, address, "The account was changed this moment. Log in again.", 403)
        browser = request.headers.get("user-agent", "")
        token = sessions.begin(session, now, settings.web, peer_address(request), browser)
        device = devices.remember(device_of(request), now) if by_password else ""
        who = Actor(now.login, now.person_name, peer_address(request))
    auditing.write(request, events.authentication, who)
    answer = RedirectResponse(address, status_code=303)
    # Lax: a link from elsewhere leads to the page; what changes something is checked by its Origin and CSRF token.
    access.set_cookie(request, answer, access.COOKIE, token, samesite="lax")
    if device:  # only our own log-in page needs it
        access.set_cookie(request, answer, DEVICE_COOKIE, device, samesite="strict", max_age=devices.KEPT_S)
    return answer


def base_address(request: Request) -> str:
    """Return the address of these pages as the provider knows them, without a slash at its end."""
    public: str = request.app.state.settings.web.public_url
    base = urlsplit(public or str(request.base_url))
    return f"{base.scheme}://{base.netloc}"


def device_of(request: Request) -> str:
    """Return what this browser holds of those who logged in with it before."""
    return request.cookies.get(access.cookie_name(request, DEVICE_COOKIE), "")


def peer_address(request: Request) -> str:
    """Return from where the request comes."""
    return request.client.host if request.client is not None else ""


def tell_refused(request: Request, login: str, reason: str, *, often: bool = False) -> None:
    """Write the audit message; what cannot be a login may be a password typed into the wrong field.

    What a stranger can do as `often` as they like is told once in a while, or they would fill the disk with it.
    """
    who = Actor(login.strip().lower() if accounts.is_login(login) else "unknown", address=peer_address(request))
    if often and not request.app.state.told.is_new(("refused log-in", who.address, reason)):
        return
    auditing.write(request, lambda us, who: events.authentication(us, who, refused=reason), who)


def login_page_with(request: Request, way_back: str, trouble: str = "", status_code: int = 200) -> Response:
    """Return the log-in page, with what stands in the way."""
    oidc = request.app.state.settings.web.oidc
    provider = "" if oidc is None else oidc.name
    context = {"next": own_address(way_back), "trouble": trouble, "bare": True, "provider": provider}
    return render(request, "login.html", context, status_code)


def _password_page(request: Request, user: User, trouble: str = "") -> Response:
    caller = caller_of(request)
    must = caller is not None and caller.must_change_password
    context = {
        "trouble": trouble,
        "must": must,
        "bare": must,
        "shortest": request.app.state.settings.web.password_length,
    }
    return render(request, "password.html", context, 400 if trouble else 200)
