"""Decoded colours and palettes -> RGB of 8 bits (PS3.3 C.7.6.3.1.2, C.7.6.3.1.5, C.7.9.2).

Input: `ImageAttributes` and a frame as `read_frames` gives it: three samples that are RGB already (decoding converts
YBR_FULL, YBR_FULL_422, YBR_RCT and YBR_ICT), or one that is a place in a palette. Output: RGB, uint8, (rows, columns,
3). On failure: `PixelError`, where the image is in grey, in a retired colour space, or its palette is broken.

A supplemental palette (C.7.6.19) colours some values of a grey image; that image is MONOCHROME2, and its grey is shown.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.look_up_tables import LookUpTable, read_look_up_table
from dicom_node.pixels import Frame, ImageAttributes
from dicom_node.voi import Grey

#: A display picture in colour: uint8, (rows, columns, 3).
Rgb = NDArray[np.uint8]

#: Retired before there was anything in the field that writes them, or that no decoder here turns into RGB.
_RETIRED: Final = frozenset({"HSV", "ARGB", "CMYK", "YBR_PARTIAL_422"})


def grey_to_rgb(grey: Grey) -> Rgb:
    """Repeat a grey picture for R, G and B: (rows, columns, 3)."""
    return np.stack((grey, grey, grey), axis=2)


def is_colour(image: ImageAttributes) -> bool:
    """Tell whether an image is to be shown in colour: by `colours`, not by `shade`."""
    return image.samples > 1 or image.photometric == "PALETTE COLOR"


def colours(image: ImageAttributes, frame: Frame) -> Rgb:
    """Return a frame of a colour image as a viewer would show it.

    Args:
        image: From `read_image`.
        frame: (rows, columns, 3) in any unsigned type, or (rows, columns) where the image has a palette.

    Raises:
        PixelError: See the module.
    """
    if image.photometric == "PALETTE COLOR":
        return _through_palette(image, frame)
    if image.photometric in _RETIRED:
        raise image.error(f"its colours are {image.photometric}, which is retired", "have the source send RGB")
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise image.error(f"its colours have the shape {frame.shape}, not three planes", "send it as RGB or grey scale")
    return _eight_bits(frame, image.bits_stored)


def _eight_bits(frame: NDArray[Any], bits: int) -> Rgb:
    """Keep the upper 8 of the significant bits; fewer are spread over the range."""
    if bits == 8 and frame.dtype == np.uint8:
        return np.ascontiguousarray(frame)
    if bits >= 8:
        return np.asarray(np.clip(frame.astype(np.int64) >> (bits - 8), 0, 255), dtype=np.uint8)
    return np.asarray(np.clip(np.rint(frame * (255.0 / (2**bits - 1))), 0, 255), dtype=np.uint8)


def _through_palette(image: ImageAttributes, frame: Frame) -> Rgb:
    if frame.ndim != 2:
        raise image.error("it has a palette and several samples per pixel", "check the original")
    try:
        tables = [_palette(image, name) for name in ("Red", "Green", "Blue")]
    except Exception as error:
        raise image.error(f"its palette cannot be applied ({error})", "check the original") from error
    bits = max(table.bits for table in tables)
    if bits > 8 and all(int(table.entries.max()) < 2**8 for table in tables):
        bits = 8  # 8-bit colours under a descriptor that says 16: shifted they would be black
    planes = [_eight_bits(table.entries, bits)[_places(table, frame)] for table in tables]
    return np.stack(planes, axis=2)


def _palette(image: ImageAttributes, name: str) -> LookUpTable:
    keyword = f"{name}PaletteColorLookupTableData"
    if keyword not in image.dataset:
        keyword = f"Segmented{keyword}"
    return read_look_up_table(
        image.dataset,
        keyword,
        little_endian=image.transfer_syntax.is_little_endian,
        signed=image.is_signed,
        descriptor=f"{name}PaletteColorLookupTableDescriptor",
    )


def _places(table: LookUpTable, frame: Frame) -> NDArray[np.intp]:
    return np.clip(frame.astype(np.int64) - table.first, 0, len(table.entries) - 1).astype(np.intp)
