"""A text -> the same text where it is valid for its attribute, cut or cleaned where that loses nothing, else "".

Input: a keyword and its text as stored. Output: a value that a result may carry (PS3.5 6.2). Identifiers are kept to
the letter, because a result must file under the same patient, study and order. Raises nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from pydicom.datadict import dictionary_VR

#: Kept to the letter: altering one would file the result under another patient, study or order.
_IDENTIFIERS: Final = ("PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID")
#: Longest text by VR (PS3.5 6.2); longer descriptions are cut.
_MAX_LENGTH: Final = {"SH": 16, "LO": 64, "ST": 1024, "LT": 10240}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_LINES: Final = re.compile(r"[\x00-\x09\x0b\x0c\x0e-\x1f\x7f]")
_TIME: Final = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?", re.ASCII)
_AGE: Final = re.compile(r"\d{3}[DWMY]", re.ASCII)
_MULTI_VALUED: Final = {"LossyImageCompressionRatio", "LossyImageCompressionMethod"}
_ENUMERATED: Final = {
    "PatientSex": {"M", "F", "O"},
    "PatientIdentityRemoved": {"YES", "NO"},
    "Laterality": {"R", "L"},
    "ImageLaterality": {"R", "L", "U", "B"},
    "LossyImageCompression": {"00", "01"},
}


def valid_value(keyword: str, text: str) -> str:
    """Return `text` where it is valid for the attribute, cut or cleaned where that loses nothing, else ''."""
    if keyword in _IDENTIFIERS:
        return _CONTROL.sub("", text).strip()
    if keyword in _ENUMERATED:
        return text if text in _ENUMERATED[keyword] else ""
    vr = dictionary_VR(keyword)
    check = _BY_VR.get(vr, plain_text)
    if keyword not in _MULTI_VALUED:
        return check(text, vr)
    values = [check(value.strip(), vr) for value in text.split("\\")]
    return "\\".join(values) if all(values) else ""


def plain_text(text: str, vr: str) -> str:
    """Return the text of an SH or LO: one line, one value; of an ST or LT: lines and backslashes may stay."""
    if vr in {"SH", "LO"}:
        text = _CONTROL.sub(" ", text.replace("\\", "/"))
    return _CONTROL_BUT_LINES.sub("", text)[: _MAX_LENGTH.get(vr, 64)].strip()


def _date(text: str, _vr: str) -> str:
    try:
        datetime.strptime(text, "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return ""
    return text if len(text) == 8 else ""


def _time(text: str, _vr: str) -> str:
    return text if _TIME.fullmatch(text) else ""


def _age(text: str, _vr: str) -> str:
    return text if _AGE.fullmatch(text) else ""


def _decimal(text: str, _vr: str) -> str:
    try:
        number = float(text)
    except ValueError:
        return ""
    return text if math.isfinite(number) and number > 0 and len(text) <= 16 else ""


def _code_string(text: str, _vr: str) -> str:
    return text if re.fullmatch(r"[A-Z0-9 _]{1,16}", text, re.ASCII) else ""


def _person_name(text: str, _vr: str) -> str:
    """At most three component groups of at most five components and 64 characters (PS3.5 6.2.1)."""
    groups = _CONTROL.sub("", text.replace("\\", " ")).split("=")[:3]
    return "=".join("^".join(group.split("^")[:5])[:64].strip() for group in groups).rstrip("=")


_BY_VR: Final[dict[str, Callable[[str, str], str]]] = {
    "DA": _date,
    "TM": _time,
    "AS": _age,
    "DS": _decimal,
    "CS": _code_string,
    "PN": _person_name,
}
