"""A small picture of a slide -> where tissue is, by its colour: stained tissue is saturated, glass is not.

Input: an RGB picture. Output: a mask, and the share of tissue in rectangles of it. It cannot fail: a slide of which
nothing is coloured has no tissue. The threshold is Otsu's (IEEE Trans. Syst. Man Cybern. 9:62, 1979) on the saturation,
as is usual for haematoxylin and eosin.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
Mask = NDArray[np.bool_]

#: Glass and paper have less saturation than this, whatever the histogram looks like.
_LEAST_SATURATION = 0.07
#: Where no pixel of a slide is more coloured than this, nothing on it is stained.
_STAINED = 0.12
#: Saturation of nearly black pixels (edges, ink, what was not scanned) means nothing.
_DARK = 30
_BINS = 256


def tissue_mask(picture: Rgb) -> Mask:
    """Return where tissue is, (rows, columns); `picture` is (rows, columns, 3), uint8."""
    brightest = picture.max(axis=2).astype(np.float32)
    spread = brightest - picture.min(axis=2)
    saturation = np.where(brightest > _DARK, spread / np.maximum(brightest, 1), 0.0)
    if not saturation.size or float(saturation.max()) < _STAINED:
        return np.zeros(saturation.shape, dtype=np.bool_)
    return np.asarray(saturation > max(_otsu(saturation), _LEAST_SATURATION), dtype=np.bool_)


def shares(mask: Mask, across: int, down: int, width: float, height: float) -> NDArray[np.float64]:
    """Return the share of tissue in each cell of a grid laid over the mask, (down, across).

    Args:
        mask: Where tissue is.
        across, down: Cells in a row, and rows.
        width, height: Of one cell, in pixels of the mask; cells at the right and lower edge may be cut.
    """
    rows, columns = mask.shape
    sums = np.zeros((rows + 1, columns + 1), dtype=np.float64)
    sums[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    x = np.clip(np.round(np.arange(across + 1) * width).astype(int), 0, columns)
    y = np.clip(np.round(np.arange(down + 1) * height).astype(int), 0, rows)
    held = sums[np.ix_(y[1:], x[1:])] - sums[np.ix_(y[:-1], x[1:])] - sums[np.ix_(y[1:], x[:-1])]
    held += sums[np.ix_(y[:-1], x[:-1])]
    return np.asarray(held / max(width * height, 1e-9))


def _otsu(values: NDArray[np.floating]) -> float:
    """Return the threshold that parts `values`, in 0..1, into the two classes that differ most."""
    counts, edges = np.histogram(values, bins=_BINS, range=(0.0, 1.0))
    middles = (edges[:-1] + edges[1:]) / 2
    below, above = np.cumsum(counts), counts.sum() - np.cumsum(counts)
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    apart = np.nan_to_num(apart)
    # Between two far classes many thresholds are equally good: the middle one is furthest from both.
    best = np.flatnonzero(apart >= apart.max() * (1 - 1e-9))
    return float(edges[1:][best[len(best) // 2]])
