"""Who asks, as the route's dependency found out; for pages that show it and forms that carry its CSRF token."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from worker.people import sessions
from worker.people.user import User


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and how that is known."""

    user: User
    #: What the browser's cookie holds; empty for a machine, and where log-in is off.
    session_token: str = ""
    must_change_password: bool = False

    @property
    def csrf_token(self) -> str:
        """What a form of this session must hold; empty where there is no session."""
        return sessions.csrf_token(self.session_token) if self.session_token else ""


def caller_of(request: Request) -> Caller | None:
    """Return who asks, as far as a route's dependency has found out."""
    return getattr(request.state, "caller", None)
