"""What a person or a machine may do here: three roles, each with everything that the one before it may do."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What somebody may do, the least first."""

    #: Sees studies, images and answers; changes nothing.
    VIEWER = "viewer"
    #: Also decides about answers, and sends images in.
    REVIEWER = "reviewer"
    #: Also administers users, and what concerns the daemon as a whole.
    ADMINISTRATOR = "administrator"

    def includes(self, other: Role) -> bool:
        """Return whether who has this role may do what the other role may."""
        order = list(Role)
        return order.index(self) >= order.index(other)
