"""Who asks: the frozen identity that pages, the API and decisions work with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.roles import Role


@dataclass(frozen=True, slots=True)
class User:
    """A person or a machine that is let in."""

    #: Name that is typed at log-in; of a machine's token ``token:NAME``.
    login: str
    #: Name as DICOM writes it (VR PN, ``Family^Given``); empty where nobody can sign with it.
    person_name: str
    #: Organisation, for verified reports; empty where the setting `review.organization` stands for it.
    organization: str
    role: Role
    #: Row in `users`; None for a machine, and where log-in is off.
    id: int | None = None
    #: Name of the token that is shown in this user's name; empty where a person logged in.
    token: str = ""

    def may(self, role: Role) -> bool:
        """Return whether this user may do what `role` may."""
        return self.role.includes(role)

    @property
    def is_person(self) -> bool:
        """Whether decisions can be signed with this identity."""
        return bool(self.person_name.strip(" ^"))


#: Everybody, where `web.login` is `off`: it may do everything on its own machine but sign.
ANYBODY: Final = User("anybody", "", "", Role.ADMINISTRATOR)
