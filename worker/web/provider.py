"""Log-in by an OpenID provider: to it, and back.

Input: a click on the log-in page, and what the browser brings back. Output: a session, as after a password. On failure
the log-in page with the reason. What must come back lies in a cookie of this browser for ten minutes.
"""

from __future__ import annotations

import hmac
import json
from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.exc import IntegrityError

from worker.audit import events
from worker.audit.events import Actor
from worker.audit.owed import telling
from worker.people.oidc import Attempt, Identity, NoRoleError, OidcError, Provider
from worker.people.vouched import account_of, end_of
from worker.settings import Settings
from worker.web import access, auditing
from worker.web.access import own_address
from worker.web.login import HINT_COOKIE, base_address, let_in, login_page_with, peer_address, tell_refused

router = APIRouter(prefix="/login", include_in_schema=False)

COOKIE: Final = "dicom_worker_login"
_LASTS_S: Final = 600
#: Browsers keep no cookie of more than 4096 bytes, its name and attributes included (RFC 6265 6.1).
_LONGEST_HINT: Final = 3800
BACK: Final = "/login/back"


@router.get("/provider")
def to_provider(request: Request, next: Annotated[str, Query(max_length=512)] = "/") -> Response:
    """Lead to the provider."""
    provider: Provider | None = request.app.state.provider
    if provider is None:
        return RedirectResponse("/login", status_code=303)
    attempt = Attempt.new()
    try:
        address = provider.address(attempt, _redirect_uri(request))
    except OidcError as error:
        return login_page_with(request, next, f"{error}.", 502)
    answer = RedirectResponse(address, status_code=303)
    kept = json.dumps([attempt.state, attempt.nonce, attempt.verifier, own_address(next)])
    access.set_cookie(request, answer, COOKIE, kept.encode().hex(), samesite="lax", max_age=_LASTS_S)
    return answer


@router.get("/back")
def back(
    request: Request,
    code: Annotated[str, Query(max_length=4096)] = "",
    state: Annotated[str, Query(max_length=256)] = "",
    iss: Annotated[str | None, Query(max_length=512)] = None,
) -> Response:
    """Let in whom the provider vouches for."""
    provider: Provider | None = request.app.state.provider
    settings: Settings = request.app.state.settings
    if provider is None or settings.web.oidc is None:
        return RedirectResponse("/login", status_code=303)
    way_back = "/"
    try:
        attempt, way_back = _kept(request, state)
        if not code:
            raise _broken_off()
        identity = provider.identity(attempt, code, _redirect_uri(request), iss)
        answer = _let_in(request, identity, way_back, settings.web.oidc.organization)
    except OidcError as error:
        if isinstance(error, NoRoleError):
            _log_out(request, error)
        tell_refused(request, "", str(error), often=True)
        answer = login_page_with(request, way_back, f"{str(error)[0].upper()}{str(error)[1:]}.", 403)
    access.delete_cookie(request, answer, COOKIE)
    return answer


def _let_in(request: Request, identity: Identity, way_back: str, organization: str) -> Response:
    try:
        with telling(request.app.state.database) as session:
            account, changed = account_of(session, identity, organization)
            if changed:
                who = Actor(account.login, account.person_name, peer_address(request))
                told = partial(events.user_changed, login=account.login, what=changed, roles=True)
                auditing.owe(request, session, told, who)
    except IntegrityError:  # the same person in two windows at once
        raise OidcError("the log-in was used twice at the same moment; try again") from None
    answer = let_in(request, account, way_back, by_password=False)
    if answer.status_code == 303 and len(identity.id_token) <= _LONGEST_HINT:
        access.set_cookie(request, answer, HINT_COOKIE, identity.id_token, samesite="lax")
    return answer


def _log_out(request: Request, error: NoRoleError) -> None:
    """End the sessions and tokens of somebody who has no role any more."""
    with telling(request.app.state.database) as session:
        if login := end_of(session, error.issuer, error.subject):
            who = Actor(login, address=peer_address(request))
            what = f"has no role any more, says {error.issuer}: logged out everywhere, tokens revoked"
            told = partial(events.user_changed, login=login, what=what, roles=True)
            auditing.owe(request, session, told, who)


def _kept(request: Request, state: str) -> tuple[Attempt, str]:
    """Return the attempt that this browser began, and where it goes on. Raises `OidcError`."""
    kept = request.cookies.get(access.cookie_name(request, COOKIE), "")
    try:
        begun, nonce, verifier, way_back = map(str, json.loads(bytes.fromhex(kept)))
    except (ValueError, TypeError):
        raise _broken_off() from None
    if not hmac.compare_digest(begun.encode(), state.encode()):
        raise _broken_off()
    return Attempt(begun, nonce, verifier), own_address(way_back)


def _broken_off() -> OidcError:
    return OidcError("the log-in was broken off, or took too long; try again")


def _redirect_uri(request: Request) -> str:
    """Return the address that the provider knows us by."""
    return f"{base_address(request)}{BACK}"
