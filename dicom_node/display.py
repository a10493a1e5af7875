"""Stored values -> display values: modality LUT, padding mask, VOI window, polarity (PS3.3 C.7.6.3, C.11.1, C.11.2).

Input: `ImageAttributes` and a frame of stored values. Output: modality values (float32, e.g. Hounsfield units) and
display pictures (uint8, 0 black). On failure: `PixelError`, where a LUT in the header is broken; a broken window falls
back to the frame's own range, because a picture is still better than none, and `Window.source` says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut

from dicom_node.pixels import Frame, ImageAttributes

#: Modality values of one frame, e.g. Hounsfield units: (rows, columns).
Values = NDArray[np.float32]
#: A display picture: uint8, (rows, columns), 0 is black.
Grey = NDArray[np.uint8]

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")


@dataclass(frozen=True, slots=True)
class Window:
    """A VOI window in modality units (PS3.3 C.11.2.1.2)."""

    center: float
    width: float
    #: LINEAR, LINEAR_EXACT or SIGMOID.
    function: str = "LINEAR"
    #: Where it comes from: "header", "percentiles", or the adapter that asks for it.
    source: str = "header"

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, for the record of what was done."""
        return {"center": self.center, "width": self.width, "function": self.function, "source": self.source}


def modality_values(image: ImageAttributes, frame: Frame, index: int = 0) -> Values:
    """Apply the modality LUT or rescale of a frame (counted from 0), also from functional groups.

    Raises:
        PixelError: The LUT is broken, or the frame is in colour.
    """
    if frame.ndim != 2:
        raise image.error("a colour image has no modality values", "use its RGB values as they are")
    if image.dataset.get("PixelIntensityRelationship") == "LOG":
        # An XA image's LUT then leads back to linear intensities and is not for display (PS3.4 N.2.1.2).
        return frame.astype(np.float32)
    rescale = _functional_group(image.dataset, "PixelValueTransformationSequence", index)
    if rescale is not None:
        return frame.astype(np.float32) * _number(rescale, "RescaleSlope", 1.0) + _number(
            rescale, "RescaleIntercept", 0.0
        )
    if "ModalityLUTSequence" in image.dataset and image.dataset.ModalityLUTSequence:
        try:
            return np.asarray(apply_modality_lut(frame, image.dataset), dtype=np.float32)
        except Exception as error:
            raise image.error(f"its modality LUT cannot be applied ({error})", "check the original") from error
    # A slope of zero would make the picture flat; it is met where a writer left the field empty.
    slope = _number(image.dataset, "RescaleSlope", 1.0) or 1.0
    return frame.astype(np.float32) * np.float32(slope) + np.float32(_number(image.dataset, "RescaleIntercept", 0.0))


def padding_mask(image: ImageAttributes, frame: Frame) -> NDArray[np.bool_]:
    """Return which stored values are padding (PixelPaddingValue and RangeLimit, PS3.3 C.7.5.1.1.2): True is padding."""
    padding = image.dataset.get("PixelPaddingValue")
    if not isinstance(padding, int) or frame.ndim != 2:
        return np.zeros(frame.shape[:2], dtype=np.bool_)
    limit = image.dataset.get("PixelPaddingRangeLimit")
    bounds = [_as_stored(value, frame.dtype) for value in (padding, limit if isinstance(limit, int) else padding)]
    return np.asarray((frame >= min(bounds)) & (frame <= max(bounds)), dtype=np.bool_)


def header_windows(image: ImageAttributes, index: int = 0) -> tuple[Window, ...]:
    """Return the usable windows of a frame (counted from 0), in the file's order; those of no width are left out."""
    group = _functional_group(image.dataset, "FrameVOILUTSequence", index)
    source = image.dataset if group is None else group
    centers, widths = _numbers(source.get("WindowCenter")), _numbers(source.get("WindowWidth"))
    function = str(source.get("VOILUTFunction") or "LINEAR").upper()
    if function not in _FUNCTIONS:
        function = "LINEAR"
    # LINEAR needs a width of at least 1, the others more than 0 (C.11.2.1.2 and C.11.2.1.3).
    least = 1.0 if function == "LINEAR" else np.nextafter(0.0, 1.0)
    return tuple(
        Window(center, width, function) for center, width in zip(centers, widths, strict=False) if width >= least
    )


