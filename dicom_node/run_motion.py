"""What moves while an angiographic run is made: the C-arm or the table (PS3.3 C.8.7.4, C.8.7.5, C.8.19.6).

Input: `ImageAttributes` of a run. Output: what moved, in words. What the header says badly counts as not said; nothing
fails.
"""

from __future__ import annotations

from typing import Final

from dicom_node.frame_attributes import functional_group, numbers, value
from dicom_node.pixels import ImageAttributes

#: What may move: in words, whether it does, its path in classic images, and its place in a frame of enhanced ones.
_MOTIONS: Final = (
    (
        "the C-arm",
        "PositionerMotion",
        ("PositionerPrimaryAngleIncrement", "PositionerSecondaryAngleIncrement"),
        "PositionerPositionSequence",
        ("PositionerPrimaryAngle", "PositionerSecondaryAngle"),
    ),
    (
        "the table",
        "TableMotion",
        ("TableVerticalIncrement", "TableLateralIncrement", "TableLongitudinalIncrement"),
        "TablePositionSequence",
        ("TableTopVerticalPosition", "TableTopLateralPosition", "TableTopLongitudinalPosition"),
    ),
)
#: Degrees or millimetres: a run that moves by less stands still.
_STILL: Final = 2.0


def moved_by(image: ImageAttributes) -> str:
    """Return what moved during a run, in words: the ground behind the vessels then changes; "" if nothing did."""
    if image.frames == 1:
        return ""
    for words, motion, increments, group, positions in _MOTIONS:
        # Increments are from the first frame on; an enhanced image has the place of each frame instead.
        paths = [numbers(image.dataset, keyword) for keyword in increments]
        paths += [_places(image, group, keyword) for keyword in positions]
        spans = [max(path) - min(path) for path in paths if path]
        # Some consoles write DYNAMIC where nothing moves: the path is believed before the word.
        if max(spans) > _STILL if spans else value(image.dataset, motion) == "DYNAMIC":
            return words
    return ""


def _places(image: ImageAttributes, group: str, keyword: str) -> list[float]:
    """Return an enhanced image's places at its beginning, in the middle and at its end."""
    frames = (0, image.frames // 2, image.frames - 1)
    found = [functional_group(image.dataset, group, index) for index in frames]
    return [number for item in found if item is not None for number in numbers(item, keyword)]
