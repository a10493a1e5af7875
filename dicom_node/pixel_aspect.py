"""Pixels that are not square -> the size at which a picture of them has its true proportions.

Input: `ImageAttributes`. Output: `SquareSize`, to which a caller resizes a picture, or None where the pixels are
square. What the header says badly counts as not said; nothing fails.

The first of these that is there decides (PS3.3 C.7.6.3.1.7): PixelSpacing (also of the frame's functional group),
ImagerPixelSpacing, NominalScannedPixelSpacing, PixelAspectRatio.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from dicom_node.frame_attributes import functional_group, numbers
from dicom_node.pixels import ImageAttributes

#: Pixels longer than this many times their width are a mistake in the header.
_MOST: Final = 10.0
_IN_ORDER: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")


@dataclass(frozen=True, slots=True)
class SquareSize:
    """How many rows and columns a picture needs so that its pixels are square."""

    rows: int
    columns: int
    #: Keyword of the attribute that says so.
    source: str

    def to_json(self) -> dict[str, int | str]:
        """Return a JSON-ready dictionary, for the record of what was done."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, int | str]) -> SquareSize:
        """Rebuild it from `to_json`."""
        return cls(int(stored["rows"]), int(stored["columns"]), str(stored["source"]))


def square_size(image: ImageAttributes, index: int = 0) -> SquareSize | None:
    """Return the size at which a frame's pixels are square; the finer side keeps its pixels, the coarser gets more.

    All four attributes give the vertical part first (the distance of rows) and the horizontal one second.
    """
    measures = functional_group(image.dataset, "PixelMeasuresSequence", index)
    for source in (measures, image.dataset):
        for keyword in _IN_ORDER if source is not None else ():
            found = numbers(source, keyword) if source is not None else []
            if len(found) == 2 and min(found) > 0:
                return _stretched(image.rows, image.columns, found[0] / found[1], keyword)
    return None


def _stretched(rows: int, columns: int, ratio: float, keyword: str) -> SquareSize | None:
    if not 1 / _MOST <= ratio <= _MOST:
        return None
    if ratio > 1:
        size = SquareSize(round(rows * ratio), columns, keyword)
    else:
        size = SquareSize(rows, round(columns / ratio), keyword)
    return None if (size.rows, size.columns) == (rows, columns) else size
