"""Percentiles of many whole numbers by counting them: exactly NumPy's, several times as fast as sorting.

Input: stored values and the rescale that makes modality values of them. Output: the percentiles of the modality values,
interpolated linearly as `numpy.percentile` does (Hyndman and Fan, type 7, The American Statistician 50, 1996). It
cannot fail; what is not to be counted (more than 16 bits, a falling or no straight rescale) gives None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def counted_percentiles(
    stored: NDArray[Any], shares: Sequence[float], *, slope: float = 1.0, intercept: float = 0.0
) -> tuple[float, ...] | None:
    """Return percentiles of `stored * slope + intercept` in float32, or None where they must be found by sorting.

    Args:
        stored: Any shape, at least one value.
        shares: In percent, 0 to 100.
        slope: Of the rescale; above 0, so that it keeps the order of the values.
        intercept: Of the rescale.
    """
    if stored.dtype.kind not in "iu" or stored.dtype.itemsize > 2 or not slope > 0 or not stored.size:
        return None
    lowest = int(stored.min())
    # Values are counted from 0 on: a type of 16 bits holds their distance to the lowest one, unsigned.
    places = stored.astype(np.int32) - lowest if lowest < 0 else stored
    up_to = np.cumsum(np.bincount(places.ravel()))
    offset = min(lowest, 0)

    def at(rank: int) -> np.float32:
        """Return the value with so many before it in order."""
        value = np.float32(int(np.searchsorted(up_to, rank, side="right")) + offset)
        return value * np.float32(slope) + np.float32(intercept)

    found = []
    for share in shares:
        place = (stored.size - 1) * (share / 100)
        below = math.floor(place)
        found.append(_between(at(below), at(min(below + 1, stored.size - 1)), place - below))
    return tuple(found)


def _between(low: np.float32, high: np.float32, part: float) -> float:
    """Interpolate from whichever end is nearer, the difference in float32, as NumPy does."""
    step = float(high - low)
    return float(high) - step * (1 - part) if part >= 0.5 else float(low) + step * part
