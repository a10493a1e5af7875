"""Sessions: a browser that is logged in, on the server's side.

Input: a user who was let in. Output: a token for the browser's cookie, of which the database keeps the SHA-256 only.
A session ends after `web.session_idle_s` without a click, after `web.session_longest_s` in any case, at log-out, and
with a change of password or role.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, joinedload

from worker.db.columns import utc_now
from worker.db.people import Account, OpenSession
from worker.db.sessions import Database
from worker.people.accounts import user_of
from worker.people.user import User
from worker.web_settings import WebSettings

#: Share of the idle time after which a click is written down: not every one is worth a disk flush.
_WRITTEN_DOWN_AFTER = 0.05


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """Who a session belongs to."""

    user: User
    must_change_password: bool
    digest: str


def digest_of(token: str) -> str:
    """Return what the database keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def csrf_token(token: str) -> str:
    """Return what a form must hold: only pages that this session was shown know it."""
    return hmac.new(token.encode(), b"csrf", hashlib.sha256).hexdigest()


def is_csrf_token(token: str, given: str) -> bool:
    """Return whether a form or header holds this session's CSRF token."""
    return hmac.compare_digest(csrf_token(token).encode(), given.encode())


def begin(session: Session, account: Account, settings: WebSettings, peer_address: str, browser: str) -> str:
    """Open a session, always under a new token; return it. What has ended long ago is swept."""
    token, now = secrets.token_urlsafe(32), utc_now()
    session.execute(delete(OpenSession).where(OpenSession.ends_at < now))
    account.last_login_at = now
    session.add(
        OpenSession(
            digest=digest_of(token),
            user_id=account.id,
            opened_at=now,
            seen_at=now,
            ends_at=now + timedelta(seconds=settings.session_longest_s),
            peer_address=peer_address[:64],
            browser=browser[:256],
        )
    )
    return token


def who(database: Database, token: str, settings: WebSettings, *, is_click: bool) -> LoggedIn | None:
    """Return who holds this token, or None where the session is none or has ended.

    Args:
        database: The web process's.
        token: From the browser's cookie.
        settings: How long sessions live.
        is_click: Whether the person did something, rather than a page by itself.
    """
    digest, now = digest_of(token), utc_now()
    with database.reading() as session:
        found = session.get(OpenSession, digest, options=[joinedload(OpenSession.account)])
        if found is None or _has_ended(found, now, settings) or found.account.disabled:
            return None
        logged_in = LoggedIn(user_of(found.account), found.account.must_change_password, digest)
        idle_s = (now - found.seen_at).total_seconds()
    if is_click and idle_s > _WRITTEN_DOWN_AFTER * settings.session_idle_s:
        with database.writing() as session:
            if (opened := session.get(OpenSession, digest)) is not None:
                opened.seen_at = now
    return logged_in


def end(session: Session, digest: str, *, of: int | None = None) -> bool:
    """End a session, only if it belongs to the user `of` where one is given; return whether there was one."""
    ended = delete(OpenSession).where(OpenSession.digest == digest)
    if of is not None:
        ended = ended.where(OpenSession.user_id == of)
    return bool(session.execute(ended.returning(OpenSession.digest)).all())


def of_user(session: Session, user_id: int, settings: WebSettings) -> list[OpenSession]:
    """Return a user's open sessions, the newest first."""
    wanted = select(OpenSession).where(OpenSession.user_id == user_id).order_by(OpenSession.opened_at.desc())
    now = utc_now()
    return [found for found in session.scalars(wanted) if not _has_ended(found, now, settings)]


def _has_ended(found: OpenSession, now: datetime, settings: WebSettings) -> bool:
    return now >= found.ends_at or now - found.seen_at >= timedelta(seconds=settings.session_idle_s)
