"""An abdominal CT series -> the 2.5D pictures that the trauma adapter looks at, as many as its tokens allow.

Input: the instances of one axial series. Output: pictures from the middle 60 % of the stack, evenly spaced, head end
first, window centre 50 HU and width 400 HU, red, green and blue being the slice before, the slice and the slice behind.
That is how the author prepared the training volumes. What is missing or doubtful in the series is said in `incomplete`.
On failure: `RenderError`, where the series is no axial stack or more than a few slices cannot be decoded.

The author's card gives no number of slices. Eight pictures and the question are about 2,180 tokens, which a graphics
card of any size answers in seconds; that is a slice each 12 to 30 mm for a usual abdomen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dicom_node.display import Window
from dicom_node.headers import InstanceFile
from dicom_node.regions import body_region
from dicom_node.volumes import Slice, SliceStack, slice_stack
from models.broken_instances import render_what_is_whole
from models.drawing import drawn_input
from models.recipe import FrameOf, Picture, Plane
from models.rendering import ModelInput, RenderError

#: What the pictures of one question may cost, and what one costs: 256 soft tokens and the marks around them.
TOKEN_BUDGET, TOKENS_PER_PICTURE = 2_080, 260
PICTURES = TOKEN_BUDGET // TOKENS_PER_PICTURE
#: Soft tissue, as the author's card demands.
WINDOW = Window(center=50.0, width=400.0, function="LINEAR_EXACT", source="adapter")
#: The middle 60 % of the stack lies between these shares of its length.
FROM_SHARE, TO_SHARE = 0.2, 0.8
_FEWEST_SLICES = 3
_FEW_SLICES = 10
#: A series thicker than this leaves organs between the slices.
_WIDEST_SPACING_MM = 10.0


def render(instances: Sequence[InstanceFile]) -> ModelInput:
    """Return the model input of one CT series.

    Raises:
        RenderError: Fewer than 3 slices, not axial, or more than a few slices cannot be decoded.
    """
    return render_what_is_whole(_render, instances)


def _render(instances: Sequence[InstanceFile]) -> ModelInput:
    stack = slice_stack(instances)
    if len(stack.slices) < _FEWEST_SLICES:
        raise RenderError(
            f"the series has {len(stack.slices)} usable slice(s) of {len(instances)} instance(s), "
            f"a volume needs at least {_FEWEST_SLICES}; send the whole series"
        )
    if stack.orientation not in ("axial", ""):
        raise RenderError(f"the slices are {stack.orientation}, the adapter reads axial ones; send the axial series")
    # The stack ascends to the head; the pictures are read as a radiologist scrolls, from the head down.
    slices = stack.slices[::-1] if stack.orientation == "axial" else stack.slices
    chosen = chosen_slices(len(slices))
    recipe = [
        Picture(planes=tuple(_plane(slices[near]) for near in _neighbours(index, len(slices)))) for index in chosen
    ]
    drawn = drawn_input(
        recipe,
        instances,
        record=_record(stack, slices, chosen),
        incomplete=_doubts(stack),
        key_images=_key_images(len(chosen)),
    )
    return replace(drawn, incomplete=(*drawn.incomplete, *_doubts_about_values(drawn.record["instances"])))


def chosen_slices(count: int) -> tuple[int, ...]:
    """Return which of `count` slices are shown, counted from 0: evenly over the middle 60 %, each at most once."""
    places = np.linspace(FROM_SHARE * (count - 1), TO_SHARE * (count - 1), PICTURES)
    return tuple(sorted({int(place) for place in np.round(places)}))


def _neighbours(index: int, count: int) -> tuple[int, int, int]:
    """Return the slice before, the slice and the slice behind; the ends of the stack are their own neighbours."""
    return max(index - 1, 0), index, min(index + 1, count - 1)


def _plane(shown: Slice) -> Plane:
    return Plane(FrameOf(shown.header.sop_instance_uid, shown.frame + 1), WINDOW)


def _doubts(stack: SliceStack) -> list[str]:
    doubts = list(stack.problems)
    if len(stack.slices) < _FEW_SLICES:
        doubts.append(f"only {len(stack.slices)} slices")
    if stack.spacing_mm is not None and stack.spacing_mm > _WIDEST_SPACING_MM:
        doubts.append(f"{stack.spacing_mm:.1f} mm between slices, more than {_WIDEST_SPACING_MM:.0f} mm")
    region = body_region(stack.slices[0].header)
    if beyond := region.names - {"abdomen", "pelvis"}:
        doubts.append(
            f"the series also covers {', '.join(sorted(beyond))} ({region.source} {region.value!r}): "
            "the middle 60 % of it is not only abdomen"
        )
    return doubts


def _doubts_about_values(instances: Sequence[Mapping[str, Any]]) -> list[str]:
    without = sum(len(alike["sop_instance_uids"]) for alike in instances if not alike["rescaled"])
    if not without:
        return []
    return [f"{without} of the slices used have no RescaleIntercept: their values are taken for Hounsfield units"]


def _key_images(count: int) -> tuple[int, ...]:
    """Show a person the middle three: the model gives no slice for what it found."""
    middle = count // 2
    return tuple(index for index in (middle - 1, middle, middle + 1) if 0 <= index < count)


def _record(stack: SliceStack, slices: Sequence[Slice], chosen: Sequence[int]) -> dict[str, Any]:
    return {
        "slices_in_stack": len(slices),
        "slices_shown": [index + 1 for index in chosen],
        "slice_order": "head end first" if stack.orientation == "axial" else "by InstanceNumber",
        "spacing_mm": stack.spacing_mm,
        "orientation": stack.orientation or "unknown",
        "tilt_degrees": stack.tilt_degrees,
        "taken": list(stack.taken),
        "left_out": list(stack.left_out),
        "colours": "2.5D: slice before, slice, slice behind",
        "convolution_kernel": slices[0].header.convolution_kernel,
        "resize": "none here; the base model's processor resizes",
    }
