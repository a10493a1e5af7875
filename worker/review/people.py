"""Who decides: a person with a name and an organisation that DICOM can hold, and the account they logged in with."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.report import Person
from worker.settings import Settings

#: VR LO, and each component group of VR PN (PS3.5 6.2), in characters.
LONGEST_NAME = 64


class ReviewError(Exception):
    """The decision cannot be taken; the message says why and what can be done."""


@dataclass(frozen=True, slots=True)
class Reviewer(Person):
    """A person who looks at answers."""

    #: `User.id` as text; empty from the command line.
    account: str = ""


def reviewer(settings: Settings, name: str, organization: str = "", account: str = "") -> Reviewer:
    """Return the person who decides, with the organisation from the settings where none is given.

    Raises:
        ReviewError: The name is missing, or something cannot be written into a DICOM object.
    """
    organization = organization.strip() or settings.review.organization.strip()
    person = Reviewer(name.strip(), organization, account)
    check_person(person)
    return person


def account_of(person: Person) -> str:
    """Return the account of a person; empty where there is none."""
    return person.account if isinstance(person, Reviewer) else ""


def same_person(person: Person, account: str, name: str) -> bool:
    """Tell whether an entry of the ledger is this person's: by account, or by name where one of them has none.

    Two people of one name with an account each are two; without accounts nobody could tell, and they count as one.
    """
    own = account_of(person)
    if own and account:
        return own == account
    return person.name.strip(" ^").casefold() == name.strip(" ^").casefold()


def check_signer(person: Person) -> None:
    """Refuse who cannot sign: a verified report must name the organisation (PS3.3 C.17.2)."""
    check_person(person)
    if not person.organization.strip():
        raise ReviewError(
            "the reviewer's organisation is missing; a verified report must name it (PS3.3 C.17.2): "
            "give it with the decision, or set review.organization"
        )


def check_person(person: Person) -> None:
    """Refuse what DICOM cannot hold (VR PN and LO, PS3.5 6.2)."""
    if not person.name.strip(" ^"):
        raise ReviewError("the reviewer's name is missing")
    for what, text in (("name", person.name), ("organisation", person.organization)):
        if len(text) > LONGEST_NAME or "\\" in text or not text.isprintable() or (what == "name" and "=" in text):
            raise ReviewError(
                f"the reviewer's {what} {text!r} cannot be written into a DICOM object: at most {LONGEST_NAME} "
                "printable characters without backslash, and no = in a name"
            )
