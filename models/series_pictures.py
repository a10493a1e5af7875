"""Any series -> which few pictures a general adapter looks at, as a viewer would first show them.

Input: the stored instances of one series. Output: `SeriesPictures`: pictures at their own size for `models.drawing`,
how they were chosen, and in words what is not shown. On failure: `RenderError`, where nothing is there to show or a
header that is needed cannot be read.

Which pictures:
- A stack of slices (MR, CT, PET) gives its middle slice, by geometry (`dicom_node.volumes`).
- Other instances give a picture each, in order of InstanceNumber; of more than `at_most`, evenly spread ones.
- Of PET and scintigraphy see `models.nuclear_pictures`: a stack gives its middle slice, other frames (views, times,
  angles) the middle ones of equal parts.
- Of an instance with several frames see `models.frame_choice`: videos and endoscopies share the places between them,
  any other gives one frame.
Whatever is left out is said in `incomplete`, so that the answer is held: a finding may lie where nobody looked.

How they are shown (PS3.3 C.11.2): an MR slice by the whole acquisition's range, because MR values have no unit;
activity from nothing to the most of the acquisition; a CT slice by the windows that the adapter asks for; anything else
by the file's first VOI window, else its VOI LUT, else the 0.5th to the 99.5th percentile. Of ultrasound, all but the
image regions is black: names and scales are no finding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from dicom_node.display import Window, header_shading, is_colour, modality_values, padding_mask
from dicom_node.headers import InstanceFile
from dicom_node.picture_areas import ultrasound_box
from dicom_node.pixel_aspect import square_size
from dicom_node.pixels import ImageAttributes, PixelError, read_attributes, read_frames, read_image
from dicom_node.projection import is_for_processing, view_of
from dicom_node.video import is_video
from dicom_node.volumes import Slice, SliceStack, slice_stack
from models.frame_choice import choose_frames
from models.nuclear_pictures import activity_window, is_planar, nuclear_facts, spread_frames
from models.recipe import Filter, FrameOf, Percentiles, Picture, Plane, Size
from models.rendering import RenderError

#: Google's own three windows of a CT slice as red, green and blue, in HU (MedGemma's CT notebook): all of it, soft
#: tissue, brain.
BASE_MODEL_CT_WINDOWS: Final = tuple(
    Window((low + high) / 2, high - low, "LINEAR_EXACT", "base model")
    for low, high in ((-1024.0, 1024.0), (-135.0, 215.0), (0.0, 80.0))
)

#: Modalities whose instances are slices of one volume.
_STACKED: Final = frozenset({"MR", "CT", "PT", "NM"})
#: Slices of an acquisition that are looked at for its range; of more, evenly spread ones.
_MOST_SLICES: Final = 256


@dataclass(frozen=True, slots=True)
class SeriesPictures:
    """What to show of a series, with all that `models.drawing.drawn_input` needs."""

    #: At least one, each at its own size.
    pictures: tuple[Picture, ...]
    #: The instances they are of.
    instances: tuple[InstanceFile, ...]
    #: JSON-ready: how they were chosen, and what was left out.
    record: dict[str, Any]
    #: What is not shown, or is doubtful; one sentence each, without a full stop.
    incomplete: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    """The frames to show, in order, and what is said about the choice."""

    shown: tuple[Slice, ...]
    chosen_by: str
    incomplete: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    #: Slices of the acquisition that is behind what is shown, where it is shown on one scale.
    acquisition: tuple[Slice, ...] = ()
    #: Of each frame shown, seconds after the first one of its run; empty where no run was shown.
    times_s: tuple[float | None, ...] = ()


def series_pictures(
    instances: Sequence[InstanceFile], *, at_most: int = 4, ct_windows: tuple[Window, ...] = ()
) -> SeriesPictures:
    """Return what to show of one series; see the module for which pictures and how they are made.

    Args:
        instances: The stored instances of one series, in any order.
        at_most: How many pictures at most, where the series is no stack of slices; at least 1.
        ct_windows: One window, or three for red, green and blue, for CT values in Hounsfield units; the file's own
            where there are none.

    Raises:
        RenderError: There is no instance, or one that is needed cannot be read.
    """
    if not instances:
        raise RenderError("the series has no instance to show; send it again")
    try:
        choice = _choose(instances, at_most)
        scale = _scale(choice.acquisition)
        pictures = tuple(_picture(one, scale, ct_windows) for one in choice.shown)
        facts, doubts = _facts(choice.shown)
    except PixelError as error:
        raise RenderError(str(error)) from error
    record: dict[str, Any] = {
        "instances_given": len(instances),
        "chosen_by": choice.chosen_by,
        "left_out": list(choice.left_out),
        **facts,
    }
    if any(time is not None for time in choice.times_s):
        record["times_s"] = [None if time is None else round(time, 3) for time in choice.times_s]
    return SeriesPictures(
        pictures=pictures,
        instances=tuple(dict.fromkeys(one.instance for one in choice.shown)),
        record=record,
        incomplete=(*choice.incomplete, *doubts),
    )


def _choose(instances: Sequence[InstanceFile], at_most: int) -> _Choice:
    if all(is_planar(instance.header) for instance in instances):
        spread = spread_frames(sorted(instances, key=_place), at_most)
        return _Choice(spread.shown, spread.chosen_by, spread.incomplete, acquisition=spread.acquisition)
    if all(instance.header.modality in _STACKED for instance in instances):
        stack = slice_stack(instances)
        if len(stack.slices) > 1:
            return _middle_slice(stack)
    ordered = sorted(instances, key=_place)
    chosen_by, said = "all images of the series", []
    if len(ordered) > at_most:
        chosen_by = "evenly spread by InstanceNumber"
        said = [f"only {at_most} of {len(ordered)} images of the series {'was' if at_most == 1 else 'were'} shown"]
        ordered = [ordered[number * len(ordered) // at_most] for number in range(at_most)]
    shown, times = list[Slice](), list[float | None]()
    for instance in ordered:
        found = choose_frames(instance, at_most // len(ordered))
        shown += [Slice(instance, index) for index in found.chosen]
        times += found.times_s or (None,) * len(found.chosen)
        if found.frames > 1:
            chosen_by = f"{chosen_by}; {found.chosen_by}"
            said += [found.left_out, *found.doubts]
    return _Choice(
        tuple(shown),
        "; ".join(dict.fromkeys(chosen_by.split("; "))),
        tuple(dict.fromkeys(sentence for sentence in said if sentence)),
        times_s=tuple(times),
    )


def _middle_slice(stack: SliceStack) -> _Choice:
    count = len(stack.slices)
    middle = count // 2
    by = "position" if stack.positions_mm else "InstanceNumber"
    return _Choice(
        shown=(stack.slices[middle],),
        chosen_by=f"middle slice by {by}",
        incomplete=(f"only slice {middle + 1} of {count}, the middle one, was shown", *stack.problems),
        left_out=(*stack.taken, *stack.left_out),
        acquisition=() if stack.slices[middle].header.modality == "CT" else stack.slices,
    )


def _scale(acquisition: Sequence[Slice]) -> Window | None:
    """Return the one window of a whole acquisition."""
    if acquisition and acquisition[0].header.modality != "MR":
        return activity_window(acquisition)
    return _acquisition_window(acquisition)


def _facts(shown: Sequence[Slice]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what a person needs to know of what is shown, and what is doubtful about it."""
    facts: dict[str, Any] = {}
    doubts: list[str] = []
    images = [read_attributes(path) for path in dict.fromkeys(one.instance.path for one in shown)]
    if shown[0].header.modality in ("MG", "DX", "CR"):
        facts["views"] = [view_of(image) for image in images]
        raw = sum(is_for_processing(image) for image in images)
        if raw:
            doubts.append(f"{raw} of the images shown are raw detector values, for processing and not for presentation")
    elif shown[0].header.modality in ("PT", "NM"):
        facts, about = nuclear_facts(images[0])
        doubts.extend(about)
    return facts, tuple(doubts)


