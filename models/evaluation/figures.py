"""A figure with its interval: a share of cases by Wilson, anything else by the bootstrap.

Input: counts, or a statistic over cases. Output: a `Figure`. Nothing is random from run to run: the bootstrap is
seeded. A figure that has no cases has no value, and says so by `None`, never by 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 1000
_SEED = 2026

#: Indices of cases, int64, shape (cases,).
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number about a set of answers."""

    name: str
    #: None where there is nothing to compute it from.
    value: float | None
    #: Ends of the 95 % interval.
    low: float | None = None
    high: float | None = None
    #: What it is computed from: cases, boxes, organs, ...
    n: int = 0
    #: "Wilson", "bootstrap" or "".
    interval: str = ""
    #: What a reader must know to read it.
    remark: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Measured:
    """What a family of tasks says about its answers."""

    figures: tuple[Figure, ...]
    warnings: tuple[str, ...] = ()


#: What was found, in the form of the adapter's findings; None where there is no usable answer.
Answer = Mapping[str, Any] | None


def proportion(name: str, hits: int, n: int, remark: str = "") -> Figure:
    """Return a share with its Wilson interval (Wilson 1927; scipy)."""
    if n == 0:
        return Figure(name, None, remark=remark or "no such case")
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(confidence_level=LEVEL, method="wilson")
    return Figure(name, hits / n, float(interval.low), float(interval.high), n, "Wilson", remark)


def bootstrapped(name: str, statistic: Callable[[Indices], float], n: int, remark: str = "") -> Figure:
    """Return a statistic with its percentile bootstrap interval (Efron & Tibshirani 1993): whole cases are redrawn.

    Args:
        name: The figure's name.
        statistic: Takes indices of cases (some of them several times); not a number where it cannot be computed.
        n: How many cases there are.
        remark: See `Figure.remark`.
    """
    if n == 0:
        return Figure(name, None, remark=remark or "no such case")
    value = statistic(np.arange(n))
    if math.isnan(value):
        return Figure(name, None, n=n, remark=remark or "cannot be computed from these cases")
    rng = np.random.default_rng(_SEED)
    drawn = np.array([statistic(rng.integers(0, n, n)) for _ in range(RESAMPLES)])
    known = drawn[~np.isnan(drawn)]
    if n < 2 or not len(known):
        return Figure(name, value, n=n, remark=remark)
    low, high = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Figure(name, value, float(low), float(high), n, "bootstrap", remark)


def mean_of(name: str, values: Sequence[float], remark: str = "") -> Figure:
    """Return the mean of one value per case, with its interval."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrapped(name, lambda chosen: float(array[chosen].mean()), len(array), remark)


def f1_of(hits: float, missed: float, invented: float) -> float:
    """Return the F1 score of counts; not a number where there was nothing to find and nothing found."""
    return 2 * hits / (2 * hits + missed + invented) if hits + missed + invented else math.nan
