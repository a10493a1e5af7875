"""One XA instance -> the frames that the DSA adapter looks at.

Input: one XA run (or single image). Output: up to three frames, the arterial maximum of contrast filling and its
neighbours, in order of time, as RGB. On failure: `RenderError`, where there is not exactly one grey-scale instance that
can be decoded.

How the frames are chosen: every frame is reduced to a small picture of X-ray absorption; the contrast-free ground is
what each of its places absorbs at the least over the run; a frame's filling is how much it absorbs beyond that. The
arterial maximum shows the arteries when they are drawn best, and where they end; the frames before and after it, how
the contrast moves on. It is the fullest frame of the run, unless an earlier peak reached most of that filling and
ebbed away: what fills the picture after that is veins. Where the C-arm or the table moves, the ground does too and
nothing of this holds: frames are then spread evenly over the run, and a person looks at it.

How they are shown: from the 0.5th to the 99.5th percentile of each frame, because windows in XA headers are made for a
monitor, are often missing or of another bit depth, and the author publishes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.display import Values
from dicom_node.headers import InstanceFile
from dicom_node.mask_module import SubtractionPlan, absorbs_when_higher, already_subtracted, plan_subtractions
from dicom_node.pixels import ImageAttributes, PixelError, read_frames, read_image
from dicom_node.run_motion import moved_by
from models.drawing import drawn_input
from models.recipe import FrameOf, Percentiles, Picture, Plane
from models.rendering import ModelInput, RenderError

#: How many frames the model sees; about 260 tokens each.
FRAMES = 3
#: A place's absorption is looked at in pictures of at most this many rows and columns.
_SMALL = 64
#: Longer runs are looked at in even steps, so that the small pictures stay under 40 MiB.
_MOST_FRAMES = 2400
_TAIL_PERCENT = 0.5
#: A peak is the arterial one if it rises to the first share of the run's greatest filling and the filling then falls to
#: the second share of the peak: veins are wider than arteries and fill the picture at least as well.
_ARTERIAL_SHARE = 0.6
_EBB_SHARE = 0.85
#: A filling below this share of the run's own grey range is not told from noise and motion.
_LEAST_FILLING = 0.05


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which frames (counted from 0, in order of time), the key one of them, and how full the run is."""

    frames: tuple[int, ...]
    key: int
    #: Share of the run's grey range by which the key frame's vessels stand out; None for a single frame.
    filling: float | None


def render(instances: Sequence[InstanceFile]) -> ModelInput:
    """Return the model input of one XA run.

    Raises:
        RenderError: Not one instance, in colour, or it cannot be decoded.
    """
    if len(instances) != 1:
        raise RenderError(f"a run is one instance, {len(instances)} were given; make one job of each")
    try:
        return _render(instances[0])
    except PixelError as error:
        raise RenderError(str(error)) from error


def _render(instance: InstanceFile) -> ModelInput:
    image = read_image(instance.path)
    if image.samples != 1 or not image.photometric.startswith("MONOCHROME"):
        raise RenderError(
            f"instance {image.sop_instance_uid} is {image.photometric}, not grey scale; send the run as acquired"
        )
    moved = moved_by(image)
    choice = _spread(image) if moved else _arterial(image)
    plans, why_not = plan_subtractions(image, choice.frames)
    incomplete = [why_not] if why_not else []
    if moved:
        incomplete.append(
            f"{moved} moved during the run: frames evenly spread over it were shown, not its arterial maximum"
        )
    elif choice.filling is not None and choice.filling < _LEAST_FILLING:
        incomplete.append("no contrast filling can be told in the run")
    shading = Percentiles(_TAIL_PERCENT, without_flat_border=True)
    recipe = [
        Picture(planes=(Plane(FrameOf(image.sop_instance_uid, index + 1), shading, plan),))
        for index, plan in zip(choice.frames, plans or (None,) * len(choice.frames), strict=True)
    ]
    return drawn_input(
        recipe,
        [instance],
        record=_record(image, choice, plans),
        incomplete=incomplete,
        key_images=(choice.frames.index(choice.key),),
    )


