"""Users and tokens as JSON, for programs that give and take access, such as a hospital's identity management.

Input and output are described in /api/openapi.json; everything here is for administrators and told to the audit trail.
One-time passwords and tokens are in the answer that made them and nowhere else. What cannot be done is a `Problem`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, HTTPException, Path, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from worker.db.people import Account
from worker.people import accounts, administration, tokens
from worker.people.accounts import PeopleError
from worker.people.administration import Change
from worker.people.user import User
from worker.roles import Role
from worker.web.access import requires
from worker.web.api_document import ERRORS, NO_NUL, problem
from worker.web.people import carry_out

router = APIRouter(prefix="/api", tags=["people"], dependencies=[requires(Role.ADMINISTRATOR)], responses=ERRORS)
REFUSED: Final[dict[int | str, dict[str, Any]]] = {409: problem("it cannot be done, and nothing was changed")}
NOT_THERE: Final[dict[int | str, dict[str, Any]]] = {**REFUSED, 404: problem("there is no such user or token")}
Administrator = Annotated[User, requires(Role.ADMINISTRATOR)]
Login = Annotated[str, Path(max_length=64, pattern=r"^[A-Za-z0-9._@-]+$", description="login of a user")]
Name = Annotated[str, Field(max_length=64, pattern=NO_NUL)]


class UserView(BaseModel):
    """Who may log in."""

    login: str
    #: VR PN, with which decisions are signed; empty for who cannot sign.
    person_name: str
    organization: str
    role: Role
    disabled: bool
    #: Whether the password is a one-time password that was not used yet.
    must_change_password: bool
    #: Whether an OpenID provider vouches for this person.
    is_vouched_for: bool
    last_login_at: datetime | None


class TokenView(BaseModel):
    """What a machine may show; never the token itself."""

    name: str
    role: Role
    #: Login in whose name it acts; null for a machine's own.
    login: str | None
    expires_at: datetime
    last_used_at: datetime | None


class Changed(BaseModel):
    """What was done."""

    done: str
    #: One-time password or token, here and nowhere else; null where none was made.
    secret: str | None


class NewUser(BaseModel):
    """Somebody to add; a one-time password comes back."""

    model_config = ConfigDict(extra="forbid")

    login: Name
    role: Role
    person_name: Name = Field("", description="VR PN, such as Curie^Marie; empty for who does not sign")
    organization: Name = ""


class NewRole(BaseModel):
    """Another role."""

    model_config = ConfigDict(extra="forbid")

    role: Role


class NewNames(BaseModel):
    """The names with which a user signs."""

    model_config = ConfigDict(extra="forbid")

    person_name: Name
    organization: Name = ""


class NewToken(BaseModel):
    """A token to make."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    role: Role
    days: float = Field(ge=0.01, le=3660, allow_inf_nan=False, description="days for which it is good")
    login: Name | None = Field(None, description="in whose name it acts; in another's than your own it only looks")


class TokenNamed(BaseModel):
    """Which token."""

    model_config = ConfigDict(extra="forbid")

    name: Name


@router.get("/users")
def users(request: Request) -> list[UserView]:
    """Return everybody who may log in, by login."""
    with request.app.state.database.reading() as session:
        return [
            UserView(
                login=one.login,
                person_name=one.person_name,
                organization=one.organization,
                role=one.role,
                disabled=one.disabled,
                must_change_password=one.must_change_password,
                is_vouched_for=one.subject is not None,
                last_login_at=one.last_login_at,
            )
            for one in accounts.everybody(session)
        ]


@router.post("/users", responses=REFUSED)
def add(request: Request, new: NewUser) -> Changed:
    """Add a user with a one-time password."""
    return _changed(
        request, lambda session: administration.add(session, new.login, new.role, new.person_name, new.organization)
    )


@router.post("/users/{login}/role", responses=NOT_THERE)
def set_role(request: Request, login: Login, new: NewRole) -> Changed:
    """Give a user another role; ends their sessions."""
    return _changed(request, lambda session: administration.set_role(session, _account(session, login), new.role))


@router.post("/users/{login}/name", responses=NOT_THERE)
def set_name(request: Request, login: Login, new: NewNames) -> Changed:
    """Set the names with which a user signs."""
    return _changed(
        request,
        lambda session: administration.set_name(_account(session, login), new.person_name, new.organization),
    )


@router.post("/users/{login}/password", responses=NOT_THERE)
def reset_password(request: Request, login: Login) -> Changed:
    """Give a user a one-time password; ends their sessions and the tokens in their name."""
    return _changed(request, lambda session: administration.reset_password(session, _account(session, login)))


@router.post("/users/{login}/disable", responses=NOT_THERE)
def disable(request: Request, login: Login) -> Changed:
    """Let a user in no more; ends their sessions and the tokens in their name."""
    return _changed(request, lambda session: administration.disable(session, _account(session, login)))


@router.post("/users/{login}/enable", responses=NOT_THERE)
def enable(request: Request, login: Login) -> Changed:
    """Let a disabled user in again."""
    return _changed(request, lambda session: administration.enable(_account(session, login)))


@router.post("/users/{login}/log-out", responses=NOT_THERE)
def log_out(request: Request, login: Login) -> Changed:
    """End all sessions of a user."""
    return _changed(request, lambda session: administration.log_out(session, _account(session, login)))


@router.get("/tokens")
def all_tokens(request: Request) -> list[TokenView]:
    """Return all tokens, by name."""
    with request.app.state.database.reading() as session:
        return [
            TokenView(
                name=one.name,
                role=one.role,
                login=None if one.account is None else one.account.login,
                expires_at=one.expires_at,
                last_used_at=one.last_used_at,
            )
            for one in tokens.listed(session)
        ]


@router.post("/tokens", responses=NOT_THERE)
def add_token(request: Request, user: Administrator, new: NewToken) -> Changed:
    """Make a token, of a machine's own or in a user's name."""

    def added(session: Session) -> Change:
        owner = None if new.login is None else _account(session, new.login)
        return administration.add_token(session, user, new.name, new.role, new.days, owner)

    return _changed(request, added)


@router.post("/tokens/revoke", responses=NOT_THERE)
def revoke_token(request: Request, which: TokenNamed) -> Changed:
    """End a token."""
    return _changed(request, lambda session: administration.revoke_token(session, which.name))


def _account(session: Session, login: str) -> Account:
    account = accounts.find(session, login)
    if account is None:
        raise HTTPException(404, f"there is no user {login!r}; /api/users lists them")
    return account


def _changed(request: Request, change: Callable[[Session], Change]) -> Changed:
    try:
        made = carry_out(request, change)
    except PeopleError as error:
        raise HTTPException(409, str(error)) from error
    return Changed(done=made.done, secret=made.secret or None)
