"""What an administrator changes about users and tokens, and how it is told: to them, and to the audit trail.

Pages, API and command line do it by these functions. Input: a session of `Database.writing()` and what the
administrator says. Output: a `Change`. What cannot be done raises `PeopleError`, in words a person can act on, and
changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from worker.db.people import Account
from worker.people import accounts, passwords, tokens
from worker.people.accounts import PeopleError
from worker.people.user import User
from worker.roles import Role


@dataclass(frozen=True, slots=True)
class Change:
    """What was done."""

    #: Login, or ``token:`` and the token's name.
    about: str
    #: In words.
    done: str
    #: One-time password or token that came of it: shown once, kept nowhere.
    secret: str = ""
    #: Whether somebody may do other things now.
    roles: bool = False

    @property
    def is_token(self) -> bool:
        """Whether it is about a token, not a user."""
        return self.about.startswith("token:")

    @property
    def secret_is(self) -> str:
        """What the secret is."""
        what = "The token" if self.is_token else "The password for the first log-in"
        return f"{what}, shown this once:"


def add(
    session: Session, login: str, role: Role, person_name: str = "", organization: str = "", password: str = ""
) -> Change:
    """Add a user with a password that is good enough (`passwords.check_new`), or with a one-time password."""
    secret = "" if password else passwords.one_time_password()
    names = {"person_name": person_name, "organization": organization}
    account = accounts.add(session, login, role, **names, password=password or secret, is_one_time=bool(secret))
    return Change(account.login, f"{account.login} is added as {role}.", secret, roles=True)


def set_role(session: Session, account: Account, role: Role) -> Change:
    """Give a user another role."""
    accounts.set_role(session, account, role)
    return Change(account.login, f"{account.login} is {role} now, and logged out everywhere.", roles=True)


def set_name(account: Account, person_name: str, organization: str) -> Change:
    """Set the names with which a user signs."""
    accounts.name(account, person_name, organization)
    return Change(account.login, f"{account.login} signs as {account.person_name or 'nobody'}.")


def reset_password(session: Session, account: Account, password: str = "") -> Change:
    """Give a user another password, as `add` does; the tokens in their name end with the old one."""
    secret = "" if password else passwords.one_time_password()
    ended = accounts.reset_password(session, account, password or secret, is_one_time=bool(secret))
    done = f"{account.login} has a new password and is logged out everywhere{accounts.tokens_revoked(ended)}."
    return Change(account.login, done, secret)


def disable(session: Session, account: Account) -> Change:
    """Let a user in no more."""
    revoked = accounts.tokens_revoked(accounts.disable(session, account))
    return Change(account.login, f"{account.login} is disabled and logged out everywhere{revoked}.")


def enable(account: Account) -> Change:
    """Let a disabled user in again."""
    accounts.enable(account)
    return Change(account.login, f"{account.login} is enabled.")


def log_out(session: Session, account: Account) -> Change:
    """End all sessions of a user."""
    accounts.log_out_everywhere(session, account)
    return Change(account.login, f"{account.login} is logged out everywhere.")


def add_token(session: Session, by: User | None, name: str, role: Role, days: float, owner: Account | None) -> Change:
    """Make a token, of a machine's own or in a user's name.

    In somebody else's name it only looks: nobody, an administrator neither, signs reports as another person. `by` is
    None at the command line, where nobody has logged in: who has the ledger's password acts in any name.
    """
    token = tokens.add(session, name, role, days, owner)
    if by is not None and owner is not None and owner.id != by.id and role is not Role.VIEWER:
        raise PeopleError(f"a token in the name of {owner.login} could sign as them: make it a {Role.VIEWER}")
    in_name = "" if owner is None else f", in the name of {owner.login}"
    done = f"The token {name.strip()} has the role {role} for {days:g} days{in_name}."
    return Change(f"token:{name.strip()}", done, token, roles=True)


def revoke_token(session: Session, name: str) -> Change:
    """End a token."""
    tokens.revoke(session, name)
    return Change(f"token:{name}", f"The token {name} is revoked: it opens nothing any more.")
