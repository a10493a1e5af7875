"""Stored values -> pictures as a viewer shows them: one name for the whole grey-scale and colour pipeline.

Input: `ImageAttributes`, a frame of stored values (or values derived from one), and a shading. Output: display pictures
(uint8, 0 black). On failure: `PixelError`, where a LUT in the header is broken; without any shading the frame's own
percentiles make one, because a picture is still better than none, and `Window.source` says so.

The order is the standard's (PS3.4 N.2): modality LUT (`modality`), then VOI (`voi`), then polarity; padding comes last
and is black in every polarity. Colours skip all of it (`colour`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.colour import Rgb, colours, grey_to_rgb, is_colour
from dicom_node.frame_attributes import text
from dicom_node.modality import Mask, Values, modality_transform, modality_values, padding_bounds, padding_mask
from dicom_node.pixels import Frame, ImageAttributes
from dicom_node.voi import (
    Grey,
    Shading,
    VoiLut,
    Window,
    apply_voi_lut,
    apply_window,
    header_shading,
    header_voi_luts,
    header_window,
    header_windows,
    percentile_window,
    shading_from_json,
)

__all__ = [
    "Grey",
    "Mask",
    "Rgb",
    "Shading",
    "Values",
    "VoiLut",
    "Window",
    "apply_voi_lut",
    "apply_window",
    "colours",
    "display_picture",
    "grey_to_rgb",
    "header_shading",
    "header_voi_luts",
    "header_window",
    "header_windows",
    "is_colour",
    "modality_values",
    "padding_mask",
    "percentile_window",
    "shade",
    "shading_from_json",
    "shown_inverted",
]

#: Percent of the values at either end that a window of the frame's own values leaves out.
TAIL_PERCENT = 0.5


def shown_inverted(image: ImageAttributes) -> bool:
    """Tell whether low values are white: PresentationLUTShape where the image has one, else MONOCHROME1.

    The two say the same thing in a valid image, INVERSE with MONOCHROME1 (PS3.3 C.8.11.3.1.2), and mean one inversion.
    Where they disagree the shape, the last step before the display, decides, as it does in dcmtk.
    """
    shape = text(image.dataset, "PresentationLUTShape")
    return shape == "INVERSE" if shape in ("IDENTITY", "INVERSE") else image.photometric == "MONOCHROME1"


def shade(
    image: ImageAttributes,
    frame_or_values: NDArray[Any],
    shading: Shading | None,
    index: int = 0,
    *,
    padding: Mask | None = None,
) -> Grey:
    """Return the picture of a frame: shaded, in its polarity, padding black.

    Args:
        image: From `read_image`.
        frame_or_values: Stored values as decoded (an integer type), or float32 modality or subtracted values.
        shading: A window or VOI LUT; None shows from the 0.5th to the 99.5th percentile of the frame.
        index: Which frame it is, counted from 0.
        padding: What is black besides PixelPaddingValue, which only stored values can be compared with.

    Raises:
        PixelError: A LUT is broken or not there, or the frame is in colour.
    """
    stored = frame_or_values.dtype.kind in "iu"
    if stored and isinstance(shading, Window) and frame_or_values.itemsize <= 2 and frame_or_values.ndim == 2:
        change = modality_transform(image, index)
        if isinstance(change, tuple):
            bounds = padding_bounds(image, frame_or_values.dtype)
            table = _table(frame_or_values.dtype.str, change, shading, shown_inverted(image), bounds)
            # Every place is in the table; "clip" only spares NumPy a copy.
            grey: Grey = np.take(table, _as_places(frame_or_values), mode="clip")
            if padding is not None:
                grey[padding] = 0
            return grey
    values, black = frame_or_values.astype(np.float32, copy=False), padding_mask(image, frame_or_values)
    if stored:
        values = modality_values(image, frame_or_values, index)
    elif black.any():
        values = np.where(black, np.float32(0), values)
    if padding is not None:
        black = black | padding
    if shading is None:
        shading = percentile_window(values, TAIL_PERCENT, black)
    if isinstance(shading, VoiLut):
        grey = apply_voi_lut(image, values, shading, index)
    else:
        grey = apply_window(values, shading)
    return _finished(grey, shown_inverted(image), black)


def display_picture(
    image: ImageAttributes, frame: Frame, index: int = 0, *, window: Window | None = None
) -> tuple[Grey, Window]:
    """Return a frame as a viewer would show it that knows windows only, and the window used.

    Without a window given or in the header, the frame's values from the 0.5th to the 99.5th percentile are shown;
    `header_shading` and `shade` know VOI LUTs too.

    Args:
        image: From `read_image`.
        frame: Stored values, (rows, columns).
        index: Which frame it is, counted from 0.
        window: A window to use instead of the header's first.
    """
    if window is None:
        window = next(iter(header_windows(image, index)), None)
    if window is None:
        values = modality_values(image, frame, index)
        window = percentile_window(values, TAIL_PERCENT, padding_mask(image, frame))
    return shade(image, frame, window, index), window


@lru_cache(maxsize=16)
def _table(
    dtype: str, rescale: tuple[float, float], window: Window, inverted: bool, padding: tuple[int, int] | None
) -> Grey:
    """Return the shade of every value that a type of at most 16 bits can hold, in order of its bit pattern.

    Frames of one series share it, and looking up is many times faster than reckoning each pixel in floating point.
    """
    bits = 8 * np.dtype(dtype).itemsize
    stored = np.arange(2**bits, dtype=f"u{bits // 8}").view(np.dtype(dtype).newbyteorder("="))
    values = stored.astype(np.float32) * np.float32(rescale[0]) + np.float32(rescale[1])
    black = np.zeros(len(stored), dtype=np.bool_)
    if padding is not None:
        black = (stored >= padding[0]) & (stored <= padding[1])
    table = _finished(apply_window(values, window), inverted, black)
    table.flags.writeable = False
    return table


def _as_places(frame: Frame) -> NDArray[Any]:
    """See the values' bit patterns as places in a table; the byte order is made the machine's."""
    native = frame.astype(frame.dtype.newbyteorder("="), copy=False)
    return native.view(f"u{native.dtype.itemsize}")


def _finished(grey: Grey, inverted: bool, black: Mask) -> Grey:
    # Inverted over the display range, not over the values' own.
    if inverted:
        grey = 255 - grey
    grey[black] = 0
    return grey
