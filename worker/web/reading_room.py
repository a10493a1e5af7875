"""What the work list and the case pages share: who reads, the adapters of this site, and why a decision was not taken.

Input: a request and its user. Output: a `Reviewer`, or None for who can only look. Nothing fails here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fastapi import Request
from markupsafe import Markup, escape

from models.adapter import AdapterDefinition
from worker.people.user import User
from worker.review import NamedCase, Reviewer, ReviewError, reviewer
from worker.roles import Role
from worker.settings import Settings
from worker.site import enabled_adapters
from worker.web import auditing
from worker.web.page import person_of, time_of

CANNOT_SIGN = "Log in with an account of your own to decide: a decision needs a person's name."
ONLY_LOOKS = "You can look at cases; deciding is for the role reviewer. An administrator can give it to you."


def account_of(user: User) -> str:
    """Return what the ledger keeps of an account; empty where log-in is off."""
    return "" if user.id is None else str(user.id)


def reader(request: Request, user: User) -> Reviewer:
    """Return who decides.

    Raises:
        ReviewError: Nobody can sign with this identity.
    """
    if not user.is_person:
        raise ReviewError(CANNOT_SIGN)
    settings: Settings = request.app.state.settings
    account = account_of(user)
    return reviewer(settings, user.person_name, user.organization, account, witness=auditing.witness(request))


def why_only_looking(user: User) -> str:
    """Say why this user cannot decide; empty where they can."""
    if not user.may(Role.REVIEWER):
        return ONLY_LOOKS
    return "" if user.is_person else CANNOT_SIGN


def told(error: Exception, case: Callable[[NamedCase], str] = lambda _: "this case") -> Markup:
    """Return why a decision was not taken, with its times in the reader's zone.

    Args:
        error: Why.
        case: How a page calls the case; by default as the page of the case itself does.
    """
    if not isinstance(error, ReviewError):
        return escape(str(error))
    first, *pieces = error.worded(time_of, case, lambda who: person_of(who.name))
    return Markup("").join(escape(piece) for piece in (first[:1].upper() + first[1:], *pieces))


def site_adapters(request: Request) -> Mapping[str, AdapterDefinition]:
    """Return the adapters this site has enabled, made once."""
    state = request.app.state
    if getattr(state, "adapters", None) is None:
        state.adapters = enabled_adapters(state.settings)
    adapters: Mapping[str, AdapterDefinition] = state.adapters
    return adapters