def percentile_window(values: Values, tail_percent: float, mask: NDArray[np.bool_] | None = None) -> Window:
    """Return the window from one outer percentile of the values to the other; `mask` True is left out of account."""
    counted = values.ravel() if mask is None or mask.all() else values[~mask]
    # A quarter of a million evenly taken values settle a percentile; sorting all of a large frame takes long.
    counted = counted[:: max(1, counted.size // 2**18)]
    low, high = (float(bound) for bound in np.percentile(counted, (tail_percent, 100.0 - tail_percent)))
    return Window((low + high) / 2, max(high - low, 1.0), "LINEAR_EXACT", "percentiles")


def apply_window(values: Values, window: Window) -> Grey:
    """Map modality values through a window to 0..255 (PS3.3 C.11.2.1.2, C.11.2.1.3.1 and .2)."""
    if window.function == "SIGMOID":
        exponent = np.clip(-4.0 * (values - window.center) / window.width, -80.0, 80.0)
        scaled = 1.0 / (1.0 + np.exp(exponent))
    elif window.function == "LINEAR" and window.width > 1:
        scaled = (values - (window.center - 0.5)) / (window.width - 1.0) + 0.5
    elif window.function == "LINEAR":
        scaled = (values > window.center - 0.5).astype(np.float32)
    else:
        scaled = (values - window.center) / window.width + 0.5
    return np.asarray(np.round(np.clip(scaled, 0.0, 1.0) * 255.0), dtype=np.uint8)


def display_picture(
    image: ImageAttributes, frame: Frame, index: int = 0, *, window: Window | None = None
) -> tuple[Grey, Window]:
    """Return the picture a viewer would show, and the window used.

    Padding is shown black, whatever the polarity; MONOCHROME1 is inverted over the display range, not over the values'.
    Without a window given or in the header, the frame's values from the 0.5th to the 99.5th percentile are shown.

    Args:
        image: From `read_image`.
        frame: Stored values, (rows, columns).
        index: Which frame it is, counted from 0.
        window: A window to use instead of the header's first.
    """
    values, mask = modality_values(image, frame, index), padding_mask(image, frame)
    if window is None:
        window = next(iter(header_windows(image, index)), None) or percentile_window(values, 0.5, mask)
    grey = apply_window(values, window)
    if image.photometric == "MONOCHROME1":
        grey = 255 - grey
    grey[mask] = 0
    return grey, window


def grey_to_rgb(grey: Grey) -> NDArray[np.uint8]:
    """Repeat a grey picture for R, G and B: (rows, columns, 3)."""
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def _functional_group(dataset: Dataset, keyword: str, index: int) -> Dataset | None:
    """Return a functional group macro's item for a frame: its own, else the shared one (PS3.3 C.7.6.16)."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for groups in (per_frame[index : index + 1], shared[:1]):
        for group in groups:
            if group.get(keyword):
                found: Dataset = group[keyword].value[0]
                return found
    return None


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    return next(iter(_numbers(dataset.get(keyword))), default)


def _numbers(value: Any) -> list[float]:
    """Return the finite numbers of a single- or multi-valued element; nothing where it is empty or unreadable."""
    if value is None or value == "":
        return []
    several: Iterable[Any] = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    try:
        numbers = [float(one) for one in several]
    except (TypeError, ValueError):
        return []
    return numbers if all(np.isfinite(numbers)) else []


def _as_stored(value: int, dtype: np.dtype[Any]) -> int:
    """Bring a padding value to the frame's signedness: writers mix up its VR (US or SS)."""
    if dtype.kind == "i" and value > np.iinfo(dtype).max:
        return value - (1 << 8 * dtype.itemsize)
    if dtype.kind == "u" and value < 0:
        return value + (1 << 8 * dtype.itemsize)
    return value
