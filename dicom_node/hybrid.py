"""The CT of a PET/CT or SPECT/CT: told from what the console wrote, because no attribute of the standard says it.

Input: an `InstanceHeader`. Output: the words that say so, for a reason that a person can check, or "". It cannot fail.

Such a CT is made at a tenth of the dose, of the whole body, mostly without contrast medium and while the patient
breathes: it is there to correct the other images for attenuation and to tell where something lies. It has the
modality, the SOP class and the ImageType of any CT (PS3.3 A.3, C.8.2.1).
"""

from __future__ import annotations

import re
from typing import Final

from dicom_node.headers import InstanceHeader

_ATTENUATION: Final = re.compile(
    r"\b(ctac|acct|ct[ _.-]*ac|ac[ _.-]*ct|ct[ _.-]*\(ac\)|attenuation|attn[ _.-]*corr\w*"
    r"|schw(ae|ä)chungskorrektur|ct[ _.-]*(for|f)[ _.-]*(ac|atten\w*))(?![^\W_])",
    re.IGNORECASE,
)
_NUCLEAR_STUDY: Final = re.compile(
    r"(?<![^\W_])(pet|petct|ctpet|spect|spectct|fdg|f[ -]?18|18[ -]?f|ga[ -]?68|68[ -]?ga|psma|dotatate|dotatoc)"
    r"(?![^\W_])",
    re.IGNORECASE,
)


def named_attenuation_ct(header: InstanceHeader) -> str:
    """Return what names a CT series as one for attenuation correction, with its attribute; "" where nothing does."""
    if header.modality != "CT":
        return ""
    return _found(_ATTENUATION, header, ("series_description", "protocol_name"))


def named_nuclear_study(header: InstanceHeader) -> str:
    """Return what names the study of a CT series as a PET/CT or SPECT/CT, with its attribute; "" where nothing does."""
    if header.modality != "CT":
        return ""
    return _found(_NUCLEAR_STUDY, header, ("study_description", "protocol_name", "series_description"))


def _found(pattern: re.Pattern[str], header: InstanceHeader, fields: tuple[str, ...]) -> str:
    for field in fields:
        words = str(getattr(header, field))
        if pattern.search(words):
            return f"{field.replace('_', ' ')} {words!r}"
    return ""
