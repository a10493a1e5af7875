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
#: Kind of a rejection note: it goes wherever what it rejects went, whatever kinds a destination asks for.
REJECTION: Final = "rejection"
