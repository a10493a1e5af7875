"""A series of any of seven modalities -> the one to four 448 x 448 colour pictures that FLARE's adapter looks at.

Input: the instances of one series. Output: the pictures of `models.series_pictures` (the middle slice of a stack, else
up to four images in order; of a multi-frame image one frame, of a video up to four), resized as the card does it: to
448 x 448 at once, whatever the shape. A whole slide is shown at the resolution that fits and in three patches of
tissue, at the ten-fold magnification that the base model's own code takes; where one level is broken the others are
used, and it is said. The original size stays on record, because boxes are mapped back by it. On failure: `RenderError`,
where an image cannot be decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from pydicom.uid import VLWholeSlideMicroscopyImageStorage

from dicom_node.headers import InstanceFile
from dicom_node.pixels import PixelError
from dicom_node.slides import read_slide, tissue_patches, whole_level
from models.broken_instances import render_what_is_whole
from models.drawing import drawn_input
from models.recipe import Filter, Picture, Size
from models.rendering import ModelInput, RenderError
from models.series_pictures import series_pictures

#: Rows and columns of what the model sees (the card).
SIZE: Final = Size(448, 448, Filter.BICUBIC)
#: Most pictures shown; about 260 tokens each.
MOST_PICTURES: Final = 4
#: Of a patch of a slide: 1 micrometre is what a ten-fold lens shows a pixel (MedGemma's pathology notebook).
MM_PER_PIXEL: Final = 0.001
PATCH_SIDE: Final = 896


def render(instances: Sequence[InstanceFile]) -> ModelInput:
    """Return the model input of one series.

    Raises:
        RenderError: There is nothing to show that can be decoded.
    """
    if any(one.header.sop_class_uid == VLWholeSlideMicroscopyImageStorage for one in instances):
        return render_what_is_whole(_render_slide, instances)
    return render_what_is_whole(_render_series, instances)


def _render_series(instances: Sequence[InstanceFile]) -> ModelInput:
    shown = series_pictures(instances, at_most=MOST_PICTURES)
    return drawn_input(
        [replace(picture, size=SIZE) for picture in shown.pictures],
        shown.instances,
        record={**shown.record, "resize": "shape not kept (the author's way)"},
        incomplete=shown.incomplete,
    )


def _render_slide(instances: Sequence[InstanceFile]) -> ModelInput:
    """Show a slide as a whole, and some of its tissue nearer."""
    try:
        slide = read_slide(instances)
        whole = slide.level_that_fits()
        near = slide.level_near(MM_PER_PIXEL)
        patches = tissue_patches(slide, level=near, side=PATCH_SIDE, at_most=MOST_PICTURES - 1) if near < whole else ()
    except PixelError as error:
        raise RenderError(str(error)) from error
    regions = (whole_level(slide, whole), *patches)
    size = f"{slide.levels[0].width} x {slide.levels[0].height} pixels"
    chosen_by = f"level {whole + 1} of {len(slide.levels)} whole"
    if patches:
        chosen_by += f"; patches of tissue of level {near + 1}"
    seen = f"as a whole and in {len(patches)} patches of {PATCH_SIDE} pixels" if patches else "as a whole only"
    return drawn_input(
        [Picture(region=region, size=SIZE) for region in regions],
        instances,
        record={
            "chosen_by": chosen_by,
            "tissue_shares": [None if patch.tissue is None else round(patch.tissue, 2) for patch in patches],
            "left_out": list(slide.left_out),
            "resize": "shape not kept (the author's way)",
        },
        incomplete=(f"of a slide of {size} little was shown: {seen}",),
    )
