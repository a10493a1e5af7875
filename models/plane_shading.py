"""One frame -> the grey picture that a recipe's plane asks for, and the shading that was used, as values.

Input: an opened image, a frame of its stored values, and a `Plane`. Output: display values (uint8), and the `Window` or
`VoiLut`: of `Percentiles` the window that was found, with which the same pixels come again. On failure: `PixelError`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dicom_node.display import Grey, VoiLut, Window, modality_values, padding_mask, percentile_window, shade
from dicom_node.modality import modality_transform
from dicom_node.picture_areas import shutter_mask
from dicom_node.pixels import Frame, ImageAttributes
from dicom_node.subtraction import Subtractor
from models.recipe import Percentiles, Plane


def shade_plane(
    image: ImageAttributes, subtractor: Subtractor, frame: Frame, plane: Plane
) -> tuple[Grey, Window | VoiLut]:
    """Return the plane's picture, (rows, columns), and the shading; see the module."""
    index = plane.of.frame - 1
    hidden = shutter_mask(image, index)
    if plane.subtraction is None:
        values = frame
    else:
        values = subtractor.subtract(plane.subtraction, frame)
        # Subtracted values are no stored ones: what was padding before is told now.
        padding = padding_mask(image, frame)
        hidden = padding if hidden is None else padding | hidden
    shading = plane.shading
    if isinstance(shading, Percentiles):
        uncounted = padding_mask(image, frame)
        for more in (hidden, _flat_border(frame) if shading.without_flat_border else None):
            uncounted = uncounted if more is None else uncounted | more
        if plane.subtraction is None:
            shading = _window_of_frame(image, frame, index, shading.tail_percent, uncounted)
        else:
            shading = percentile_window(values, shading.tail_percent, uncounted)
    return shade(image, values, shading, index, padding=hidden), shading


def _window_of_frame(
    image: ImageAttributes, frame: Frame, index: int, tail_percent: float, uncounted: NDArray[np.bool_]
) -> Window:
    change = modality_transform(image, index)
    if isinstance(change, tuple) and frame.ndim == 2:
        return percentile_window(frame, tail_percent, uncounted, change)
    return percentile_window(modality_values(image, frame, index), tail_percent, uncounted)


def _flat_border(frame: Frame) -> NDArray[np.bool_]:
    """Return collimator and shutter, True where a frame is exactly at its lowest or highest value over a wide area."""
    flat = np.zeros(frame.shape, dtype=np.bool_)
    for bound in (frame.min(), frame.max()):
        at_bound = frame == bound
        if 0.02 < float(at_bound.mean()) < 0.98:
            flat |= at_bound
    return flat
