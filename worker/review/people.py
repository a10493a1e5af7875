"""Who decides: a person with a name and an organisation that DICOM can hold, and the account they logged in with."""

from __future__ import annotations

import unicodedata
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


def same_name(one: str, other: str) -> bool:
    """Tell whether two person names (PN, PS3.5 6.2.1) are written alike, whatever their case and spaces."""
    return _name_as_compared(one) == _name_as_compared(other)


def why_no_second_reader(person: Person, account: str, name: str) -> str:
    """Say why a person cannot decide where somebody of this account and name asked for a second reader.

    Stricter than `same_person`: one person may have two accounts, such as a password's and an OpenID provider's, so
    that a name alone makes one. Empty where they can decide.
    """
    if same_person(person, account, name):
        return "they asked for a second reader, who must be another person"
    if same_name(person.name, name):
        return (
            "somebody of the same name asked for a second reader, who must be another person; where these are two "
            "people, an administrator gives the one who decides a name of their own, here or at the OpenID provider"
        )
    return ""


def _name_as_compared(name: str) -> str:
    parts = unicodedata.normalize("NFKC", name).casefold().split("^")
    return "^".join(" ".join(part.split()) for part in parts).strip("^")


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
