"""Why a decision cannot be taken, in words that know what they name: times, people and cases.

Output: `ReviewError`. As text, a time is UTC and says so, a person is a DICOM name and a case a job's id. Who shows it
to a person writes these as that person knows them (`worded`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class NamedCase:
    """A case in a sentence."""

    job_id: str

    def __str__(self) -> str:
        """Return it by its id."""
        return f"job {self.job_id}"


@dataclass(frozen=True, slots=True)
class NamedPerson:
    """A person in a sentence."""

    #: As a DICOM person name (PN, PS3.5 6.2.1).
    name: str

    def __str__(self) -> str:
        """Return the name as it is written in the ledger."""
        return self.name


def in_utc(moment: datetime) -> str:
    """Return a time as text that says its zone."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


class ReviewError(Exception):
    """The decision cannot be taken; the message says why and what can be done."""

    def __init__(self, *parts: str | datetime | NamedCase | NamedPerson) -> None:
        """Take the message, cut where it names a time (aware), a case or a person."""
        super().__init__(*parts)
        self.parts = parts

    def worded(
        self,
        moment: Callable[[datetime], str] = in_utc,
        case: Callable[[NamedCase], str] = str,
        person: Callable[[NamedPerson], str] = str,
    ) -> list[str]:
        """Return the message in pieces: what it names as the functions write it, and the words between."""
        pieces = []
        for part in self.parts:
            if isinstance(part, datetime):
                pieces.append(moment(part))
            elif isinstance(part, NamedCase):
                pieces.append(case(part))
            else:
                pieces.append(person(part) if isinstance(part, NamedPerson) else part)
        return pieces

    def __str__(self) -> str:
        """Return the message as text."""
        return "".join(self.worded())
