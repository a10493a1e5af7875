"""Who asks, and may they: the dependency that every route declares.

Input: a request with a session's cookie or a machine's Bearer token. Output: the `User`, also as `caller_of(request)`.
On failure `RefusedError`, which `refusal` turns into an answer: a browser is led to the log-in page and back to where
it was, a program gets 401 or 403 as JSON. What changes something must come from one of our own pages: its Origin is
compared, and its form or header must hold the session's CSRF token (OWASP CSRF Prevention Cheat Sheet).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlencode, urlsplit

from fastapi import Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.routing import RouteContext, iter_route_contexts
from starlette.concurrency import run_in_threadpool
from starlette.routing import Mount

from worker.db.sessions import Database
from worker.people import sessions, tokens
from worker.people.user import ANYBODY, User
from worker.roles import Role
from worker.settings import Settings
from worker.web.caller import Caller
from worker.web.page import render
from worker.web_settings import is_local

COOKIE: Final = "dicom_worker_session"
CSRF_FIELD: Final = "csrf_token"
CSRF_HEADER: Final = "X-CSRF-Token"
#: Says that a page asks by itself, which keeps no session open.
BACKGROUND_HEADER: Final = "X-Background"
#: Where a user who must choose a new password may still go.
CHANGE_PASSWORD: Final = "/account/password"  # noqa: S105 - an address
_STILL_OPEN: Final = frozenset({CHANGE_PASSWORD, "/logout"})
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")


class RefusedError(Exception):
    """The request is not served; the message says why."""

    def __init__(self, status_code: int, message: str, *, leads_to: str = "") -> None:
        """Say why, and where a browser goes instead."""
        self.status_code, self.leads_to = status_code, leads_to
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Requires:
    """Lets in who has a role; a dependency of routes."""

    role: Role
    #: Whoever asks on this machine needs no role.
    open_here: bool = False

    async def __call__(self, request: Request) -> User:
        """Return who asks. Raises `RefusedError`."""
        if self.open_here and request.client is not None and is_local(request.client.host):
            return ANYBODY
        caller = await run_in_threadpool(identify, request)
        if caller is None:
            raise RefusedError(401, "log in first, or send a token: Authorization: Bearer ...", leads_to="/login")
        request.state.caller = caller
        if request.method not in _SAFE_METHODS:
            await _check_own_page(request, caller)
        if caller.must_change_password and request.url.path not in _STILL_OPEN:
            raise RefusedError(403, "choose a new password first", leads_to=CHANGE_PASSWORD)
        if not caller.user.may(self.role):
            has = f"{caller.user.login} has the role {caller.user.role}"
            raise RefusedError(403, f"this is for the role {self.role}, and {has}; ask an administrator")
        return caller.user


def requires(role: Role, *, open_here: bool = False) -> Any:
    """Return the dependency that lets in who has this role, or one that includes it."""
    return Depends(Requires(role, open_here))


def undeclared(app: FastAPI, open_to_all: frozenset[str]) -> list[str]:
    """Return the paths of routes that declare no role and are not meant to be open."""
    return [path for path, route in routes(app) if path not in open_to_all and not roles_of(route)]


def roles_of(route: RouteContext) -> set[Role]:
    """Return the roles that a route declares, itself or by the router that it is in."""
    dependant = getattr(route, "dependant", None)
    return {needed.role for needed in _calls(dependant) if isinstance(needed, Requires)} if dependant else set()


async def refusal(request: Request, error: Exception) -> Response:
    """Answer a `RefusedError`: to a browser with a page, to a program with JSON."""
    if not isinstance(error, RefusedError):
        raise error
    if request.headers.get("HX-Request") and error.leads_to:
        return Response(status_code=error.status_code, headers={"HX-Redirect": _with_way_back(request, error.leads_to)})
    if not is_browser(request):
        headers = {"WWW-Authenticate": "Bearer"} if error.status_code == 401 else None
        return JSONResponse({"detail": str(error)}, status_code=error.status_code, headers=headers)
    if error.leads_to:
        return RedirectResponse(_with_way_back(request, error.leads_to), status_code=303)
    context = {"title": "Not allowed", "message": f"{error}."}
    return await run_in_threadpool(render, request, "message.html", context, error.status_code)


def own_address(text: str) -> str:
    """Return where a page on this server leads; the first page for anything else, such as another site's address."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    is_own = text.startswith("/") and not text.startswith(("//", "/\\")) and not (parts.scheme or parts.netloc)
    return text if is_own and text.isprintable() and "\\" not in text else "/"


def is_https(request: Request) -> bool:
    """Return whether the browser asks by https, here or at the proxy before us."""
    public: str = request.app.state.settings.web.public_url
    return request.url.scheme == "https" or public.startswith("https://")


def cookie_name(request: Request, name: str) -> str:
    """Return a cookie's whole name.

    By https browsers take the prefix from this very host alone (RFC 6265bis 4.1.3.2): no neighbour in the same domain
    can plant a session of theirs, in which a reader would sign under another name.
    """
    return f"__Host-{name}" if is_https(request) else name


def cookie_of(request: Request) -> str:
    """Return what the browser holds of its session; empty where there is none."""
    return request.cookies.get(cookie_name(request, COOKIE), "")


