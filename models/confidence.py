"""Raw score -> probability -> release or review, with the reason in words.

No answer looks surer than it is: a probability that was never compared with reviewed cases says "uncalibrated".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """What happens to an answer next."""

    #: Sent to the destinations, unverified.
    RELEASE = "release"
    #: Waits in the review queue for a person.
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Confidence:
    """How far an answer can be trusted, in [0, 1], and how that figure came about."""

    probability: float
    calibrated: bool
    #: "label likelihood", "token likelihood of the decisive fields", ...
    method: str


@dataclass(frozen=True, slots=True)
class ReviewPolicy:
    """When an answer may leave without a person having looked: probability of the answer itself, by answer class."""

    #: Answer class (e.g. "patent") -> lowest probability of that answer that is released.
    release_at: Mapping[str, float] = field(default_factory=dict)
    #: For answer classes not named above.
    default_release_at: float = 1.01
    #: Why the thresholds are what they are; shown with every held case.
    rationale: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """Release or review, and why."""

    outcome: Outcome
    reason: str
    confidence: Confidence | None
