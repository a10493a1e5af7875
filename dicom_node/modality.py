"""Stored values -> modality values, and which of them are padding (PS3.3 C.11.1, C.7.5.1.1.2).

Input: `ImageAttributes` and a frame of stored values. Output: modality values (float32, e.g. Hounsfield units), and a
mask of padding. On failure: `PixelError`, where a modality LUT in the header is broken or the frame is in colour.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.frame_attributes import functional_group, items, number, text, whole_numbers
from dicom_node.look_up_tables import LookUpTable, read_look_up_table
from dicom_node.pixels import Frame, ImageAttributes

#: Modality values of one frame, e.g. Hounsfield units: (rows, columns).
Values = NDArray[np.float32]
#: True somewhere in a frame: (rows, columns).
Mask = NDArray[np.bool_]


def modality_values(image: ImageAttributes, frame: Frame, index: int = 0) -> Values:
    """Apply the modality LUT or rescale of a frame (counted from 0), also from functional groups.

    Raises:
        PixelError: The LUT is broken, or the frame is in colour.
    """
    if frame.ndim != 2:
        raise image.error("a colour image has no modality values", "use its RGB values as they are")
    change = modality_transform(image, index)
    if isinstance(change, LookUpTable):
        return change.look_up(frame).astype(np.float32)
    slope, intercept = change
    return frame.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def modality_transform(image: ImageAttributes, index: int = 0) -> LookUpTable | tuple[float, float]:
    """Return how a frame's stored values become modality values: a table, or slope and intercept.

    Raises:
        PixelError: The LUT is broken.
    """
    dataset = image.dataset
    if text(dataset, "PixelIntensityRelationship") == "LOG":
        # An XA image's LUT then leads back to linear intensities and is not for display (PS3.4 N.2.1.2).
        return 1.0, 0.0
    rescale = functional_group(dataset, "PixelValueTransformationSequence", index)
    if rescale is None and items(dataset, "ModalityLUTSequence"):
        return _modality_lut(image)
    source = dataset if rescale is None else rescale
    # A slope of zero would make the picture flat; it is met where a writer left the field empty.
    return number(source, "RescaleSlope", 1.0) or 1.0, number(source, "RescaleIntercept", 0.0)


def _modality_lut(image: ImageAttributes) -> LookUpTable:
    item = items(image.dataset, "ModalityLUTSequence")[0]
    try:
        return read_look_up_table(
            item, "LUTData", little_endian=image.transfer_syntax.is_little_endian, signed=image.is_signed
        )
    except Exception as error:
        raise image.error(f"its modality LUT cannot be applied ({error})", "check the original") from error


def padding_mask(image: ImageAttributes, frame: Frame) -> Mask:
    """Return which stored values are padding (PixelPaddingValue and RangeLimit, PS3.3 C.7.5.1.1.2): True is padding.

    Of values in floating point those that are no numbers are.
    """
    if frame.dtype.kind == "f":
        return ~np.isfinite(frame)
    bounds = padding_bounds(image, frame.dtype)
    if bounds is None or frame.ndim != 2:
        return np.zeros(frame.shape[:2], dtype=np.bool_)
    return np.asarray((frame >= bounds[0]) & (frame <= bounds[1]), dtype=np.bool_)


def padding_bounds(image: ImageAttributes, dtype: np.dtype[Any]) -> tuple[int, int] | None:
    """Return the lowest and the highest stored value that are padding, or None; `dtype` is the decoded frame's."""
    value = whole_numbers(image.dataset, "PixelPaddingValue")
    limit = whole_numbers(image.dataset, "PixelPaddingRangeLimit")
    if not value or dtype.kind not in "iu":
        return None
    bounds = [_as_stored(one, dtype) for one in (*value[:1], *limit[:1])]
    return min(bounds), max(bounds)


def _as_stored(value: int, dtype: np.dtype[Any]) -> int:
    """Bring a padding value to the frame's signedness: writers mix up its VR (US or SS)."""
    if dtype.kind == "i" and value > np.iinfo(dtype).max:
        return value - (1 << 8 * dtype.itemsize)
    if dtype.kind == "u" and value < 0:
        return value + (1 << 8 * dtype.itemsize)
    return value
