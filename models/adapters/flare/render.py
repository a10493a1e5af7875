"""A series of any of seven modalities -> the one to four 448 x 448 colour pictures that FLARE's adapter looks at.

Input: the instances of one series. Output: the pictures of `models.series_pictures` (the middle slice of a stack, else
up to four images in order, of a multi-frame image its middle frame), resized as the card does it: to 448 x 448 at once,
whatever the shape. The original size stays on record, because boxes are mapped back by it. On failure: `RenderError`,
where an image cannot be decoded, or a slide is cut into tiles: whole-slide pyramids are out of scope here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from dicom_node.headers import InstanceFile
from models.drawing import drawn_input
from models.recipe import Filter, Size
from models.rendering import ModelInput, RenderError
from models.series_pictures import series_pictures

#: Rows and columns of what the model sees (the card).
SIZE: Final = Size(448, 448, Filter.BICUBIC)
#: Most pictures shown; about 260 tokens each.
MOST_PICTURES: Final = 4


def render(instances: Sequence[InstanceFile]) -> ModelInput:
    """Return the model input of one series.

    Raises:
        RenderError: There is nothing to show, it cannot be decoded, or it is a tiled slide.
    """
    shown_of, missed = _level_of_a_slide(instances)
    shown = series_pictures(shown_of, at_most=MOST_PICTURES)
    return drawn_input(
        [replace(picture, size=SIZE) for picture in shown.pictures],
        shown.instances,
        record={**shown.record, "resize": "shape not kept (the author's way)"},
        incomplete=(*missed, *shown.incomplete),
    )


def _level_of_a_slide(instances: Sequence[InstanceFile]) -> tuple[Sequence[InstanceFile], tuple[str, ...]]:
    """Of a slide's pyramid, keep the level that is one frame (the largest of several); leave all else as it is."""
    levels = [one for one in instances if one.header.sop_class_uid == VLWholeSlideMicroscopyImageStorage]
    if not levels:
        return instances, ()
    whole = [level for level in levels if (level.header.number_of_frames or 1) == 1]
    if not whole:
        fewest = min(level.header.number_of_frames or 1 for level in levels)
        raise RenderError(
            f"the slide is cut into tiles, {fewest} at its lowest resolution, and whole-slide pyramids are not read "
            "here; send the region of interest as a still image (VL Microscopic, or a level of a single frame)"
        )
    level = max(
        whole, key=lambda one: ((one.header.rows or 0) * (one.header.columns or 0), one.header.sop_instance_uid)
    )
    size = f"{level.header.columns} x {level.header.rows} pixels"
    return [level], (f"the slide was shown at one of its resolutions only, {size}",)
