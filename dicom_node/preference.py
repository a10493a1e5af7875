"""Which of several CT reconstructions shows abdominal soft tissue best, and why, in words.

Input: `Candidate`s, what is known of each (from headers or from a stack). Output: them in order of preference, and for
two of them the first criterion by which they differ. It cannot fail: what is not known is neutral, never good or bad.

The order of the criteria: an original rather than a derived image, an axial one, one that covers most, without gaps, a
soft kernel, the portal venous phase, slices of 1 to 5 mm, an energy near 70 keV, most slices, the lowest number. The
abdominal organs are read on such a reconstruction (ACR-SPR-SABI practice parameter for CT of abdomen and pelvis), and
of such ones the training volumes of the trauma adapter were made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dicom_node.kernels import Sharpness, sharpness

#: A candidate that covers less than this share of what the longest one covers leaves organs out.
_COVERS_SHARE = 0.7
_THINNEST_MM, _THICKEST_MM = 1.0, 5.0
#: The energy at which a virtual monochromatic image looks most like one at 120 kV.
_USUAL_KEV, _NEAR_KEV = 70.0, 15.0
#: Seconds from the start of the injection (ACR manual on contrast media): arterial before, delayed after.
_PORTAL_FROM_S, _PORTAL_TO_S = 50.0, 110.0
_NATIVE = re.compile(r"\b(nat|native|nativ|non ?contrast|without|w o|unenhanced|plain|pre ?contrast|ohne km|sans)\b")
_PORTAL = re.compile(r"\b(pv|pvp|portal\w*|porto\w*|portven\w*|ven|venous|venoes|venos|veineux)\b")
_OTHER_PHASE = re.compile(
    r"\b(art|arterial|arteriell|arteriel|cta|angio|delay|delayed|late|spaet|nephro\w*|excret\w*)\b"
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of one reconstruction; None or "" is not known."""

    #: How it is named in a sentence, e.g. "series 4 (5.0 mm, B30f)".
    name: str
    slices: int
    #: InstanceNumber or SeriesNumber: what comes first on the console.
    number: float = math.inf
    derived: bool = False
    orientation: str = ""
    extent_mm: float | None = None
    complete: bool | None = None
    kernel: str = ""
    #: "native", "portal venous", "other" or "" where it cannot be told.
    phase: str = ""
    thickness_mm: float | None = None
    monoenergetic_kev: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what is known, JSON-ready."""
        number = None if math.isinf(self.number) else self.number
        known = {name: getattr(self, name) for name in self.__slots__}
        return {**known, "number": number, "sharpness": sharpness(self.kernel).value}


@dataclass(frozen=True, slots=True)
class _Criterion:
    """One thing to compare: `rank`, the lower the better, and how it is said of the better one and of the other."""

    rank: Callable[[Candidate, float], float]
    say: Callable[[Candidate], str]


def in_order(candidates: Sequence[Candidate]) -> list[int]:
    """Return the indices of the candidates, the preferred one first; the order given decides only among equals."""
    longest = _longest(candidates)
    return sorted(range(len(candidates)), key=lambda index: [c.rank(candidates[index], longest) for c in _CRITERIA])


def why(better: Candidate, other: Candidate, among: Sequence[Candidate]) -> str:
    """Return in words the first thing by which `better` is better than `other`."""
    longest = _longest(among)
    for criterion in _CRITERIA:
        if criterion.rank(better, longest) != criterion.rank(other, longest):
            return f"{criterion.say(better)} against {criterion.say(other)}"
    return "none of them being better"


def phase_of_texts(*texts: str) -> str:
    """Return the contrast phase that a description names: "native", "portal venous", "other", or ""."""
    for text in texts:
        words = re.sub(r"[^a-z]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).lower())
        for phase, pattern in (("native", _NATIVE), ("portal venous", _PORTAL), ("other", _OTHER_PHASE)):
            if pattern.search(words):
                return phase
    return ""


def phase_of_times(contrast_start: str, acquired: str) -> str:
    """Return the contrast phase by the seconds from injection to acquisition (both HHMMSS), or ""."""
    start, end = _seconds(contrast_start), _seconds(acquired)
    if start is None or end is None or not 0 < end - start < 1800:
        return ""
    return "portal venous" if _PORTAL_FROM_S <= end - start <= _PORTAL_TO_S else "other"


def _seconds(time: str) -> float | None:
    match = re.match(r"(\d{2}):?(\d{2}):?(\d{2}(\.\d+)?)", time)
    return None if match is None else int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def _longest(candidates: Sequence[Candidate]) -> float:
    return max((candidate.extent_mm or 0.0 for candidate in candidates), default=0.0)


def _plane(candidate: Candidate, _longest: float) -> float:
    return 0 if candidate.orientation in ("axial", "") else 1


def _coverage(candidate: Candidate, longest: float) -> float:
    return 0 if candidate.extent_mm is None or candidate.extent_mm >= _COVERS_SHARE * longest else 1


def _softness(candidate: Candidate, _longest: float) -> float:
    return {Sharpness.SOFT: 0, Sharpness.UNKNOWN: 1, Sharpness.SHARP: 2}[sharpness(candidate.kernel)]


def _phase(candidate: Candidate, _longest: float) -> float:
    return {"portal venous": 0, "native": 2}.get(candidate.phase, 1)


def _thickness(candidate: Candidate, _longest: float) -> float:
    thickness = candidate.thickness_mm
    if thickness is None or _THINNEST_MM <= thickness <= _THICKEST_MM:
        return 0
    return 1 if thickness < _THINNEST_MM else 2


def _energy(candidate: Candidate, _longest: float) -> float:
    kev = candidate.monoenergetic_kev
    return 0 if kev is None or abs(kev - _USUAL_KEV) <= _NEAR_KEV else 1


def _kernel_words(candidate: Candidate) -> str:
    kind = sharpness(candidate.kernel)
    name = candidate.kernel or "not named"
    return f"kernel {name}" + ("" if kind is Sharpness.UNKNOWN else f" ({kind.value})")


_CRITERIA: tuple[_Criterion, ...] = (
    _Criterion(lambda c, _: c.slices < 3, lambda c: f"{c.slices} slice(s)"),
    _Criterion(lambda c, _: c.derived, lambda c: "derived images" if c.derived else "original images"),
    _Criterion(_plane, lambda c: f"{c.orientation or 'unknown'} slices"),
    _Criterion(_coverage, lambda c: f"{c.extent_mm or 0:.0f} mm covered"),
    _Criterion(lambda c, _: c.complete is False, lambda c: "gaps" if c.complete is False else "no gaps"),
    _Criterion(_softness, _kernel_words),
    _Criterion(_phase, lambda c: f"{c.phase or 'unknown'} phase"),
    _Criterion(_thickness, lambda c: "unknown thickness" if c.thickness_mm is None else f"{c.thickness_mm:.1f} mm"),
    _Criterion(_energy, lambda c: "usual energy" if c.monoenergetic_kev is None else f"{c.monoenergetic_kev:.0f} keV"),
    _Criterion(lambda c, _: -c.slices, lambda c: f"{c.slices} slices"),
    _Criterion(lambda c, _: c.number, lambda c: "no number" if math.isinf(c.number) else f"number {c.number:.0f}"),
)
