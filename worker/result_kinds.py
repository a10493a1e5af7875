"""The kinds of result that this software writes, as settings, rows and the ledger name them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class ResultKind(StrEnum):
    """What a destination can be sent of an answer."""

    #: The structured report (TID 1500).
    SR = "sr"
    #: A Secondary Capture of each key image.
    SC = "sc"
    #: All key images as one multi-frame Secondary Capture.
    SC_MULTI = "sc-multi"
    #: A Key Object Selection of the source frames that the model saw.
    KO = "ko"
    #: Grayscale Softcopy Presentation States: outlines and warnings over grey-scale sources.
    PR = "pr"
    #: The report on paper, as an Encapsulated PDF.
    PDF = "pdf"


#: What a destination gets that asks for nothing else. Both are always made: the one is what later reports refer to as
#: their predecessor, the other is what the pages show.
DEFAULT_KINDS: Final = (ResultKind.SR, ResultKind.SC)
#: SOP class -> kind of the same report written in it, for a destination that does not take the report itself.
PLAINER_REPORTS: Final = {
    "1.2.840.10008.5.1.4.1.1.88.33": "sr-comprehensive",
    "1.2.840.10008.5.1.4.1.1.88.22": "sr-enhanced",
}
#: Kind of a rejection note: it goes wherever what it rejects went, whatever kinds a destination asks for.
REJECTION: Final = "rejection"


class MessageKind(StrEnum):
    """What a system that does not speak DICOM is sent: a message is a result of its own kind, and no DICOM object."""

    #: A FHIR R4 transaction.
    FHIR = "fhir"
    #: An HL7 v2 ORU^R01.
    HL7 = "hl7"
    #: A CloudEvents event.
    EVENT = "event"

    @property
    def ending(self) -> str:
        """Kind of the message that ends what one of this kind told: like a rejection note, it is always sent."""
        return f"{self.value}-end"


#: Kinds of results that are no DICOM objects.
MESSAGES: Final = frozenset((*MessageKind, *(kind.ending for kind in MessageKind)))
#: Kinds that are sent though their job has moved on: that it has is what they say.
ENDINGS: Final = frozenset((REJECTION, *(kind.ending for kind in MessageKind)))


class Happening(StrEnum):
    """What becomes of a job that others may want to know of."""

    #: Sent to the destinations without a person.
    RELEASED = "released"
    #: Waits for a person.
    HELD = "held"
    #: Waits for a person because there is no answer.
    FAILED = "failed"
    #: A person signed the answer as it was.
    VERIFIED = "verified"
    #: A person changed the answer and signed it.
    AMENDED = "amended"
    #: A person rejected it: whoever was told it must forget it.
    REJECTED = "rejected"
    #: A newer revision, or a better series, stands in its place.
    SUPERSEDED = "superseded"

    @property
    def is_ending(self) -> bool:
        """Whether the answer counts no more."""
        return self in (Happening.REJECTED, Happening.SUPERSEDED)
