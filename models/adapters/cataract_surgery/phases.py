"""The model's reasoning -> the one phase of the operation that it plainly names, coded, or none.

Input: free text. Output: a code of the private scheme, because no public dictionary has these phases; they are those
of Cataract-1K (Ghamsarian et al., Scientific Data 2024), the set the adapter was trained on. A text that names no phase
as such, several, or one only as past, coming or denied gives `None`. It cannot fail.
"""

from __future__ import annotations

import re
from typing import Final

from dicom_node.codes import CATARACT_PHASES, Code

#: Words that make a phase something other than what the frame shows.
_NOT_NOW: Final = frozenset(
    {"not", "no", "never", "neither", "nor", "without", "unlike", "before", "after", "following", "until", "once"}
    | {"next", "prior", "previous", "preceding", "subsequent", "later", "earlier", "upcoming", "completed", "complete"}
    | {"if", "whether", "or", "either", "may", "might", "could", "possibly", "perhaps", "preparing", "preparation"}
)
#: How the phases are spelled; longer names first, so that "viscoelastic suction" is not read as "viscoelastic".
_SPELLINGS: Final[tuple[tuple[str, str], ...]] = (
    (r"viscoelastic[- ](?:suction|removal|aspiration)", "Viscoelastic suction"),
    (r"(?:viscoelastic|ovd)(?:[- ]injection)?", "Viscoelastic"),
    (r"irrigation(?:[- ]and[- ]|[-/ ]+)aspiration|i/a", "Irrigation/aspiration"),
    (r"anterior[- ](?:chamber[- ])?flushing", "Anterior chamber flushing"),
    (r"capsul(?:e|ar)[- ]polishing", "Capsule polishing"),
    (r"(?:intraocular[- ])?(?:lens|iol)[- ](?:implantation|insertion)", "Lens implantation"),
    (r"(?:intraocular[- ])?(?:lens|iol)[- ]positioning", "Lens positioning"),
    (r"phaco(?:emulsification)?", "Phacoemulsification"),
    (r"(?:continuous[- ]curvilinear[- ])?capsulorr?hexis", "Capsulorhexis"),
    (r"hydro-?dissection", "Hydrodissection"),
    (r"(?:corneal[- ]|clear[- ]corneal[- ])?incision", "Incision"),
    (r"tonifying(?:[-/ ]+(?:and[- ])?antibiotics)?|antibiotics", "Tonifying/antibiotics"),
)
_ANY_PHASE: Final = "|".join(rf"(?P<p{n}>{spelling})" for n, (spelling, _) in enumerate(_SPELLINGS))
_PHASE: Final = re.compile(rf"\b(?:{_ANY_PHASE})[- ](?:phase|stage)\b")
_CODES: Final = {code.meaning: code for code in CATARACT_PHASES}


def named_phase(text: str) -> Code | None:
    """Return the phase that the text says is shown ("the capsulorhexis phase"), where it says exactly one."""
    named: set[str] = set()
    for sentence in re.split(r"[.;\n]+", text.lower()):
        for match in _PHASE.finditer(sentence):
            if not _NOT_NOW.isdisjoint(re.findall(r"[a-z]+", sentence[: match.start()])):
                return None
            group = next(name for name, value in match.groupdict().items() if value)
            named.add(_SPELLINGS[int(group[1:])][1])
    return _CODES[named.pop()] if len(named) == 1 else None
