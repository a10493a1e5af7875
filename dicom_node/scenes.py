"""A video's keyframes -> its scenes, and which frames stand for the whole of it.

Input: small pictures of keyframes (`dicom_node.video.keyframe_thumbnails`). Output: `Scene`s, and frames evenly spread
in time, each from the longest scene of its share of the video. Nothing fails; a video whose keyframes are unknown is
one scene.

A scene ends where two neighbouring keyframes differ as only another view does (another camera, zoom or picture), not as
instruments do that move in one view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Mean difference of two thumbnails, of 255, from which on they are of two scenes.
_CHANGED: Final = 18.0
#: Standard deviation of a thumbnail, of 255, below which nothing is to be seen on it: faded out, or covered.
_BLANK: Final = 4.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Frames of one view, counted from 0."""

    first: int
    #: One beyond its last frame.
    end: int
    #: Nothing is to be seen in it.
    is_blank: bool


def scenes(keyframes: Mapping[int, NDArray[np.uint8]], frames: int) -> tuple[Scene, ...]:
    """Return the scenes of a video in order; they cover all its frames.

    Args:
        keyframes: Small grey pictures, all of one shape, by frame (counted from 0).
        frames: How many the video has.
    """
    order = sorted(keyframes)
    starts = [0]
    for before, after in pairwise(order):
        difference = keyframes[after].astype(np.float32) - keyframes[before].astype(np.float32)
        if float(np.abs(difference).mean()) >= _CHANGED:
            starts.append(after)
    found = []
    for first, end in pairwise([*starts, frames]):
        shown = [float(keyframes[index].std()) for index in order if first <= index < end]
        found.append(Scene(first, end, bool(shown) and max(shown) < _BLANK))
    return tuple(found)


def representative_frames(found: Sequence[Scene], frames: int, wanted: int) -> tuple[int, ...]:
    """Return up to `wanted` frames, counted from 0: of each equal part of the video the middle of its longest scene.

    Blank scenes are passed over, unless a part has nothing else.
    """
    chosen = set()
    for part in range(wanted):
        start, stop = part * frames // wanted, (part + 1) * frames // wanted
        shares = [
            (scene.is_blank, max(scene.first, start), min(scene.end, stop))
            for scene in found
            if scene.first < stop and scene.end > start
        ]
        if shares:
            _, first, end = min(shares, key=lambda share: (share[0], share[1] - share[2], share[1]))
            chosen.add((first + end) // 2)
    return tuple(sorted(chosen))
