"""One video or still -> the frames that the cataract adapter looks at.

Input: one instance. Output: up to `FRAMES` frames in order of time, RGB, 896 x 896, with the time of each in the
record. On failure: `RenderError`, where there is not exactly one colour instance of 8 bits that can be decoded.

Which frames: a run is cut into `FRAMES` equal parts and the frame in the middle of each is taken, so that the opening
and closing pictures (draped patient, fade-out) count least. The adapter was trained on single frames; a few together
let it tell what goes on, and each costs 256 tokens of a prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from dicom_node.headers import InstanceFile
from dicom_node.pixels import Frame, ImageAttributes, PixelError, read_frames, read_image
from dicom_node.report import SourceFrames
from dicom_node.video import Video, frame_times, is_video, read_video, read_video_frames
from models.generation import RgbImage
from models.rendering import ModelInput, RenderError

#: Frames of a video that the model sees.
FRAMES = 4
#: The author's size. The aspect ratio is not kept, neither by the author nor by the base model's processor.
SIDE = 896


def render(instances: Sequence[InstanceFile]) -> ModelInput:
    """Return the model input of one video or still.

    Raises:
        RenderError: Not one instance, not 8-bit colour, or it cannot be decoded.
    """
    if len(instances) != 1:
        raise RenderError(f"a video or still is one instance, {len(instances)} were given; make one job of each")
    instance = instances[0]
    try:
        if is_video(instance.header.transfer_syntax_uid):
            return _render_video(instance, read_video(instance.path))
        return _render_image(instance, read_image(instance.path))
    except PixelError as error:
        raise RenderError(str(error)) from error


def _render_video(instance: InstanceFile, video: Video) -> ModelInput:
    image, doubts = video.image, []
    chosen = evenly_spread(video.frames, FRAMES)
    pictures, (rows, columns) = _resized(read_video_frames(video, chosen))
    if image.frames != video.frames:
        doubts.append(f"the header claims {image.frames} frames, the stream holds {video.frames}")
    if (image.rows, image.columns) != (rows, columns):
        doubts.append(f"the header claims {image.rows} x {image.columns} pixels, the stream has {rows} x {columns}")
    times = frame_times(image.dataset, chosen, video.rate)
    record = _record(image, video.frames, chosen, times) | {"codec": video.codec, "container": video.container}
    return _model_input(instance, pictures, video.frames, chosen, record, tuple(doubts))


def _render_image(instance: InstanceFile, image: ImageAttributes) -> ModelInput:
    if image.samples != 3 or image.bits_stored != 8:
        raise RenderError(
            f"instance {image.sop_instance_uid} is {image.photometric or 'of no stated colour'} of {image.bits_stored} "
            "bits, not RGB or YBR colour of 8 bits; send the picture as the camera made it"
        )
    chosen = evenly_spread(image.frames, FRAMES)
    pictures, _ = _resized(read_frames(image, chosen))
    times = frame_times(image.dataset, chosen) if image.frames > 1 else ()
    return _model_input(instance, pictures, image.frames, chosen, _record(image, image.frames, chosen, times), ())


def evenly_spread(frames: int, wanted: int) -> list[int]:
    """Return which frames (from 0) stand in the middle of `wanted` equal parts of a run; all of a shorter one."""
    return sorted({(2 * part + 1) * frames // (2 * wanted) for part in range(wanted)})


def _resized(frames: Iterable[Frame]) -> tuple[tuple[RgbImage, ...], tuple[int, int]]:
    """Return the frames as the model sees them, and their rows and columns; one is held in full size at a time."""
    pictures, size = [], (0, 0)
    for frame in frames:
        size = (frame.shape[0], frame.shape[1])
        picture = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        pictures.append(np.asarray(picture, dtype=np.uint8))
    return tuple(pictures), size


def _model_input(
    instance: InstanceFile,
    pictures: tuple[RgbImage, ...],
    frames: int,
    chosen: Sequence[int],
    record: dict[str, Any],
    doubts: tuple[str, ...],
) -> ModelInput:
    return ModelInput(
        images=pictures,
        image_sources=tuple(_source(instance, frames, index) for index in chosen),
        sources=(_source(instance, frames, *chosen),),
        record=record,
        incomplete=doubts,
        # The answer is on all frames together, and they are few: a person sees what the model saw.
        key_images=tuple(range(len(pictures))),
    )


def _source(instance: InstanceFile, frames: int, *indices: int) -> SourceFrames:
    header = instance.header
    # A single-frame image has no frame numbers to refer to (PS3.3 C.18.3: only for multi-frame).
    numbers = tuple(index + 1 for index in indices) if frames > 1 else ()
    return SourceFrames(header.sop_class_uid, header.sop_instance_uid, header.series_instance_uid, numbers)


def _record(
    image: ImageAttributes, frames: int, chosen: Sequence[int], times: Sequence[float | None]
) -> dict[str, Any]:
    return {
        "transfer_syntax": str(image.transfer_syntax),
        "rows": image.rows,
        "columns": image.columns,
        "photometric_interpretation": image.photometric,
        "frames_in_run": frames,
        "frames_shown": [index + 1 for index in chosen],
        "frames_chosen_by": f"the middle of each of {FRAMES} equal parts of the run",
        "times_s": [None if time is None else round(time, 3) for time in times],
        "resize": f"{SIDE} x {SIDE}, bilinear, aspect ratio not kept",
    }
