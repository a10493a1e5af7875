"""Raw element values -> Python values for the header: lenient, silent, never guessing.

Input: `Element`s as found. Output: text, numbers, codes; ``""``, ``()`` or ``None`` where a value is absent or not what
its definition says. Nothing fails here.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

from dicom_node.codes import Code
from dicom_node.elements import Element
from dicom_node.stored_text import decoded, encodings_of

Elements = Mapping[int, Element]

_AGE: Final = re.compile(r"(\d{1,3})([DWMY])")
_DAYS_PER: Final = {"D": 1.0, "W": 7.0, "M": 365.25 / 12, "Y": 365.25}
#: An age beyond this is a typing error or a placeholder.
_OLDEST_YEARS: Final = 130.0


class Charset:
    """SpecificCharacterSet (0008,0005) of a data set (PS3.3 C.12.1.1.2), applied leniently."""

    def __init__(self, element: Element | None) -> None:
        self._encodings = encodings_of(_ascii(element).split("\\"))

    def text(self, element: Element | None) -> str:
        """Decode a text value; bytes that do not fit are replaced."""
        return "" if element is None else decoded(element.value, self._encodings).strip(" \0")


def _ascii(element: Element | None) -> str:
    return "" if element is None else element.value.decode("latin-1").strip(" \0")


def word(elements: Elements, tag: int) -> str:
    """A value of the default character repertoire: CS, UI, DA, TM, AS."""
    return _ascii(elements.get(tag))


def words(elements: Elements, tag: int) -> tuple[str, ...]:
    """The values of a multi-valued CS."""
    text = word(elements, tag)
    return tuple(part.strip(" \0") for part in text.split("\\")) if text else ()


def decimal(elements: Elements, tag: int) -> float | None:
    """The first value of a DS or IS."""
    values = decimals(elements, tag)
    return values[0] if values else None


def decimals(elements: Elements, tag: int) -> tuple[float, ...]:
    """Every value of a DS; nothing where one of them is not a finite number."""
    text = word(elements, tag)
    if not text:
        return ()
    try:
        values = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return ()
    return values if all(math.isfinite(value) for value in values) else ()


def integer(elements: Elements, tag: int) -> int | None:
    """The first value of an IS."""
    value = decimal(elements, tag)
    return int(value) if value is not None and value == int(value) else None


def unsigned(elements: Elements, tag: int, *, little_endian: bool) -> int | None:
    """The first value of a US (or, of writers that err, a UL)."""
    element = elements.get(tag)
    if element is None or len(element.value) < 2:
        return None
    order = "<" if little_endian else ">"
    if len(element.value) == 4 and element.vr in ("UL", "SL"):
        return int(struct.unpack(order + "L", element.value)[0])
    return int(struct.unpack_from(order + "H", element.value)[0])


def double(elements: Elements, tag: int, *, little_endian: bool) -> float | None:
    """The first value of an FD; None where it is absent or not finite."""
    element = elements.get(tag)
    if element is None or len(element.value) < 8:
        return None
    value: float = struct.unpack_from("<d" if little_endian else ">d", element.value)[0]
    return value if math.isfinite(value) else None


def items(elements: Elements, tag: int) -> Sequence[Elements]:
    """The items of a sequence; none where it is absent."""
    element = elements.get(tag)
    return element.items if element is not None else ()


def codes(elements: Elements, tag: int, charset: Charset) -> tuple[Code, ...]:
    """The coded concepts of a code sequence (PS3.3 8.1), old SRT and SNM3 codes as they are.

    The value may be in Long Code Value or URN Code Value instead of Code Value.
    """
    found = []
    for entry in items(elements, tag):
        value = next((text for t in (0x00080100, 0x00080119, 0x00080120) if (text := charset.text(entry.get(t)))), "")
        scheme = charset.text(entry.get(0x00080102))
        meaning = charset.text(entry.get(0x00080104))
        if value or meaning:
            found.append(Code(value, scheme, meaning))
    return tuple(found)


def calendar_date(text: str) -> date | None:
    """A DA value, also as ``YYYY.MM.DD`` (PS3.5 6.2, retired) or with dashes."""
    digits = re.sub(r"[.\-]", "", text)
    if not re.fullmatch(r"\d{8}", digits, re.ASCII):
        return None
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return None


def age_years(patient_age: str, birth_date: str, study_date: str) -> float | None:
    """Age at the study in years: from PatientAge, else from the two dates; None where neither is usable."""
    match = _AGE.fullmatch(patient_age.strip().upper())
    years: float | None = None
    if match is not None:
        number, unit = int(match[1]), match[2]
        # "000Y" is what some devices write for "not entered"; newborns are given in days, weeks or months.
        years = None if unit == "Y" and number == 0 else number * _DAYS_PER[unit] / 365.25
    if years is None:
        born, studied = calendar_date(birth_date), calendar_date(study_date)
        if born is not None and studied is not None:
            years = (studied - born).days / 365.25
    return years if years is not None and 0 <= years <= _OLDEST_YEARS else None
