"""One XA instance -> the frames that the DSA adapter looks at.

Input: one XA run (or single image). Output: up to three frames, those with the fullest contrast filling, in order of
time, as RGB. On failure: `RenderError`, where there is not exactly one grey-scale instance that can be decoded.

How the frames are chosen: every frame is reduced to a small picture of X-ray absorption; the contrast-free ground is
what each of its places absorbs at the least over the run; a frame's filling is how much it absorbs beyond that. The
fullest frames show the arterial tree when it is drawn best, and where it ends.

How they are shown: from the 0.5th to the 99.5th percentile of each frame, because windows in XA headers are made for a
monitor, are often missing or of another bit depth, and the author publishes none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.display import Grey, Values, apply_window, grey_to_rgb, modality_values, padding_mask, percentile_window
from dicom_node.headers import InstanceFile
from dicom_node.mask_module import SubtractionPlan, absorbs_when_higher, plan_subtractions
from dicom_node.pixels import ImageAttributes, PixelError, read_frame, read_frames, read_image
from dicom_node.report import SourceFrames
from dicom_node.subtraction import Subtractor
from models.rendering import ModelInput, RenderError

#: How many frames the model sees; about 260 tokens each.
FRAMES = 3
#: A place's absorption is looked at in pictures of at most this many rows and columns.
_SMALL = 64
#: Longer runs are looked at in even steps, so that the small pictures stay under 40 MiB.
_MOST_FRAMES = 2400
_TAIL_PERCENT = 0.5
#: A filling below this share of the run's own grey range is not told from noise and motion.
_LEAST_FILLING = 0.05


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which frames (counted from 0, in order of time), the fullest of them, and how full the run is."""

    frames: tuple[int, ...]
    fullest: int
    #: Share of the run's grey range by which the fullest frame's vessels stand out; None for a single frame.
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
    incomplete: list[str] = []
    choice = _choose(image)
    if choice.filling is not None and choice.filling < _LEAST_FILLING:
        incomplete.append("no contrast filling can be told in the run")
    plans, why_not = plan_subtractions(image, choice.frames)
    if why_not:
        incomplete.append(why_not)
    shown = zip(choice.frames, plans or [None] * len(choice.frames), strict=True)
    subtractor = Subtractor(image)
    pictures, windows = zip(*(_picture(image, index, plan, subtractor) for index, plan in shown), strict=True)
    sources = tuple(_source(instance, image, index) for index in choice.frames)
    return ModelInput(
        images=tuple(grey_to_rgb(picture) for picture in pictures),
        image_sources=sources,
        sources=(_source(instance, image, *choice.frames),),
        record=_record(image, choice, plans, list(windows)),
        incomplete=tuple(incomplete),
        key_images=(choice.frames.index(choice.fullest),),
    )


def _choose(image: ImageAttributes) -> _Choice:
    """Look at every frame once, small, and pick the fullest."""
    if image.frames == 1:
        return _Choice((0,), 0, None)
    step = -(-image.frames // _MOST_FRAMES)
    looked_at = list(range(0, image.frames, step))
    darker_when_higher = absorbs_when_higher(image)
    small = np.stack([_shrink(frame) for frame in read_frames(image, looked_at)])
    absorption = small if darker_when_higher else -small
    filling = absorption - absorption.min(axis=0)
    # Noise leaves a little everywhere, alike in all frames; small vessels must count, so little is cut off.
    scores = np.clip(filling - 0.02 * filling.max(), 0.0, None).mean(axis=(1, 2))
    # Of equally full frames the earlier ones: veins fill late.
    fullest_first = np.argsort(-scores, kind="stable")[:FRAMES]
    best = int(fullest_first[0])
    low, high = np.percentile(small, (_TAIL_PERCENT, 100.0 - _TAIL_PERCENT))
    share = float(np.percentile(filling[best], 98)) / max(float(high - low), 1.0)
    return _Choice(tuple(sorted(looked_at[int(place)] for place in fullest_first)), looked_at[best], round(share, 4))


def _shrink(frame: NDArray[Any]) -> Values:
    """Average a frame down to at most `_SMALL` rows and columns; the edge that fills no whole block is dropped."""
    # Blocks of 8 x 8 are averaged over enough values; taking every second or third row of larger ones saves the time.
    thin = max(1, min(frame.shape) // _SMALL // 8)
    frame = frame[::thin, ::thin]
    rows, columns = -(-frame.shape[0] // _SMALL), -(-frame.shape[1] // _SMALL)
    high, wide = frame.shape[0] // rows, frame.shape[1] // columns
    blocks = frame[: high * rows, : wide * columns].reshape(high, rows, wide, columns)
    return np.asarray(blocks.mean(axis=(1, 3)), dtype=np.float32)


def _picture(
    image: ImageAttributes, index: int, plan: SubtractionPlan | None, subtractor: Subtractor
) -> tuple[Grey, dict[str, Any]]:
    """Return a frame as shown, dark where contrast is, and the window it is shown with."""
    frame = read_frame(image, index)
    mask = padding_mask(image, frame)
    values = modality_values(image, frame, index) if plan is None else subtractor.subtract(plan, frame)
    window = percentile_window(values, _TAIL_PERCENT, mask | _flat_border(frame))
    grey = apply_window(values, window)
    if image.photometric == "MONOCHROME1":
        grey = 255 - grey
    grey[mask] = 0
    return grey, window.to_json()


def _flat_border(frame: NDArray[Any]) -> NDArray[np.bool_]:
    """Return collimator and shutter, True where a frame is exactly at its lowest or highest value over a wide area."""
    flat = np.zeros(frame.shape, dtype=np.bool_)
    for bound in (frame.min(), frame.max()):
        at_bound = frame == bound
        if 0.02 < float(at_bound.mean()) < 0.98:
            flat |= at_bound
    return flat


def _source(instance: InstanceFile, image: ImageAttributes, *indices: int) -> SourceFrames:
    header = instance.header
    # A single-frame image has no frame numbers to refer to (PS3.3 C.18.3: only for multi-frame).
    numbers = tuple(index + 1 for index in indices) if image.frames > 1 else ()
    return SourceFrames(header.sop_class_uid, header.sop_instance_uid, header.series_instance_uid, numbers)


def _record(
    image: ImageAttributes, choice: _Choice, plans: Sequence[SubtractionPlan], windows: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "transfer_syntax": str(image.transfer_syntax),
        "rows": image.rows,
        "columns": image.columns,
        "photometric_interpretation": image.photometric,
        "frames_in_run": image.frames,
        "frames_shown": [index + 1 for index in choice.frames],
        "frames_chosen_by": "fullest contrast filling against the run's least absorption",
        "filling": choice.filling,
        "subtraction": "; ".join(dict.fromkeys(plan.in_words for plan in plans)) or "none",
        "windows": windows,
        "resize": "none here; the base model's processor resizes",
    }
