"""Log-in by password: slow for who guesses, the same answer for a wrong password as for an unknown user.

Input: what was typed, from where, and the browser's cookie of `worker.people.devices`. Output: the user, or None;
`TooSoonError` with the seconds to wait after several failures. Failures are counted in the database, so that they hold
over processes. In a browser where this user has logged in before they count for that browser and user alone: guesses
elsewhere keep nobody out who comes back to their desk (OWASP, Slow Down Online Guessing Attacks with Device Cookies).
Anywhere else they count for the account, for the address, and for both together, so that all guesses of all strangers
are bounded; nobody is locked out for good (OWASP Authentication Cheat Sheet, NIST SP 800-63B-4 3.2.2).
"""

from __future__ import annotations

import ipaddress
import math
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Select, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from worker.db.columns import utc_now
from worker.db.people import Account, LoginAttempts
from worker.db.sessions import Database
from worker.people import accounts, devices, passwords
from worker.people.sessions import digest_of


class TooSoonError(Exception):
    """The password was not looked at; the message says why and how long to wait."""

    def __init__(self, wait_s: float, why: str = "too many attempts failed") -> None:
        """Say how many seconds are left."""
        self.wait_s = max(1, math.ceil(wait_s))
        super().__init__(f"{why}; try again in {self.wait_s} s")


@dataclass(frozen=True, slots=True)
class _Limit:
    """How failures of one kind slow the next attempt down."""

    #: Failures that cost nothing.
    free: int
    #: Longest pause. Short for an account alone: who comes to a new desk must get in between a stranger's guesses.
    longest_s: float


_LIMITS: Final = {
    "browser": _Limit(5, 900),
    "account and address": _Limit(4, 900),
    "account": _Limit(20, 30),
    "address": _Limit(40, 300),
}
#: Failures are forgotten after this time without another.
_FORGOTTEN_AFTER: Final = timedelta(hours=1)
#: Log-ins at once, of strangers and in browsers that are known: each waits in a thread that pages need, too.
_STRANGERS, _KNOWN = threading.BoundedSemaphore(12), threading.BoundedSemaphore(8)
_BUSY_S: Final = 2


def check_password(
    database: Database, login: str, password: str, peer_address: str, device: str = ""
) -> Account | None:
    """Return the user whose login and password these are, or None; takes as long either way.

    Args:
        database: The web process's.
        login: As typed.
        password: As typed.
        peer_address: From where.
        device: The browser's cookie of `worker.people.devices`.

    Raises:
        TooSoonError: The password was not looked at.
    """
    with database.reading() as session:
        account = accounts.find(session, login)
    browser = devices.knows(device, account)
    subjects = _subjects(login, peer_address, browser)
    with _turn(_KNOWN if browser else _STRANGERS):
        _count(database, subjects)  # before the password is looked at: guesses at the same time count, too
        known = account is not None and not account.disabled
        is_right = passwords.fits(account.password_hash if account is not None and known else "", password)
    if account is None or not is_right:
        return None
    with database.writing() as session:
        found = session.get(Account, account.id, with_for_update=True)
        if found is None or found.disabled or found.password_hash != account.password_hash:
            return None  # changed this moment
        _forget(session, subjects)
        if passwords.is_outdated(found.password_hash):
            found.password_hash = passwords.hashed(password)
    return found


@contextmanager
def _turn(turns: threading.BoundedSemaphore) -> Iterator[None]:
    if not turns.acquire(blocking=False):
        raise TooSoonError(_BUSY_S, "too many log in at this moment")
    try:
        yield
    finally:
        turns.release()


def _subjects(login: str, address: str, browser: str = "") -> dict[str, str]:
    name, place = login.strip().lower(), _network(address)
    if browser:
        return {"browser": digest_of(f"browser {browser} {name}")}
    return {
        "account and address": digest_of(f"both {name} {place}"),
        "account": digest_of(f"account {name}"),
        "address": digest_of(f"address {place}"),
    }


def _network(address: str) -> str:
    """Return what one subscriber has of addresses: one of IPv4, 2^64 of IPv6 (RFC 4291 2.5.4)."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        mapped = known.ipv4_mapped
        return str(mapped or ipaddress.ip_network((known, 64), strict=False))
    return str(known)


def _count(database: Database, subjects: dict[str, str]) -> None:
    """Count an attempt as failed, for now. Raises `TooSoonError`."""
    with database.reading() as session:  # whoever does not wait must not keep others from writing
        _refuse_too_soon(session.scalars(_wanted(subjects)).all(), utc_now())
    try:
        with database.writing() as session:
            _count_in(session, subjects)
    except IntegrityError:  # another process counted the first failure of the same account this moment
        with database.writing() as session:
            _count_in(session, subjects)


def _count_in(session: Session, subjects: dict[str, str]) -> None:
    now = utc_now()
    session.execute(delete(LoginAttempts).where(LoginAttempts.last_at < now - _FORGOTTEN_AFTER))
    counted = {row.subject: row for row in session.scalars(_wanted(subjects).with_for_update())}
    _refuse_too_soon(counted.values(), now)
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


def _refuse_too_soon(counted: Iterable[LoginAttempts], now: datetime) -> None:
    wait_s = max(((row.not_before - now).total_seconds() for row in counted), default=0)
    if wait_s > 0:
        raise TooSoonError(wait_s)


def _wanted(subjects: dict[str, str]) -> Select[LoginAttempts]:
    return select(LoginAttempts).where(LoginAttempts.subject.in_(subjects.values()))
