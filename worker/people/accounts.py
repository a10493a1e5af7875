"""Users: who may log in, with which role and under which name decisions are signed.

Input: a session of `Database.writing()` and what an administrator says. Output: rows. What cannot be done raises
`PeopleError`, in words a person can act on, and changes nothing.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from dicom_node.report import Person
from worker.db.columns import utc_now
from worker.db.people import Account, ApiToken, OpenSession
from worker.db.sessions import Database
from worker.people import passwords
from worker.people.user import User
from worker.roles import Role

#: Login of the administrator that the first start makes.
FIRST_LOGIN: Final = "administrator"
_LOGIN: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")
#: Days in which a one-time password must be changed: it went through other hands (ASVS 5.0, 6.4.1).
ONE_TIME_DAYS: Final = 7


class PeopleError(Exception):
    """What was asked for cannot be done; the message says why and what can."""


def user_of(account: Account) -> User:
    """Return the identity that a user's row stands for."""
    return User(account.login, account.person_name, account.organization, account.role, account.id)


def find(session: Session, login: str) -> Account | None:
    """Return the user with this login, upper or lower case."""
    return session.scalar(select(Account).where(Account.login == login.strip().lower()))


def get(session: Session, login: str) -> Account:
    """Return the user with this login. Raises `PeopleError`."""
    account = find(session, login)
    if account is None:
        raise PeopleError(f"there is no user {login!r}; `dicom-worker users list` shows them all")
    return account


def everybody(session: Session) -> list[Account]:
    """Return all users, by login."""
    return list(session.scalars(select(Account).order_by(Account.login)))


def is_login(text: str) -> bool:
    """Return whether a text can be a login: what is typed into its field by mistake may be a password."""
    return _LOGIN.fullmatch(text.strip().lower()) is not None


def add(
    session: Session,
    login: str,
    role: Role,
    *,
    person_name: str = "",
    organization: str = "",
    password: str = "",
    is_one_time: bool = False,
) -> Account:
    """Add a user; without a password only an OpenID provider can vouch for them. Raises `PeopleError`."""
    wanted = login.strip().lower()
    if not is_login(login):
        raise PeopleError(
            f"{login!r} cannot be a login: up to 64 letters, digits and . _ @ -, the first a letter or a digit"
        )
    if find(session, wanted) is not None:
        raise PeopleError(f"there is a user {wanted!r} already")
    account = Account(
        login=wanted, role=role, password_hash=passwords.hashed(password) if password else "",
        must_change_password=is_one_time, one_time_until=_one_time_until(is_one_time=is_one_time),
    )  # fmt: skip
    name(account, person_name, organization)
    session.add(account)
    session.flush()
    return account


def name(account: Account, person_name: str, organization: str) -> None:
    """Set the names with which a user signs. Raises `PeopleError`."""
    if unwritable := Person(person_name, organization).unwritable:
        raise PeopleError(f"the {unwritable}")
    account.person_name, account.organization = person_name.strip(), organization.strip()


def set_password(session: Session, account: Account, password: str, *, is_one_time: bool = False) -> None:
    """Set a password, and log the user out everywhere."""
    account.password_hash = passwords.hashed(password)
    account.must_change_password, account.one_time_until = is_one_time, _one_time_until(is_one_time=is_one_time)
    log_out_everywhere(session, account)


def is_overdue(account: Account) -> bool:
    """Return whether a one-time password was not changed in time."""
    until = account.one_time_until
    return account.must_change_password and until is not None and utc_now() >= until


def _one_time_until(*, is_one_time: bool) -> datetime | None:
    return utc_now() + timedelta(days=ONE_TIME_DAYS) if is_one_time else None


def reset_password(session: Session, account: Account, password: str, *, is_one_time: bool = False) -> int:
    """Set somebody else's password: log them out everywhere, and revoke the tokens in their name; return how many."""
    set_password(session, account, password, is_one_time=is_one_time)
    return revoke_tokens(session, account)


def set_role(session: Session, account: Account, role: Role) -> None:
    """Give a user another role. Raises `PeopleError` where no administrator would be left."""
    if role is not Role.ADMINISTRATOR:
        _keep_an_administrator(session, account)
    account.role = role
    log_out_everywhere(session, account)


def disable(session: Session, account: Account) -> int:
    """Let in a user no more, and revoke the tokens in their name; return how many.

    Raises:
        PeopleError: No administrator would be left.
    """
    _keep_an_administrator(session, account)
    account.disabled = True
    log_out_everywhere(session, account)
    return revoke_tokens(session, account)


def enable(account: Account) -> None:
    """Let a user in again."""
    account.disabled = False


def log_out_everywhere(session: Session, account: Account) -> None:
    """End all sessions of a user."""
    session.execute(delete(OpenSession).where(OpenSession.user_id == account.id))


def revoke_tokens(session: Session, account: Account) -> int:
    """End all tokens in a user's name; return how many there were."""
    ended = delete(ApiToken).where(ApiToken.user_id == account.id).returning(ApiToken.id)
    return len(session.execute(ended).all())


def tokens_revoked(count: int) -> str:
    """Say how many tokens were revoked, to follow another clause; empty where there was none."""
    return {0: "", 1: ", 1 token in their name is revoked"}.get(count, f", {count} tokens in their name are revoked")


def first_administrator(database: Database, *, person_name: str = "", organization: str = "") -> str | None:
    """Make an administrator where there is no user at all; return the one-time password, or None."""
    password = passwords.one_time_password()
    try:
        with database.writing() as session:
            if session.scalar(select(func.count(Account.id))):
                return None
            add(
                session, FIRST_LOGIN, Role.ADMINISTRATOR, person_name=person_name, organization=organization,
                password=password, is_one_time=True,
            )  # fmt: skip
    except IntegrityError:  # another process was faster
        return None
    return password


def has_users(database: Database) -> bool:
    """Return whether anybody may log in."""
    with database.reading() as session:
        return session.scalar(select(Account.id).limit(1)) is not None


def _keep_an_administrator(session: Session, account: Account) -> None:
    # Locked: of two administrators who demote one another at the same moment one must remain.
    administrators = select(Account.id).where(Account.role == Role.ADMINISTRATOR, Account.disabled.is_(False))
    known = session.scalars(administrators.order_by(Account.id).with_for_update()).all()
    if account.id in known and len(known) == 1:
        raise PeopleError(f"{account.login} is the only administrator; make another user one first")
