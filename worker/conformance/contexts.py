"""Which presentation contexts are accepted and proposed, asked of the code that negotiates them.

Input: none. Output: SOP classes with their transfer syntaxes and roles. Every SOP class and transfer syntax of PS3.6 is
put to the node's own decision, so that this cannot differ from what it does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from pydicom._uid_dict import UID_dictionary  # the table itself is private, its content is PS3.6 table A-1

from dicom_node import commitment, probe, query, results, scu, sr_classes
from dicom_node.associate_items import VERIFICATION
from dicom_node.negotiation import ACCEPTANCE, decide, is_storage
from dicom_node.scp import KEEPER_CLASSES
from dicom_node.scu import ECHO_CONTEXT


@dataclass(frozen=True, slots=True)
class Offer:
    """One SOP class, and how it is served or used."""

    service: str
    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]
    #: Of this side: "SCP", "SCU", or both.
    role: str


def _of_type(kind: str) -> tuple[str, ...]:
    return tuple(uid for uid, entry in UID_dictionary.items() if entry[1] == kind)


#: Of PS3.6 table A-1.
SOP_CLASSES: Final = _of_type("SOP Class")
TRANSFER_SYNTAXES: Final = _of_type("Transfer Syntax")


@cache
def accepted() -> tuple[Offer, ...]:
    """Return what the node accepts when it is called."""
    found = []
    for sop_class_uid in SOP_CLASSES:
        taken = tuple(
            syntax for syntax in TRANSFER_SYNTAXES if decide(sop_class_uid, (syntax,), KEEPER_CLASSES)[0] == ACCEPTANCE
        )
        if taken:
            found.append(Offer(_service(sop_class_uid), sop_class_uid, taken, _role(sop_class_uid)))
    return tuple(found)


def proposed() -> tuple[Offer, ...]:
    """Return what is proposed to others, but for files that a person sends as they are."""
    return tuple(_proposed())


def _proposed() -> Iterator[Offer]:
    yield Offer("Verification", ECHO_CONTEXT[0], (ECHO_CONTEXT[1],), "SCU")
    for sop_class_uid in dict.fromkeys((*results.RESULT_CLASSES, *sr_classes.REPORT_CLASSES)):
        yield Offer("Storage", sop_class_uid, scu.proposed_syntaxes(results.TRANSFER_SYNTAX), "SCU")
    role = "SCU of requests; SCP of reports, on an association of its own"
    yield Offer("Storage Commitment", commitment.SOP_CLASS, commitment.SYNTAXES, role)
    for sop_class_uid in (query.STUDY_ROOT_FIND, query.STUDY_ROOT_MOVE, query.STUDY_ROOT_GET):
        yield Offer("Query/Retrieve", sop_class_uid, query.SYNTAXES, "SCU")


def probed() -> tuple[Offer, ...]:
    """Return what `echo --probe` proposes, to learn what a peer takes; nothing is sent."""
    storage = [Offer("Storage", uid, syntaxes, "SCU") for uid, syntaxes in probe.STORAGE.items()]
    return (*storage, *(Offer(name, uid, query.SYNTAXES, "SCU") for name, uid in probe.SERVICES.items()))


def _service(sop_class_uid: str) -> str:
    if sop_class_uid == VERIFICATION:
        return "Verification"
    return "Storage" if is_storage(sop_class_uid) else "Storage Commitment"


def _role(sop_class_uid: str) -> str:
    both = sop_class_uid in KEEPER_CLASSES
    return "SCP; SCU of the reports of a peer that selects the SCP role" if both else "SCP"
