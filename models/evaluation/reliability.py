"""Confidence against outcome: a reliability diagram, the expected calibration error, the risk-coverage curve.

Input: for each case how sure the answer was, and how good it was (1 right, 0 wrong, or anything between for text).
Output: `Reliability`. What has no confidence (no usable answer) is left out of the diagram and comes last in the
risk-coverage curve: it is never released.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.evaluation.figures import Figure, bootstrapped, proportion

#: Equal parts of [0, 1]; ten is the usual choice (Guo et al. 2017 use 15, with far more cases than a site has).
BINS = 10


@dataclass(frozen=True, slots=True)
class Bin:
    """The answers of one part of the scale; low <= probability < high, the last one closed."""

    low: float
    high: float
    cases: int
    mean_probability: float
    right: Figure


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far the probabilities can be taken at their word."""

    #: "raw" or "calibrated", with the version.
    kind: str
    #: Empty where right and wrong are not defined.
    bins: tuple[Bin, ...]
    #: Figures: expected calibration error (where defined), area under the risk-coverage curve.
    figures: tuple[Figure, ...]
    #: Share of the cases -> mean risk among the surest so many: the curve.
    coverage: tuple[float, ...]
    risk: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


def reliability(kind: str, sure: Sequence[float | None], good: Sequence[float], *, binary: bool) -> Reliability:
    """Compare probabilities with outcomes.

    Args:
        kind: What to call them.
        sure: Probability of each answer, or None.
        good: How good each answer was, in [0, 1].
        binary: Whether `good` is right or wrong; else there is no diagram.
    """
    order = np.array([-1.0 if p is None or np.isnan(p) else p for p in sure])
    quality = np.asarray(good, dtype=np.float64)
    known = order >= 0
    p, q = order[known], quality[known]
    figures = [
        bootstrapped(
            "area under risk-coverage",
            lambda i: area_under_risk_coverage(order[i], quality[i]),
            len(order),
            "0 is best; mean share of wrong answers (text: 1 - score) among the surest k, over all k",
        )
    ]
    if binary:
        remark = f"{BINS} equal bins; sampling noise alone makes it larger than 0"
        error = bootstrapped("expected calibration error", lambda i: calibration_error(p[i], q[i]), len(p), remark)
        figures.insert(0, error)
    coverage, risk = risk_coverage(order, quality)
    return Reliability(
        kind, _bins(p, q) if binary else (), tuple(figures), tuple(coverage.tolist()), tuple(risk.tolist())
    )


def calibration_error(probabilities: Any, right: Any) -> float:
    """Return the expected calibration error (Naeini et al. 2015): the mean gap of the bins, by their cases."""
    which = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    sums = np.bincount(which, weights=probabilities - right, minlength=BINS)
    return float(np.abs(sums).sum() / len(probabilities))


def area_under_risk_coverage(sure: Any, good: Any) -> float:
    """Return the mean risk over all coverages (Geifman & El-Yaniv 2017); 0 is best."""
    return float(risk_coverage(np.asarray(sure), np.asarray(good))[1].mean())


def risk_coverage(sure: Any, good: Any) -> tuple[Any, Any]:
    """Return coverage and risk, each float64 of shape (cases,): the surest answers first."""
    by_sureness = np.argsort(-sure, kind="stable")
    counts = np.arange(1, len(sure) + 1)
    return counts / len(sure), np.cumsum(1 - good[by_sureness]) / counts


def _bins(probabilities: Any, right: Any) -> tuple[Bin, ...]:
    which = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    made = []
    for number in range(BINS):
        inside = which == number
        count = int(inside.sum())
        if count:
            figure = proportion("right", int(right[inside].sum()), count)
            made.append(Bin(number / BINS, (number + 1) / BINS, count, float(probabilities[inside].mean()), figure))
    return tuple(made)
