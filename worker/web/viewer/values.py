"""One frame of a stored instance -> values that a browser can window, and all it must know to show them.

Input: the path of an instance and the index of a frame. Output: `FrameValues`: grey values of at most 16 bits with the
slope and intercept that make modality values of them, or colours of 8 bits. The values are those that the project
decodes for its models (`dicom_node.pixels`, `dicom_node.video`), less their mask where the header of a run asks for it
(`dicom_node.subtraction`); hidden pixels (padding, display shutter) get the darkest value that there is. On failure:
`PixelError` naming the instance, the reason and the remedy.

These functions run in the sandbox, except on uncompressed frames, which need no codec.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.display import (
    Window,
    colours,
    header_shading,
    header_windows,
    is_colour,
    modality_values,
    padding_mask,
    percentile_window,
    shade,
    shown_inverted,
)
from dicom_node.frame_attributes import functional_group, numbers, text, texts
from dicom_node.look_up_tables import LookUpTable
from dicom_node.mask_module import plan_subtraction
from dicom_node.modality import Mask, Values, modality_transform
from dicom_node.picture_areas import shutter_mask
from dicom_node.pixel_aspect import square_size
from dicom_node.pixels import Frame, FrameReader, ImageAttributes, read_attributes, read_image
from dicom_node.subtraction import Subtractor
from dicom_node.video import Video, is_video, read_video
from worker.web.viewer.playback import Playback
from worker.web.viewer.sides import edges_of, view_of

#: Percent of the values at either end that the window of a frame's own values leaves out.
_TAIL_PERCENT: Final = 0.5
#: Opened instances that are remembered: an enhanced image's header takes longer to read than a frame of it.
_REMEMBERED: Final = 8
_LARGEST: Final = 65535
_playback: Final = Playback()


class Look(StrEnum):
    """Which values of a frame are wanted."""

    #: As the file wants them seen: less their mask where it asks for subtraction.
    USUAL = "usual"
    #: As they are stored, whatever is to be subtracted.
    STORED = "stored"
    #: As the file's own curve shows them (8 bits, VOI LUT and polarity applied), where no window can say it.
    FILE = "file"


@dataclass(frozen=True, slots=True)
class FrameValues:
    """A frame as it goes to the browser."""

    #: uint8, int8, uint16 or int16 (rows, columns); or uint8 (rows, columns, 3), RGB.
    pixels: NDArray[Any]
    #: JSON-ready; see `docs/decisions/0016-the-viewer.md` for the names.
    about: dict[str, Any]

    @property
    def size_bytes(self) -> int:
        """Bytes of the pixels."""
        return int(self.pixels.nbytes)

    def body(self) -> bytes:
        """Return the pixels row by row, little endian."""
        return self.pixels.astype(self.pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def read_values(path: Path, indices: Sequence[int], look: Look = Look.USUAL) -> list[FrameValues]:
    """Return the values of frames.

    Args:
        path: The instance.
        indices: Which frames, counted from 0; of a video neighbours in ascending order, and as many as there are.
        look: Which values; of grey images only.

    Raises:
        PixelError: It is no image, has no such frame, or cannot be decoded.
    """
    source = _opened(path, path.stat().st_mtime_ns)
    if isinstance(source, Video):
        return [_coloured(source.image, frame, index) for index, frame in _video_frames(source, indices)]
    frames = zip(indices, FrameReader(source).frames(indices), strict=True)
    return [_values(source, frame, index, look) for index, frame in frames]


@lru_cache(maxsize=_REMEMBERED)
def _opened(path: Path, _written_at: int) -> ImageAttributes | Video:
    return read_video(path) if is_video(read_attributes(path).transfer_syntax) else read_image(path)


def _video_frames(video: Video, indices: Sequence[int]) -> Iterator[tuple[int, Frame]]:
    # Recorders count by the clock: a run that is asked for may go a few frames beyond the last one.
    first, count = indices[0], len(indices)
    yield from zip(indices, _playback.run(video, first, count), strict=False)


def _values(image: ImageAttributes, frame: Frame, index: int, look: Look) -> FrameValues:
    if is_colour(image):
        return _coloured(image, colours(image, frame), index)
    shutter = shutter_mask(image, index)
    if look is Look.FILE:
        shading = header_shading(image, index)
        return _finished(image, index, shade(image, frame, shading, index, padding=shutter), {"kind": "shown"})
    hidden = padding_mask(image, frame)
    hidden = hidden if shutter is None else hidden | shutter
    plan, why_not = plan_subtraction(image, index) if look is Look.USUAL else (None, "")
    if plan is None:
        about, (stored, slope, intercept) = _as_stored(image, frame, index, hidden), _stored(image, frame, index)
    else:
        stored, slope, intercept = Subtractor(image).subtract(plan, frame), 1.0, 0.0
        about = _subtracted(stored, hidden)
    pixels, slope, intercept = _in_16_bits(stored, slope, intercept, hidden)
    seen = pixels if hidden.all() else pixels[~hidden]
    inverted = shown_inverted(image)
    about |= {
        "kind": str(pixels.dtype),
        "slope": slope,
        "intercept": intercept,
        "low": int(seen.min()),
        "high": int(seen.max()),
        "inverted": inverted,
        "subtracted": "" if plan is None else plan.in_words,
        "not_subtracted": why_not,
    }
    if hidden.any():
        kind = np.iinfo(pixels.dtype)
        pixels = np.where(hidden, pixels.dtype.type(kind.max if inverted != (slope < 0) else kind.min), pixels)
    return _finished(image, index, pixels, about | {"min": int(pixels.min()), "max": int(pixels.max())})


def _as_stored(image: ImageAttributes, frame: Frame, index: int, hidden: Mask) -> dict[str, Any]:
    return {
        "unit": _unit(image),
        "windows": _windows(image, index),
        "auto": _bounds(percentile_window(modality_values(image, frame, index), _TAIL_PERCENT, hidden), ""),
        "by_file": _needs_curve(image, index),
    }


def _subtracted(values: Values, hidden: Mask) -> dict[str, Any]:
    # The header's windows are for values that nothing was taken from.
    auto = _bounds(percentile_window(values, _TAIL_PERCENT, hidden), "")
    return {"unit": "", "windows": [], "auto": auto, "by_file": False}


def _coloured(image: ImageAttributes, picture: Frame, index: int) -> FrameValues:
    return _finished(image, index, picture, {"kind": "rgb"})


def _finished(image: ImageAttributes, index: int, pixels: NDArray[Any], about: dict[str, Any]) -> FrameValues:
    rows, columns = pixels.shape[:2]
    square = square_size(image, index)
    stretch = [1.0, 1.0] if square is None else [square.rows / image.rows, square.columns / image.columns]
    measures = functional_group(image.dataset, "PixelMeasuresSequence", index)
    spacing = numbers(image.dataset if measures is None else measures, "PixelSpacing")
    return FrameValues(
        np.ascontiguousarray(pixels),
        {
            **about,
            "rows": rows,
            "columns": columns,
            "stretch": stretch,
            "spacing_mm": spacing if len(spacing) == 2 and min(spacing) > 0 else None,
            "edges": edges_of(image.dataset, index),
            "view": view_of(image.dataset),
        },
    )


def _stored(image: ImageAttributes, frame: Frame, index: int) -> tuple[NDArray[Any], float, float]:
    change = modality_transform(image, index)
    if isinstance(change, LookUpTable):
        return change.look_up(frame), 1.0, 0.0
    return frame, *change


def _in_16_bits(
    values: NDArray[Any], slope: float, intercept: float, hidden: Mask
) -> tuple[NDArray[Any], float, float]:
    """Bring values to 16 bits: whole numbers as they are where they fit, else in 65,536 equal steps."""
    if values.dtype.kind in "iu" and values.itemsize <= 2:
        return values, slope, intercept
    seen = values if hidden.all() else values[~hidden]
    seen = seen[np.isfinite(seen)]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    exact = values.dtype.kind in "iu" and high - low <= _LARGEST
    step = 1.0 if exact else (high - low) / _LARGEST or 1.0
    steps = np.rint((np.nan_to_num(values.astype(np.float64), posinf=high, neginf=low) - low) / step)
    return np.clip(steps, 0, _LARGEST).astype(np.uint16), slope * step, intercept + slope * low


def _windows(image: ImageAttributes, index: int) -> list[dict[str, Any]]:
    """Return the file's windows with the bounds between which grey rises, in its order; curves are left out."""
    group = functional_group(image.dataset, "FrameVOILUTSequence", index)
    names = texts(image.dataset if group is None else group, "WindowCenterWidthExplanation")
    windows = header_windows(image, index)
    named = names if len(names) == len(windows) else [""] * len(windows)
    return [_bounds(window, name) for window, name in zip(windows, named, strict=True) if window.function != "SIGMOID"]


def _bounds(window: Window, name: str) -> dict[str, Any]:
    """Return a window as its lowest and highest modality value (PS3.3 C.11.2.1.2.1, C.11.2.1.3.2)."""
    if window.function == "LINEAR":
        middle, half = window.center - 0.5, (window.width - 1) / 2
    else:
        middle, half = window.center, window.width / 2
    return {
        "name": name,
        "center": window.center,
        "width": window.width,
        "low": middle - half,
        "high": middle + half,
    }


def _needs_curve(image: ImageAttributes, index: int) -> bool:
    """Tell whether the file asks first for a curve (VOI LUT, sigmoid), which no lower and upper bound describe."""
    shading = header_shading(image, index)
    return shading is not None and not (isinstance(shading, Window) and shading.function != "SIGMOID")


def _unit(image: ImageAttributes) -> str:
    kind = text(image.dataset, "RescaleType")
    if not kind and text(image.dataset, "Modality") == "CT":
        return "HU"
    return "" if kind == "US" else kind  # US: unspecified (PS3.3 C.11.1.1.2)