def _acquisition_window(slices: Sequence[Slice]) -> Window | None:
    """Return the window from the lowest to the highest value of a whole acquisition, as Google's code scales MR."""
    step = -(-len(slices) // _MOST_SLICES) if slices else 1
    low, high = math.inf, -math.inf
    images: dict[str, ImageAttributes] = {}
    for one in slices[::step]:
        uid = one.header.sop_instance_uid
        if uid not in images:
            images[uid] = read_image(one.instance.path)
        (frame,) = read_frames(images[uid], [one.frame])
        if is_colour(images[uid]):
            return None
        values = modality_values(images[uid], frame, one.frame)[~padding_mask(images[uid], frame)]
        if values.size:
            low, high = min(low, float(values.min())), max(high, float(values.max()))
    if not low < high:
        return None
    return Window((low + high) / 2, high - low, "LINEAR_EXACT", "acquisition")


def _picture(shown: Slice, scale: Window | None, ct_windows: tuple[Window, ...]) -> Picture:
    of = FrameOf(shown.header.sop_instance_uid, shown.frame + 1)
    if _is_video(shown):
        return Picture(colour=of)
    image = read_image(shown.instance.path)
    square = square_size(image, shown.frame)
    size = None if square is None else Size(square.rows, square.columns, Filter.BICUBIC)
    only = ultrasound_box(image)
    if is_colour(image):
        return Picture(colour=of, only=only, size=size)
    if ct_windows and shown.header.modality == "CT":
        return Picture(planes=tuple(Plane(of, window) for window in ct_windows), only=only, size=size)
    shading = scale or header_shading(image, shown.frame) or Percentiles()
    return Picture(planes=(Plane(of, shading),), only=only, size=size)


def _is_video(shown: Slice) -> bool:
    return is_video(shown.header.transfer_syntax_uid)


def _place(instance: InstanceFile) -> tuple[float, str]:
    number = instance.header.instance_number
    return (math.inf if number is None else number), instance.header.sop_instance_uid
