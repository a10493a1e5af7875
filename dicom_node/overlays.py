"""Overlay planes of groups 6000 to 601E (PS3.3 C.9.2): text and graphics that lie over the pixels, as masks.

Input: `ImageAttributes`. Output: what overlays there are, and which pixels of a frame they draw on. Whether to burn
them in, or to keep them from a model, is the caller's decision; pictures of this package never show them unasked. On
failure: `PixelError`, where an overlay's data are shorter than its size claims.

Two ways to store them: bit by bit in OverlayData, or (retired, still sent) in bits of the pixel values above those that
the image uses; decoding clears those bits, so that they never show as values.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from dicom_node.frame_attributes import text, value, whole_numbers
from dicom_node.modality import Mask
from dicom_node.pixels import ImageAttributes
from dicom_node.voi import Grey

#: The groups are even: sixteen planes.
_GROUPS: Final = range(0x6000, 0x6020, 2)


@dataclass(frozen=True, slots=True)
class Overlay:
    """One overlay plane."""

    #: 0x6000, 0x6002 ...
    group: int
    rows: int
    columns: int
    #: Row and column of the image, counted from 1, where the overlay's first pixel lies; can be outside.
    origin: tuple[int, int]
    #: "G" graphics, "R" region of interest.
    kind: str
    #: What the writer calls it, e.g. "Measurements"; may be empty.
    label: str
    #: First image frame it belongs to, counted from 1, and how many planes there are, one for each frame from there on.
    first_frame: int
    frames: int
    #: The bit of the pixel values that holds it; None where it has data of its own.
    bit: int | None


def overlays(image: ImageAttributes) -> tuple[Overlay, ...]:
    """Return the overlay planes of an image, by group; one without a size or without data is none."""
    return tuple(found for group in _GROUPS if (found := _overlay(image, group)) is not None)


def overlay_mask(image: ImageAttributes, overlay: Overlay, index: int = 0) -> Mask | None:
    """Return where an overlay draws on a frame (counted from 0): (rows, columns) of the image; None if not on this one.

    An overlay without frames of its own lies over every frame.

    Raises:
        PixelError: The overlay's data are too short.
    """
    number = index + 1 - overlay.first_frame
    if overlay.frames == 1 and overlay.first_frame == 1:
        number = 0
    if overlay.bit is not None:
        return _embedded(image, overlay.bit, index)
    if not 0 <= number < overlay.frames:
        return None
    return _placed(image, overlay, _plane(image, overlay, number))


def burn(picture: Grey, mask: Mask, shade: int = 255) -> Grey:
    """Return a copy of a picture, (rows, columns) or (rows, columns, 3), with one shade wherever the mask is True."""
    copy = picture.copy()
    copy[mask] = shade
    return copy


def _overlay(image: ImageAttributes, group: int) -> Overlay | None:
    dataset = image.dataset
    rows, columns = (_integer(dataset, group, element, 0) for element in (0x0010, 0x0011))
    has_data = isinstance(value(dataset, (group, 0x3000)), bytes)
    bit = _integer(dataset, group, 0x0102, 0)
    if not has_data:
        # Position 0 without data is an empty overlay; it is met in files whose overlay was taken out.
        if bit < image.bits_stored or bit >= image.bits_allocated or image.photometric == "PALETTE COLOR":
            return None
        rows, columns = image.rows, image.columns
    if rows < 1 or columns < 1:
        return None
    origin = whole_numbers(dataset, (group, 0x0050))
    return Overlay(
        group=group,
        rows=rows,
        columns=columns,
        origin=(origin[0], origin[1]) if len(origin) == 2 and has_data else (1, 1),
        kind=text(dataset, (group, 0x0040)),
        label=text(dataset, (group, 0x1500)) or text(dataset, (group, 0x0022)),
        first_frame=max(1, _integer(dataset, group, 0x0051, 1)),
        frames=max(1, _integer(dataset, group, 0x0015, 1)),
        bit=None if has_data else bit,
    )


def _plane(image: ImageAttributes, overlay: Overlay, number: int) -> NDArray[np.bool_]:
    """Return one plane of OverlayData: one bit a pixel, the lowest first, planes without gaps (C.9.2, PS3.5 8.1.2)."""
    data = bytes(value(image.dataset, (overlay.group, 0x3000)))
    if image.dataset[overlay.group, 0x3000].VR == "OW" and not image.transfer_syntax.is_little_endian:
        data = np.frombuffer(data[: len(data) // 2 * 2], dtype=">u2").astype("<u2").tobytes()
    size = overlay.rows * overlay.columns
    first, last = number * size, (number + 1) * size
    if len(data) * 8 < last:
        raise image.error(
            f"overlay {overlay.group:04X} has {len(data)} bytes where {overlay.frames} plane(s) of {overlay.rows} x "
            f"{overlay.columns} need {(overlay.frames * size + 7) // 8}",
            "check the original",
        )
    held = np.frombuffer(data[first // 8 : (last + 7) // 8], dtype=np.uint8)
    bits = np.unpackbits(held, bitorder="little")[first % 8 :][:size]
    return bits.reshape(overlay.rows, overlay.columns).astype(np.bool_)


def _placed(image: ImageAttributes, overlay: Overlay, plane: NDArray[np.bool_]) -> Mask:
    """Lay a plane over the image; what lies outside of it is cut off."""
    mask = np.zeros((image.rows, image.columns), dtype=np.bool_)
    top, left = overlay.origin[0] - 1, overlay.origin[1] - 1
    seen = plane[max(0, -top) : max(0, image.rows - top), max(0, -left) : max(0, image.columns - left)]
    mask[max(0, top) :, max(0, left) :][: seen.shape[0], : seen.shape[1]] = seen
    return mask


def _embedded(image: ImageAttributes, bit: int, index: int) -> Mask | None:
    """Return an overlay from a bit of the pixel values; a codec for pictures keeps no such bits, so None there."""
    if image.transfer_syntax.is_encapsulated and image.transfer_syntax != RLELossless:
        return None
    source = dcmread(image.path) if image.transfer_syntax == DeflatedExplicitVRLittleEndian else image.path
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The (number of bytes|pixel data)", category=UserWarning)
        try:
            frame = next(iter_pixels(source, indices=[index], raw=True, correct_unused_bits=False))
        except Exception as error:
            raise image.error(
                f"the overlay in bit {bit} of its pixels cannot be read ({error})", "send it again"
            ) from error
    return np.asarray((frame >> bit) & 1, dtype=np.bool_)


def _integer(dataset: Dataset, group: int, element: int, default: int) -> int:
    return next(iter(whole_numbers(dataset, (group, element))), default)
