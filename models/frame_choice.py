"""One multi-frame instance -> the few frames of it that a model looks at, with their times.

Input: an instance and how many frames are wanted at most. Output: `FrameChoice`. On failure: `PixelError`, where header
or stream cannot be read.

- A video is cut into as many equal parts as frames are wanted, and of each the middle of its longest scene is taken, so
  that opening and closing pictures count least.
- An endoscopy whose frames are coded one by one is cut alike, and of each part the sharpest frame is taken.
- Any other cine (ultrasound and alike) gives its sharpest frame: it shows one view over and over.
- Any other instance gives its middle frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from dicom_node.headers import InstanceFile
from dicom_node.picture_areas import ultrasound_box
from dicom_node.pixels import ImageAttributes, read_frames, read_image
from dicom_node.scenes import representative_frames, scenes
from dicom_node.video import frame_times, is_video, keyframe_thumbnails, read_video

#: Modalities whose frames follow each other in time and may be blurred.
_CINE: Final = frozenset({"US", "IVUS", "ES", "XC", "GM", "OP"})
#: Of these a run leads through many views.
_WANDERING: Final = "ES"
#: Frames of a cine that are looked at to decide; of more, evenly spread ones.
_MOST_FRAMES: Final = 64


@dataclass(frozen=True, slots=True)
class FrameChoice:
    """Which frames of an instance to show."""

    #: Counted from 0, in order of time.
    chosen: tuple[int, ...]
    #: How many there are.
    frames: int
    chosen_by: str
    #: Seconds after the first frame, one of each chosen frame, None where nothing tells; empty where none were asked.
    times_s: tuple[float | None, ...] = ()
    #: How many scenes a video has, as far as its keyframes tell.
    scenes: int = 1
    #: How header and stream contradict each other; one sentence each, without a full stop.
    doubts: tuple[str, ...] = ()

    @property
    def left_out(self) -> str:
        """Say which frames of how many are all that is shown; empty where all are."""
        if len(self.chosen) == self.frames:
            return ""
        if len(self.chosen) == 1:
            return f"only frame {self.chosen[0] + 1} of {self.frames} of a multi-frame image was shown"
        times = self.times_s or (None,) * len(self.chosen)
        named = [
            f"{index + 1}" if time is None else f"{index + 1} ({time:.1f} s)"
            for index, time in zip(self.chosen, times, strict=True)
        ]
        return f"only frames {', '.join(named)} of {self.frames} were shown"


def choose_frames(instance: InstanceFile, wanted: int) -> FrameChoice:
    """Return up to `wanted` frames, at least one, of any instance.

    Raises:
        PixelError: Header or stream cannot be read.
    """
    if is_video(instance.header.transfer_syntax_uid):
        return choose_video_frames(instance, wanted)
    image = read_image(instance.path)
    if image.frames > 1 and instance.header.modality == _WANDERING:
        bounds = [part * image.frames // wanted for part in range(wanted + 1)]
        parts = [range(first, end) for first, end in pairwise(bounds) if first < end]
        chosen = tuple(_sharpest(image, part, _MOST_FRAMES // wanted) for part in parts)
        by = "its sharpest frame" if wanted == 1 else f"of each of {wanted} equal parts, the sharpest frame"
        return FrameChoice(chosen, image.frames, by, frame_times(image.dataset, chosen))
    if image.frames > 1 and instance.header.modality in _CINE:
        sharpest = _sharpest(image, range(image.frames), _MOST_FRAMES)
        return FrameChoice((sharpest,), image.frames, "its sharpest frame")
    return FrameChoice((image.frames // 2,), image.frames, "its middle frame")


def choose_video_frames(instance: InstanceFile, wanted: int) -> FrameChoice:
    """Return up to `wanted` frames of a video, and what is doubtful about its stream.

    Raises:
        PixelError: The stream cannot be read.
    """
    video = read_video(instance.path)
    image, doubts = video.image, []
    found = scenes(keyframe_thumbnails(video), video.frames)
    chosen = representative_frames(found, video.frames, wanted)
    if image.frames != video.frames:
        doubts.append(f"the header claims {image.frames} frames, the stream holds {video.frames}")
    if (image.rows, image.columns) != (video.rows, video.columns):
        doubts.append(
            f"the header claims {image.rows} x {image.columns} pixels, the stream has {video.rows} x {video.columns}"
        )
    parts = "the middle of its longest scene"
    return FrameChoice(
        chosen=chosen,
        frames=video.frames,
        chosen_by=parts if wanted == 1 else f"of each of {wanted} equal parts, {parts}",
        times_s=frame_times(image.dataset, chosen, video.rate),
        scenes=len(found),
        doubts=tuple(doubts),
    )


def _sharpest(image: ImageAttributes, among: Sequence[int], most: int) -> int:
    """Return the frame with the steepest edges, counted from 0; of equal ones the one nearest the middle."""
    indices = among[:: -(-len(among) // most)]
    middle = among[len(among) // 2]
    box, found = ultrasound_box(image), []
    for index, frame in zip(indices, read_frames(image, indices), strict=True):
        # Every second pixel shows edges as well, and costs a quarter.
        grey = frame if frame.ndim == 2 else frame[..., 1]
        if box is not None:
            grey = grey[box.top : box.bottom, box.left : box.right]
        grey = grey[::2, ::2].astype(np.float32)
        edges = sum(float(np.square(np.diff(grey, axis=axis)).mean()) for axis in (0, 1) if grey.shape[axis] > 1)
        found.append((-round(edges, 3), abs(index - middle), index))
    return min(found)[2]
