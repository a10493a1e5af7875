"""Users whom an OpenID provider vouches for: made, brought up to date, and ended as it says.

Input: a session of `Database.writing()` and an identity that `worker.people.oidc` has checked. Output: the user's row.
Who cannot be let in raises `OidcError`, in words for the log-in page.
"""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from worker.db.people import Account
from worker.people import accounts
from worker.people.accounts import PeopleError
from worker.people.oidc import Identity, OidcError


def account_of(session: Session, identity: Identity, organization: str) -> tuple[Account, str]:
    """Return the user who a provider vouches for, made or brought up to date, and what was changed, in words.

    Raises:
        OidcError: They cannot be let in.
    """
    account = _known(session, identity.issuer, identity.subject)
    before = None if account is None else account.role
    try:
        if account is None:
            # A user of the same login who has a password here is somebody else until an administrator says otherwise.
            account = accounts.add(session, identity.login, identity.role)
            account.issuer, account.subject = identity.issuer, identity.subject
        accounts.name(account, identity.person_name, organization)
    except PeopleError as error:
        raise OidcError(f"the log-in cannot be used: {error}; ask an administrator") from None
    if account.disabled:
        raise OidcError("this account is disabled here; ask an administrator")
    account.role = identity.role
    if before is None:
        return account, f"added as {identity.role}, vouched for by {identity.issuer}"
    return account, "" if before is identity.role else f"is {identity.role} now, was {before}, says {identity.issuer}"


def end_of(session: Session, issuer: str, subject: str) -> str:
    """Log out everywhere somebody who has no role any more, and revoke their tokens; return the login of one known."""
    account = _known(session, issuer, subject)
    if account is None:
        return ""
    accounts.log_out_everywhere(session, account)
    accounts.revoke_tokens(session, account)
    return account.login


def _known(session: Session, issuer: str, subject: str) -> Account | None:
    wanted = select(Account).where(Account.issuer == issuer, Account.subject == subject)
    return session.scalar(wanted.with_for_update())
