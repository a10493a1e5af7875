"""Log-in by password: slow for who guesses, the same answer for a wrong password as for an unknown user.

Input: what was typed, and from where. Output: the user, or None; `TooSoonError` with the seconds to wait after several
failures. Failures are counted in the database for the account, for the address, and for both together, so that they
hold over processes; nobody is locked out for good (OWASP Authentication Cheat Sheet, NIST SP 800-63B-4 3.2.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from worker.db.columns import utc_now
from worker.db.people import Account, LoginAttempts
from worker.db.sessions import Database
from worker.people import accounts, passwords
from worker.people.sessions import digest_of


class TooSoonError(Exception):
    """Too many failures: the message says how long to wait."""

    def __init__(self, wait_s: float) -> None:
        """Say how many seconds are left."""
        self.wait_s = max(1, math.ceil(wait_s))
        super().__init__(f"too many attempts failed; try again in {self.wait_s} s")


@dataclass(frozen=True, slots=True)
class _Limit:
    """How failures of one kind slow the next attempt down."""

    #: Failures that cost nothing.
    free: int
    #: Longest pause. Short for an account alone: others must not be able to keep its owner out.
    longest_s: float


_LIMITS: Final = {
    "account and address": _Limit(4, 900),
    "account": _Limit(20, 30),
    "address": _Limit(40, 300),
}
#: Failures are forgotten after this time without another.
_FORGOTTEN_AFTER: Final = timedelta(hours=1)


def check_password(database: Database, login: str, password: str, peer_address: str) -> Account | None:
    """Return the user whose login and password these are, or None; takes as long either way.

    Raises:
        TooSoonError: The password was not looked at.
    """
    subjects = _subjects(login, peer_address)
    _count(database, subjects)  # before the password is looked at: guesses at the same time count, too
    with database.reading() as session:
        account = accounts.find(session, login)
    known = account is not None and not account.disabled
    is_right = passwords.fits(account.password_hash if account is not None and known else "", password)
    if account is None or not is_right:
        return None
    with database.writing() as session:
        _forget(session, subjects)
        found = accounts.get(session, login)
        if passwords.is_outdated(found.password_hash):
            found.password_hash = passwords.hashed(password)
    return found


def _subjects(login: str, address: str) -> dict[str, str]:
    name = login.strip().lower()
    return {
        "account and address": digest_of(f"both {name} {address}"),
        "account": digest_of(f"account {name}"),
        "address": digest_of(f"address {address}"),
    }


def _count(database: Database, subjects: dict[str, str]) -> None:
    """Count an attempt as failed, for now. Raises `TooSoonError`."""
    try:
        with database.writing() as session:
            _count_in(session, subjects)
    except IntegrityError:  # another process counted the first failure of the same account this moment
        with database.writing() as session:
            _count_in(session, subjects)


def _count_in(session: Session, subjects: dict[str, str]) -> None:
    now = utc_now()
    session.execute(delete(LoginAttempts).where(LoginAttempts.last_at < now - _FORGOTTEN_AFTER))
    counted = _counted(session, subjects)
    wait_s = max((row.not_before - now).total_seconds() for row in counted.values()) if counted else 0
    if wait_s > 0:
        raise TooSoonError(wait_s)
    for kind, subject in subjects.items():
        row = counted.get(subject)
        if row is None:
            row = LoginAttempts(subject=subject, failures=0, last_at=now, not_before=now)
            session.add(row)
        row.failures += 1
        over = row.failures - _LIMITS[kind].free
        pause_s = min(2.0 ** min(over, 20), _LIMITS[kind].longest_s) if over >= 0 else 0
        row.last_at, row.not_before = now, now + timedelta(seconds=pause_s)


def _forget(session: Session, subjects: dict[str, str]) -> None:
    """Forget the failures of who is let in; those of others at the same address stay counted."""
    for kind, subject in subjects.items():
        row = session.get(LoginAttempts, subject, with_for_update=True)
        if row is None:
            continue
        if kind == "address" and row.failures > 1:
            row.failures, row.not_before = row.failures - 1, utc_now()
        else:
            session.delete(row)


def _counted(session: Session, subjects: dict[str, str]) -> dict[str, LoginAttempts]:
    wanted = select(LoginAttempts).where(LoginAttempts.subject.in_(subjects.values())).with_for_update()
    return {row.subject: row for row in session.scalars(wanted)}
