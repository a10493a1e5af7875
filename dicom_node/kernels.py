"""A CT reconstruction kernel's name -> soft, sharp, or not known.

Input: ConvolutionKernel (0018,1210) as found, any vendor. Output: `Sharpness`. It cannot fail: a name that is not known
here says nothing, and a kernel between soft and sharp is called neither.

Names as their vendors document them (conformance statements and operator's manuals, gathered in publications on kernel
matching): Siemens a letter or two, a number that grows with sharpness, and the scan mode (B30f, I31f, Br40d, Hr68); GE
words; Philips letters; Canon FC and a number by purpose (FC01-19 body, FC30-39 bone, FC50-59 and FC80-89 lung).
"""

from __future__ import annotations

import re
from enum import StrEnum


class Sharpness(StrEnum):
    """What a kernel is for."""

    #: Abdominal organs are read on it.
    SOFT = "soft tissue"
    #: Between the two, or of unknown name.
    UNKNOWN = "unknown"
    #: Lung and bone: noise hides what organs show.
    SHARP = "sharp"


_SOFT_WORDS = frozenset({"STANDARD", "STND", "SOFT", "A", "B", "EB", "SA", "SB"})
_SHARP_WORDS = frozenset(
    {"LUNG", "BONE", "BONEPLUS", "EDGE", "ULTRA", "HDLUNG", "HDBONE", "D", "E", "L", "YA", "YB", "YC", "YD"}
)
_SIEMENS = re.compile(r"[A-Z]{1,2}(\d{2})[A-Z]{0,2}")
_CANON = re.compile(r"FC(\d{2})")
#: Siemens: 30 and 40 are the soft ones, 50 is medium sharp, 60 and more are for lung and bone.
_SIEMENS_SOFT, _SIEMENS_SHARP = 40, 50


def sharpness(kernel: str) -> Sharpness:
    """Return what a kernel is for; several values (``I30f\\3``: kernel and strength) are taken by the first."""
    name = re.sub(r"[\[\]'\" ]", "", kernel.upper()).split(",")[0]
    first = name.split("\\")[0]
    if match := _CANON.match(first):
        return _canon(int(match[1]))
    if match := _SIEMENS.fullmatch(first):
        number = int(match[1])
        if number <= _SIEMENS_SOFT:
            return Sharpness.SOFT
        return Sharpness.SHARP if number >= _SIEMENS_SHARP else Sharpness.UNKNOWN
    if first in _SOFT_WORDS:
        return Sharpness.SOFT
    return Sharpness.SHARP if first in _SHARP_WORDS else Sharpness.UNKNOWN


def _canon(number: int) -> Sharpness:
    if 1 <= number <= 19:
        return Sharpness.SOFT
    return Sharpness.SHARP if number // 10 in (3, 5, 8) else Sharpness.UNKNOWN
