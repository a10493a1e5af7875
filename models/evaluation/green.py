"""GREEN by rules: this project's reading of the seven weighted components that FLARE's card lists.

Input: a reference report and a candidate. Output: `Green`, the score in [0, 1] and its components. The published GREEN
(Ostmeier et al. 2024) is a judgement by a language model; the card gives components and weights but no program, so here
each component is a comparison of what `models.evaluation.statements` reads. A component of which neither report says
anything is left out and its weight shared among the others. Scores compare adapters with one another, not with
published GREEN figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from models.evaluation.figures import f1_of
from models.evaluation.statements import ReadReport, Statement, read_report, significance

#: The card's components and weights.
WEIGHTS: Final[Mapping[str, float]] = {
    "entities with severity": 0.30,
    "location with laterality": 0.20,
    "negation and uncertainty": 0.15,
    "temporal": 0.10,
    "size": 0.10,
    "clinical significance": 0.10,
    "structure": 0.05,
}
#: An entity that is found with another severity counts half.
WRONG_SEVERITY: Final = 0.5
#: Sizes are the same within 10 %, or 1 mm for small ones.
SIZE_NEAR, SIZE_NEAR_MM = 0.10, 1.0
_IMPORTANCE: Final = {"critical": 3.0, "significant": 2.0, "minor": 1.0}


@dataclass(frozen=True, slots=True)
class Green:
    """The score and what it is made of."""

    #: Not a number where neither report says anything that the word list knows.
    score: float
    #: Component -> score in [0, 1]; components that do not apply are absent.
    components: Mapping[str, float]


def green(reference: str, candidate: str) -> Green:
    """Compare a candidate with a reference."""
    true, said = read_report(reference), read_report(candidate)
    scores = {
        "entities with severity": _entities(true, said),
        "location with laterality": _places(true, said),
        "negation and uncertainty": _f1(_stances(true), _stances(said)),
        "temporal": _f1(true.times, said.times),
        "size": _sizes(true.sizes_mm, said.sizes_mm),
        "clinical significance": _significance(true, said),
        "structure": _f1(true.sections, said.sections),
    }
    applying = {name: score for name, score in scores.items() if not math.isnan(score)}
    weight = sum(WEIGHTS[name] for name in applying)
    total = sum(WEIGHTS[name] * score for name, score in applying.items())
    return Green(total / weight if weight else math.nan, applying)


def entity_counts(reference: str, candidate: str) -> tuple[int, int, int]:
    """Return hits, missed and invented (entity, status) pairs: clinical efficacy."""
    true, said = (
        {(statement.entity, statement.status) for statement in read_report(text).statements}
        for text in (reference, candidate)
    )
    return len(true & said), len(true - said), len(said - true)


def _f1(true: frozenset[object], said: frozenset[object]) -> float:
    return f1_of(len(true & said), len(true - said), len(said - true))


def _by_entity(report: ReadReport) -> dict[str, Statement]:
    """Return what is said to be there, if in doubt; the first mention speaks for all."""
    found: dict[str, Statement] = {}
    for statement in report.statements:
        if statement.status != "denied":
            found.setdefault(statement.entity, statement)
    return found


def _entities(true: ReadReport, said: ReadReport) -> float:
    there, found = _by_entity(true), _by_entity(said)
    both = set(there) & set(found)
    credit = sum(1.0 if there[e].severity == found[e].severity else WRONG_SEVERITY for e in both)
    total = len(there) + len(found)
    return 2 * credit / total if total else math.nan


def _places(true: ReadReport, said: ReadReport) -> float:
    """Compare places and sides of the entities that both have: the mean overlap (Jaccard)."""
    there, found = _by_entity(true), _by_entity(said)
    placed = [e for e in there if there[e].places or (e in found and found[e].places)]
    if not placed:
        return math.nan
    overlaps = [
        len(there[e].places & found[e].places) / len(there[e].places | found[e].places) if e in found else 0.0
        for e in placed
    ]
    return sum(overlaps) / len(overlaps)


def _stances(report: ReadReport) -> frozenset[object]:
    return frozenset((s.entity, s.status) for s in report.statements if s.status != "present")


def _sizes(true: tuple[float, ...], said: tuple[float, ...]) -> float:
    left = list(said)
    hits = 0
    for size in true:
        near = [other for other in left if math.isclose(other, size, rel_tol=SIZE_NEAR, abs_tol=SIZE_NEAR_MM)]
        if near:
            left.remove(min(near, key=lambda other: abs(other - size)))
            hits += 1
    return f1_of(hits, len(true) - hits, len(left))


def _significance(true: ReadReport, said: ReadReport) -> float:
    """Compare what is there, weighted by what missing or inventing it would mean for the patient."""
    there, found = true.entities("present", "doubtful"), said.entities("present", "doubtful")
    hits, missed, invented = (
        sum(_IMPORTANCE[significance(entity)] for entity in part)
        for part in (there & found, there - found, found - there)
    )
    return f1_of(hits, missed, invented)
