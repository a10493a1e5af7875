"""Modality values -> shades of grey: windows and VOI LUTs of the header, or a window of the values (PS3.3 C.11.2).

Input: `ImageAttributes`, and modality values. Output: frozen, JSON-able shadings (`Window`, `VoiLut`), and display
values (uint8). On failure: `PixelError`, where a VOI LUT that is asked for is broken or not there; a window that is
broken counts as none, because a picture is still better than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.frame_attributes import functional_group, items, number, numbers, text
from dicom_node.look_up_tables import LookUpTable, read_look_up_table
from dicom_node.modality import Mask, Values
from dicom_node.percentiles import counted_percentiles
from dicom_node.pixels import ImageAttributes

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

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Window:
        """Rebuild a window from `to_json`."""
        return cls(float(stored["center"]), float(stored["width"]), str(stored["function"]), str(stored["source"]))


@dataclass(frozen=True, slots=True)
class VoiLut:
    """One of the header's VOI LUTs (PS3.3 C.11.2.1.1)."""

    #: Which item of VOILUTSequence, counted from 1.
    number: int = 1

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, for the record of what was done."""
        return {"voi_lut": self.number}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> VoiLut:
        """Rebuild it from `to_json`."""
        return cls(int(stored["voi_lut"]))


#: How modality values become shades of grey.
Shading = Window | VoiLut


def shading_from_json(stored: Mapping[str, Any]) -> Shading:
    """Rebuild either kind of shading from its `to_json`."""
    return VoiLut.from_json(stored) if "voi_lut" in stored else Window.from_json(stored)


def header_windows(image: ImageAttributes, index: int = 0) -> tuple[Window, ...]:
    """Return the usable windows of a frame (counted from 0), in the file's order; those of no width are left out."""
    return tuple(window for window in _windows(image, index) if window is not None)


def header_window(image: ImageAttributes, window_number: int, index: int = 0) -> Window | None:
    """Return the window of a frame by its number in the file, counted from 1; None where there is none, or no width."""
    windows = _windows(image, index)
    return windows[window_number - 1] if 1 <= window_number <= len(windows) else None


def header_voi_luts(image: ImageAttributes, index: int = 0) -> tuple[VoiLut, ...]:
    """Return the VOI LUTs of a frame in the file's order; whether they can be read shows when they are applied."""
    return tuple(VoiLut(place) for place in range(1, len(_lut_items(image, index)) + 1))


def header_shading(image: ImageAttributes, index: int = 0) -> Shading | None:
    """Return what a viewer would show a frame with first: the file's first usable window, else its first VOI LUT.

    Window and VOI LUT are alternative views (PS3.3 C.11.2.1); None where the header has neither.
    """
    alternatives: tuple[Shading, ...] = (*header_windows(image, index), *header_voi_luts(image, index))
    return next(iter(alternatives), None)


def percentile_window(
    values: NDArray[Any], tail_percent: float, mask: Mask | None = None, rescale: tuple[float, float] = (1.0, 0.0)
) -> Window:
    """Return the window from one outer percentile of the values to the other.

    Args:
        values: Modality values, or stored ones whose `rescale` makes modality values of them; any shape.
        tail_percent: How much is left out at either end, in percent.
        mask: True is left out of account, unless all is.
        rescale: Slope and intercept.
    """
    counted = values.ravel() if mask is None or mask.all() or not mask.any() else values[~mask]
    # A quarter of a million evenly taken values settle a percentile; sorting all of a large frame takes long.
    counted = counted[:: max(1, counted.size // 2**18)]
    shares = (tail_percent, 100.0 - tail_percent)
    slope, intercept = rescale
    bounds = counted_percentiles(counted, shares, slope=slope, intercept=intercept)
    if bounds is None:
        rescaled = counted.astype(np.float32) * np.float32(slope) + np.float32(intercept)
        bounds = tuple(float(bound) for bound in np.percentile(rescaled, shares))
    low, high = bounds
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


def apply_voi_lut(image: ImageAttributes, values: Values, lut: VoiLut, index: int = 0) -> Grey:
    """Map modality values through one of the frame's VOI LUTs to 0..255.

    Raises:
        PixelError: There is no such LUT, or it is broken.
    """
    table = _read_lut(image, lut, index)
    return np.asarray(np.round(table.look_up(values) * (255.0 / (2**table.bits - 1))), dtype=np.uint8)


def _windows(image: ImageAttributes, index: int) -> list[Window | None]:
    source = _voi_source(image, index)
    centers, widths = numbers(source, "WindowCenter"), numbers(source, "WindowWidth")
    function = text(source, "VOILUTFunction").upper()
    if function not in _FUNCTIONS:
        function = "LINEAR"
    # LINEAR needs a width of at least 1, the others more than 0 (C.11.2.1.2 and C.11.2.1.3).
    least = 1.0 if function == "LINEAR" else np.nextafter(0.0, 1.0)
    return [
        Window(center, width, function) if width >= least else None
        for center, width in zip(centers, widths, strict=False)
    ]


def _read_lut(image: ImageAttributes, lut: VoiLut, index: int) -> LookUpTable:
    found = _lut_items(image, index)
    if not 1 <= lut.number <= len(found):
        raise image.error(f"it has no VOI LUT {lut.number}, only {len(found)}", "ask for one that is there")
    try:
        return read_look_up_table(
            found[lut.number - 1],
            "LUTData",
            little_endian=image.transfer_syntax.is_little_endian,
            signed=_values_are_signed(image),
        )
    except Exception as error:
        raise image.error(f"its VOI LUT cannot be applied ({error})", "check the original") from error


def _values_are_signed(image: ImageAttributes) -> bool:
    """Tell whether modality values can be negative, so that a VOI LUT's first input value is signed (C.11.2.1.1)."""
    if items(image.dataset, "ModalityLUTSequence"):
        return False  # its entries are unsigned
    return image.is_signed or number(image.dataset, "RescaleIntercept", 0.0) < 0


def _lut_items(image: ImageAttributes, index: int) -> list[Dataset]:
    return items(_voi_source(image, index), "VOILUTSequence")


def _voi_source(image: ImageAttributes, index: int) -> Dataset:
    group = functional_group(image.dataset, "FrameVOILUTSequence", index)
    return image.dataset if group is None else group
