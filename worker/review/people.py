"""Who decides: a person with a name and an organisation that DICOM can hold, and the account they logged in with.

Input: a name, an organisation, an account, and a witness, who tells of what they do. Output: a `Reviewer`, and what
tells them from others. On failure `ReviewError`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dicom_node.report import Person
from worker.audit.owed import Witness
from worker.db.identity import Identity
from worker.review.errors import ReviewError
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class Reviewer(Person):
    """A person who looks at answers."""

    #: `User.id` as text; empty from the command line.
    account: str = ""
    #: Tells the audit trail of what they decide.
    witness: Witness | None = field(default=None, compare=False, repr=False)


def reviewer(settings: Settings, name: str, organization: str = "", account: str = "", *, witness: Witness) -> Reviewer:
    """Return the person who decides, with the organisation from the settings where none is given.

    Raises:
        ReviewError: The name is missing, or something cannot be written into a DICOM object.
    """
    organization = organization.strip() or settings.review.organization.strip()
    person = Reviewer(name.strip(), organization, account, witness)
    check_person(person)
    return person


def identity_of(person: Person) -> Identity:
    """Return what tells a person from others in the ledger."""
    return Identity(person.account if isinstance(person, Reviewer) else "", person.name)


def same_person(person: Person, account: str, name: str) -> bool:
    """Tell whether an entry of the ledger is this person's (`Identity.is_same`)."""
    return identity_of(person).is_same(account, name)


def why_no_second_reader(person: Person, account: str, name: str) -> str:
    """Say why a person cannot decide where somebody of this account and name asked for a second reader.

    The rule is `Identity.is_taken_for`, by which the work list offers such cases, too. Empty where they can decide.
    """
    if same_person(person, account, name):
        return "they asked for a second reader, who must be another person"
    if identity_of(person).is_taken_for(account, name):
        return (
            "somebody of the same name asked for a second reader, who must be another person; where these are two "
            "people, an administrator gives the one who decides a name of their own, here or at the OpenID provider"
        )
    return ""


def check_signer(person: Person) -> None:
    """Refuse who cannot sign: a verified report must name the organisation (PS3.3 C.17.2)."""
    check_person(person)
    if not person.organization.strip():
        raise ReviewError(
            "the reviewer's organisation is missing; a verified report must name it (PS3.3 C.17.2): "
            "give it with the decision, or set review.organization"
        )


def check_person(person: Person) -> None:
    """Refuse who has no name, and what DICOM cannot hold."""
    if not person.name.strip(" ^"):
        raise ReviewError("the reviewer's name is missing")
    if person.unwritable:
        raise ReviewError(f"the reviewer's {person.unwritable}")