def set_cookie(
    request: Request, answer: Response, name: str, value: str, *, samesite: Literal["lax", "strict"],
    max_age: int | None = None,
) -> None:  # fmt: skip
    """Give the browser a cookie that only this server reads."""
    answer.set_cookie(
        cookie_name(request, name), value, max_age=max_age, path="/", httponly=True, samesite=samesite,
        secure=is_https(request),
    )  # fmt: skip


def delete_cookie(request: Request, answer: Response, name: str) -> None:
    """Take a cookie from the browser; one with the prefix is replaced only by one that may have it, too."""
    answer.delete_cookie(cookie_name(request, name), path="/", secure=is_https(request), httponly=True, samesite="lax")


async def still_let_in(request: Request, role: Role) -> bool:
    """Return whether who asked is let in still, for an answer that goes on for long."""
    caller = await run_in_threadpool(identify, request)
    return caller is not None and not caller.must_change_password and caller.user.may(role)


def check_origin(request: Request, welcome: Sequence[str] = ()) -> None:
    """Refuse what another site's page sends, unless the site is `welcome`. Raises `RefusedError`."""
    settings: Settings = request.app.state.settings
    origin = request.headers.get("origin")
    if origin is None:
        if request.headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none"):
            return
        origin = "another site"
    own = {f"{request.url.scheme}://{request.url.netloc}".lower(), *(name.lower() for name in welcome)}
    if settings.web.public_url:
        public = urlsplit(settings.web.public_url)
        own.add(f"{public.scheme}://{public.netloc}".lower())
    if origin.lower() not in own:
        raise RefusedError(
            403, f"this request comes from {origin}, not from these pages; behind a proxy set web.public_url"
        )


def identify(request: Request) -> Caller | None:
    """Return who asks, by a token or the cookie of a session; None where nobody knows."""
    settings: Settings = request.app.state.settings
    database: Database = request.app.state.database
    if settings.web.login == "off":
        return Caller(ANYBODY)
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and shown:
        user = tokens.who(database, shown.strip())
        return None if user is None else Caller(user)
    cookie = cookie_of(request)
    found = sessions.who(database, cookie, settings.web, is_click=_is_click(request)) if cookie else None
    return None if found is None else Caller(found.user, cookie, found.must_change_password)


def _is_click(request: Request) -> bool:
    """Whether a person did something. Browsers tell it (Fetch Metadata); where they do not, everything counts."""
    if request.headers.get(BACKGROUND_HEADER) or "text/event-stream" in request.headers.get("accept", ""):
        return False
    if request.method not in _SAFE_METHODS:
        return True
    if request.headers.get("sec-fetch-mode", "") in ("navigate", "no-cors"):
        return request.headers.get("sec-fetch-user") == "?1"
    return True


async def _check_own_page(request: Request, caller: Caller) -> None:
    """Refuse what was not sent by one of this session's pages. Raises `RefusedError`."""
    if caller.user is ANYBODY:  # nobody has a session: other sites' pages are known by their Origin alone
        is_dicomweb = request.url.path.startswith("/dicom-web/")
        check_origin(request, request.app.state.settings.web.cors_origins if is_dicomweb else ())
    if not caller.session_token:
        return
    check_origin(request)
    given = request.headers.get(CSRF_HEADER, "")
    if not given and request.headers.get("content-type", "").startswith(_FORMS):
        value = (await request.form()).get(CSRF_FIELD)
        given = value if isinstance(value, str) else ""
    if not sessions.is_csrf_token(caller.session_token, given):
        raise RefusedError(403, "the form is out of date: go back, load its page again and send it once more")


def is_browser(request: Request) -> bool:
    """Return whether whoever asks wants a page, rather than a program JSON."""
    return "text/html" in request.headers.get("accept", "") and not request.scope.get("root_path", "")


def _with_way_back(request: Request, address: str) -> str:
    """Return an address with the page to come back to, which after a form is the page that it is on."""
    if address != "/login":
        return address
    way_back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    if request.method not in _SAFE_METHODS or request.headers.get("HX-Request"):
        way_back = page_before(request)
    return address if way_back == "/" else f"{address}?{urlencode({'next': way_back})}"


def page_before(request: Request) -> str:
    """Return the address of the page that a form or script was on; the first page where that is not known."""
    return own_address(_path_of(request.headers.get("HX-Current-URL") or request.headers.get("referer", "")))


def _path_of(address: str) -> str:
    try:
        return urlsplit(address).path or "/"
    except ValueError:
        return "/"


def _calls(dependant: Dependant) -> Iterator[Any]:
    for inner in dependant.dependencies:
        yield inner.call
        yield from _calls(inner)


def routes(app: FastAPI, prefix: str = "") -> Iterator[tuple[str, RouteContext]]:
    """Yield every route with its whole path, those of mounted applications too."""
    for route in iter_route_contexts(app.routes):
        path = f"{prefix}{route.path or ''}"
        mounted = route.original_route.app if isinstance(route.original_route, Mount) else None
        if isinstance(mounted, FastAPI):
            yield from routes(mounted, path)
        else:
            yield path, route