def _spread(image: ImageAttributes) -> _Choice:
    """Take frames in the middle of equal parts of a run whose ground moves."""
    frames = tuple(sorted({(2 * part + 1) * image.frames // (2 * FRAMES) for part in range(FRAMES)}))
    return _Choice(frames, frames[len(frames) // 2], None)


def _arterial(image: ImageAttributes) -> _Choice:
    """Look at every frame once, small, and pick the arterial maximum with its neighbours in time."""
    if image.frames == 1:
        return _Choice((0,), 0, None)
    step = -(-image.frames // _MOST_FRAMES)
    looked_at = list(range(0, image.frames, step))
    small = np.stack([_shrink(frame, image.bits_stored) for frame in read_frames(image, looked_at)])
    absorption = small if absorbs_when_higher(image) else -small
    filling = absorption - absorption.min(axis=0)
    # Noise leaves a little everywhere, alike in all frames; small vessels must count, so little is cut off.
    scores = np.clip(filling - 0.02 * filling.max(), 0.0, None).mean(axis=(1, 2))
    best = _arterial_maximum(scores)
    frames = _neighbours(image, looked_at, best)
    # Every second place is enough to tell the run's range.
    low, high = np.percentile(small[:, ::2, ::2], (_TAIL_PERCENT, 100.0 - _TAIL_PERCENT))
    share = float(np.percentile(filling[best], 98)) / max(float(high - low), 1.0)
    return _Choice(frames, looked_at[best], round(share, 4))


def _neighbours(image: ImageAttributes, looked_at: Sequence[int], best: int) -> tuple[int, ...]:
    """Return the best frame with one on each side, or two on one side: at the run's ends, and where the mask ends."""
    last = max(0, len(looked_at) - FRAMES)
    firsts = [min(max(best - before, 0), last) for before in (FRAMES // 2, 0, FRAMES - 1)]
    windows = [tuple(looked_at[first : first + FRAMES]) for first in firsts]
    # All are shown with the mask or none: a neighbour that it does not apply to would cost the others theirs.
    return next((frames for frames in windows if not plan_subtractions(image, frames)[1]), windows[0])


def _arterial_maximum(scores: Values) -> int:
    """Return the place of the first high peak after which the filling ebbs away, else of the greatest filling."""
    fullest = int(scores.argmax())
    # What is before the least filling is no contrast: the ground had moved, or the exposure was not yet steady.
    empty = int(scores[: fullest + 1].argmin())
    rise = scores - scores[empty]
    peak = empty
    for place in range(empty, fullest):
        if rise[place] > rise[peak]:
            peak = place
        elif rise[place] < _EBB_SHARE * rise[peak] and rise[peak] >= _ARTERIAL_SHARE * rise[fullest]:
            return peak
    return fullest


def _shrink(frame: NDArray[Any], bits_stored: int) -> Values:
    """Average a frame down to at most `_SMALL` rows and columns; the edge that fills no whole block is dropped."""
    # Blocks of 8 x 8 are averaged over enough values; taking every second or third row of larger ones saves the time.
    thin = max(1, min(frame.shape) // _SMALL // 8)
    frame = frame[::thin, ::thin]
    rows, columns = -(-frame.shape[0] // _SMALL), -(-frame.shape[1] // _SMALL)
    high, wide = frame.shape[0] // rows, frame.shape[1] // columns
    # Rows first: whole rows are added many values at a time, in the frame's own type where the sums have room in it.
    has_room = frame.dtype.kind in "iu" and bits_stored + (rows - 1).bit_length() <= 8 * frame.dtype.itemsize
    blocks = frame[: high * rows, : wide * columns].reshape(high, rows, wide * columns)
    summed = blocks.sum(axis=1, dtype=frame.dtype if has_room else np.float32).astype(np.float32)
    # Columns by a product with ones: sums below 2**24 are exact in whatever order they are added.
    totals = summed.reshape(high * wide, columns) @ np.ones(columns, dtype=np.float32)
    return np.asarray(totals.reshape(high, wide) / np.float32(rows * columns), dtype=np.float32)


def _record(image: ImageAttributes, choice: _Choice, plans: Sequence[SubtractionPlan]) -> dict[str, Any]:
    return {
        # SINGLE PLANE, BIPLANE A or BIPLANE B (PS3.3 C.8.7.1.1.1); each plane is a run of its own.
        "plane": next(iter(list(image.dataset.get("ImageType") or [])[2:3]), ""),
        "frames_in_run": image.frames,
        "frames_shown": [index + 1 for index in choice.frames],
        "frames_chosen_by": (
            "the only frame"
            if image.frames == 1
            else "the middle of equal parts of a run whose ground moves"
            if choice.filling is None
            else "the arterial maximum of contrast filling against the run's least absorption, and its neighbours"
        ),
        "filling": choice.filling,
        "subtraction": "; ".join(dict.fromkeys(plan.in_words for plan in plans)) or "none",
        "subtracted_before": already_subtracted(image.dataset),
    }
