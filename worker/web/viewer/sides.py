"""Which side is which in a picture that has no place in space: a radiograph, a mammogram, a fundus photograph.

Input: the attributes of an image and the index of a frame. Output: the letters at its edges, and the side of the body
and the view in words. Nothing fails here: what is absent, or is no direction of a person, is not said.
"""

from __future__ import annotations

import re
from typing import Final

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.frame_attributes import frame_value, text

#: Direction -> the opposite one (PS3.3 C.7.6.1.1.1, of people).
_OPPOSITE: Final = {"A": "P", "P": "A", "R": "L", "L": "R", "H": "F", "F": "H"}
_DIRECTION: Final = re.compile(r"[APRLHF]{1,3}")
_SIDES: Final = {"R": "right", "L": "left", "B": "both sides"}


def edges_of(dataset: Dataset, index: int) -> list[str] | None:
    """Return the letters at the left, top, right and bottom edge of a frame; None where the file does not say.

    Args:
        dataset: The image. PatientOrientation (0020,0020) names where its rows and its columns go.
        index: Which frame, counted from 0.
    """
    said = frame_value(dataset, "PatientOrientationInFrameSequence", "PatientOrientation", index)
    towards = [str(one).strip() for one in said] if isinstance(said, MultiValue | list) else []
    if len(towards) != 2 or not all(_DIRECTION.fullmatch(one) for one in towards):
        return None
    right, bottom = towards
    return [_opposite(right), _opposite(bottom), right, bottom]


def view_of(dataset: Dataset) -> str:
    """Return the side of the body and the projection, e.g. "right MLO"; empty where the file says neither."""
    side = _SIDES.get(text(dataset, "ImageLaterality") or text(dataset, "Laterality"), "")
    return " ".join(filter(None, (side, text(dataset, "ViewPosition")[:16])))


def _opposite(direction: str) -> str:
    return "".join(_OPPOSITE[letter] for letter in direction)
