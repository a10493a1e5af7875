"""The tables of people: users, their sessions, tokens of machines, and attempts to log in.

No password, session or token is in them: passwords as Argon2 hashes, what a browser or a machine holds as SHA-256.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Enum, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from worker.db.columns import Record, utc_now
from worker.roles import Role

_ROLE = Enum(Role, native_enum=False, length=32, values_callable=lambda members: [role.value for role in members])


class Account(Record):
    """A person who may log in."""

    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    #: In lower case.
    login: Mapped[str] = mapped_column(String(64), unique=True)
    #: VR PN; empty where this person cannot sign.
    person_name: Mapped[str] = mapped_column(String(64), default="")
    organization: Mapped[str] = mapped_column(String(64), default="")
    role: Mapped[Role] = mapped_column(_ROLE)
    #: Argon2id in PHC format; empty for whom an OpenID provider vouches.
    password_hash: Mapped[str] = mapped_column(String(256), default="")
    #: The password was given by somebody else and is good for one log-in.
    must_change_password: Mapped[bool] = mapped_column(default=False)
    #: Until when such a password is good; empty where it was given before this was kept.
    one_time_until: Mapped[datetime | None]
    disabled: Mapped[bool] = mapped_column(default=False)
    #: Who vouches, and under which name there (OpenID Connect `iss` and `sub`).
    issuer: Mapped[str | None] = mapped_column(String(256))
    subject: Mapped[str | None] = mapped_column(String(256))
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    last_login_at: Mapped[datetime | None]
    __table_args__ = (UniqueConstraint("issuer", "subject", name="uq_users_subject"),)


class OpenSession(Record):
    """A browser that is logged in."""

    __tablename__ = "sessions"
    #: SHA-256 of what the browser's cookie holds.
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"), index=True)
    opened_at: Mapped[datetime] = mapped_column(default=utc_now)
    #: Last thing that the person did, to the minute or so.
    seen_at: Mapped[datetime] = mapped_column(default=utc_now)
    #: Ends then in any case.
    ends_at: Mapped[datetime]
    peer_address: Mapped[str] = mapped_column(String(64), default="")
    browser: Mapped[str] = mapped_column(String(256), default="")
    account: Mapped[Account] = relationship()


class ApiToken(Record):
    """What a machine shows instead of a log-in."""

    __tablename__ = "api_tokens"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    #: SHA-256 of the token.
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[Role] = mapped_column(_ROLE)
    #: In whose name it acts; empty for a machine's own.
    user_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"), index=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    account: Mapped[Account | None] = relationship()


class LoginAttempts(Record):
    """Attempts that failed, counted for an account or an address."""

    __tablename__ = "login_attempts"
    #: SHA-256 of what is counted for: what is typed as a login name may be a password.
    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[datetime]
    #: Before this, a password is not even looked at.
    not_before: Mapped[datetime]
