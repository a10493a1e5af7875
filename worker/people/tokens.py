"""Tokens: what a machine shows as `Authorization: Bearer ...` instead of a log-in.

Input: a name, a role, how long. Output: the token, shown once; the database keeps its SHA-256. A token may act in a
user's name, with no more than that user's role, and ends with the user.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from worker.db.columns import utc_now
from worker.db.people import Account, ApiToken
from worker.db.sessions import Database
from worker.people.accounts import PeopleError, user_of
from worker.people.sessions import digest_of
from worker.people.user import User
from worker.roles import Role

#: Lets a scanner for secrets know one.
PREFIX: Final = "dwt_"
#: Not every use is worth a disk flush.
_USE_WRITTEN_DOWN_AFTER: Final = timedelta(hours=1)


def add(session: Session, name: str, role: Role, days: float, account: Account | None = None) -> str:
    """Make a token and return it. Raises `PeopleError`."""
    wanted = name.strip()
    if not 1 <= len(wanted) <= 64 or not wanted.isprintable():
        raise PeopleError(f"{name!r} cannot be a token's name: 1 to 64 printable characters")
    if session.scalar(select(ApiToken.id).where(ApiToken.name == wanted)) is not None:
        raise PeopleError(f"there is a token {wanted!r} already; revoke it first, or choose another name")
    if account is not None and not account.role.includes(role):
        raise PeopleError(f"{account.login} is a {account.role}, a token in this name cannot have the role {role}")
    token = PREFIX + secrets.token_urlsafe(32)
    session.add(
        ApiToken(
            name=wanted,
            digest=digest_of(token),
            role=role,
            user_id=None if account is None else account.id,
            expires_at=utc_now() + timedelta(days=days),
        )
    )
    return token


def who(database: Database, token: str) -> User | None:
    """Return who shows this token, or None where it is none or has ended."""
    now = utc_now()
    wanted = select(ApiToken).where(ApiToken.digest == digest_of(token)).options(joinedload(ApiToken.account))
    with database.reading() as session:
        found = session.scalar(wanted)
        if found is None or now >= found.expires_at:
            return None
        user = _user_of(found)
        last_used_at = found.last_used_at
    is_fresh = last_used_at is not None and now - last_used_at < _USE_WRITTEN_DOWN_AFTER
    if user is not None and not is_fresh:
        with database.writing() as session:
            if (used := session.scalar(wanted)) is not None:
                used.last_used_at = now
    return user


def listed(session: Session, user_id: int | None = None) -> Sequence[ApiToken]:
    """Return all tokens, or those in one user's name, by name."""
    wanted = select(ApiToken).order_by(ApiToken.name).options(joinedload(ApiToken.account))
    return session.scalars(wanted if user_id is None else wanted.where(ApiToken.user_id == user_id)).all()


def revoke(session: Session, name: str) -> ApiToken:
    """End a token; return what it was. Raises `PeopleError`."""
    found = session.scalar(select(ApiToken).where(ApiToken.name == name))
    if found is None:
        raise PeopleError(f"there is no token {name!r}; `dicom-worker users token list` shows them all")
    session.delete(found)
    return found


def _user_of(token: ApiToken) -> User | None:
    if token.account is None:
        return User(f"token:{token.name}", "", "", token.role)
    if token.account.disabled:
        return None
    owner = user_of(token.account)
    role = token.role if owner.role.includes(token.role) else owner.role
    return User(owner.login, owner.person_name, owner.organization, role, owner.id, token.name)
