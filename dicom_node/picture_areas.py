"""Which part of a frame is the image proper: ultrasound regions, display shutters, burned-in text.

Input: `ImageAttributes`. Output: frozen, JSON-able boxes, and masks, for a caller to crop to or to black out; nothing
is changed here unasked. What the header says badly counts as not said; nothing fails.

Sources: ultrasound regions PS3.3 C.8.5.5, shutters C.7.6.11 (of a frame C.7.6.16.2.16), BurnedInAnnotation C.7.6.1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from dicom_node.frame_attributes import functional_group, items, text, texts, whole_numbers
from dicom_node.modality import Mask
from dicom_node.pixels import ImageAttributes

#: RegionSpatialFormat (C.8.5.5.1.1): a two-dimensional picture of tissue or flow, as against M-mode, spectra, graphics.
_TWO_DIMENSIONAL: Final = 1


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of pixels: rows top .. bottom - 1, columns left .. right - 1, counted from 0."""

    top: int
    left: int
    bottom: int
    right: int

    def to_json(self) -> dict[str, int]:
        """Return a JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, int]) -> Box:
        """Rebuild a box from `to_json`."""
        return cls(stored["top"], stored["left"], stored["bottom"], stored["right"])


def ultrasound_box(image: ImageAttributes) -> Box | None:
    """Return the box of an ultrasound picture proper: all its two-dimensional regions, without them all its regions.

    Outside lie patient name, settings, scales and logos. None where the header names no region, or they fill the frame.
    """
    regions = [found for item in items(image.dataset, "SequenceOfUltrasoundRegions") if (found := _region(item))]
    boxes = [box for box, spatial_format in regions if spatial_format == _TWO_DIMENSIONAL]
    boxes = boxes or [box for box, _ in regions]
    if not boxes:
        return None
    whole = Box(
        max(0, min(box.top for box in boxes)),
        max(0, min(box.left for box in boxes)),
        min(image.rows, max(box.bottom for box in boxes)),
        min(image.columns, max(box.right for box in boxes)),
    )
    empty = whole.top >= whole.bottom or whole.left >= whole.right
    return None if empty or whole == Box(0, 0, image.rows, image.columns) else whole


def _region(item: Dataset) -> tuple[Box, int] | None:
    names = ("RegionLocationMinY0", "RegionLocationMinX0", "RegionLocationMaxY1", "RegionLocationMaxX1")
    corners = [whole_numbers(item, name)[:1] for name in names]
    if not all(corners):
        return None
    (top,), (left,), (bottom,), (right,) = corners
    # Both corners are pixels of the region (C.8.5.5.1.14), counted from 0.
    return Box(top, left, bottom + 1, right + 1), next(iter(whole_numbers(item, "RegionSpatialFormat")), 0)


def crop(picture: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Return the part of a picture, (rows, columns) or (rows, columns, 3), that lies in the box; it is no copy."""
    return picture[box.top : box.bottom, box.left : box.right]


def black_outside(picture: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """Return a copy of a picture that is black (0) outside of the box."""
    copy = np.zeros_like(picture)
    crop(copy, box)[...] = crop(picture, box)
    return copy


def burned_in_annotation(image: ImageAttributes) -> bool | None:
    """Tell whether text that names the patient is in the pixels: as the header says, None where it does not."""
    return {"YES": True, "NO": False}.get(text(image.dataset, "BurnedInAnnotation").upper())


def shutter_mask(image: ImageAttributes, index: int = 0) -> Mask | None:
    """Return what the display shutter of a frame hides, True is hidden; None where there is no usable shutter.

    What lies within all of its shapes is seen. Edges and vertices are pixels that are seen, counted from 1.
    """
    item = functional_group(image.dataset, "FrameDisplayShutterSequence", index)
    source = image.dataset if item is None else item
    seen = np.ones((image.rows, image.columns), dtype=np.bool_)
    drawn = 0
    for shape in texts(source, "ShutterShape"):
        within = {"RECTANGULAR": _rectangle, "CIRCULAR": _circle, "POLYGONAL": _polygon}.get(shape)
        area = None if within is None else within(source, image.rows, image.columns)
        if area is not None:
            seen &= area
            drawn += 1
    # A shutter that would hide everything is a mistake of its writer.
    return ~seen if drawn and seen.any() else None


def _rectangle(source: Dataset, rows: int, columns: int) -> Mask | None:
    names = ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical")
    edges = [whole_numbers(source, f"Shutter{name}Edge")[:1] for name in names]
    if not all(edges):
        return None
    (upper,), (lower,), (left,), (right,) = edges
    y, x = _places(rows, columns)
    return np.asarray((y >= upper) & (y <= lower) & (x >= left) & (x <= right), dtype=np.bool_)


def _circle(source: Dataset, rows: int, columns: int) -> Mask | None:
    center, reach = whole_numbers(source, "CenterOfCircularShutter"), whole_numbers(source, "RadiusOfCircularShutter")
    if len(center) != 2 or not reach:
        return None
    y, x = _places(rows, columns)
    return np.asarray((y - center[0]) ** 2 + (x - center[1]) ** 2 <= reach[0] ** 2, dtype=np.bool_)


def _polygon(source: Dataset, rows: int, columns: int) -> Mask | None:
    vertices = whole_numbers(source, "VerticesOfThePolygonalShutter")
    if len(vertices) < 6 or len(vertices) % 2:
        return None
    canvas = Image.new("1", (columns, rows))
    corners = [(x - 1, y - 1) for y, x in zip(vertices[::2], vertices[1::2], strict=True)]
    ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    return np.asarray(canvas, dtype=np.bool_)


def _places(rows: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row numbers as a column and the column numbers as a row, counted from 1."""
    y, x = np.ogrid[1 : rows + 1, 1 : columns + 1]
    return y.astype(np.int64), x.astype(np.int64)
