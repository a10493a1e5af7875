"""One video or still -> the frames that the cataract adapter looks at.

Input: one instance. Output: up to `FRAMES` frames in order of time, RGB, 896 x 896. On failure: `RenderError`, where
there is not exactly one colour instance of 8 bits that can be decoded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from dicom_node.headers import InstanceFile
from dicom_node.pixels import Frame, PixelError, read_frames, read_image
from dicom_node.report import SourceFrames
from models.generation import RgbImage
from models.rendering import ModelInput, RenderError

#: Frames of a video that the model sees; about 260 tokens each.
FRAMES = 4
#: The author's size; the aspect ratio is not kept, neither by the author nor by the base model's processor.
SIDE = 896


def render(instances: Sequence[InstanceFile]) -> ModelInput:
    """Return the model input of one video or still.

    Raises:
        RenderError: Not one instance, not 8-bit colour, or it cannot be decoded.
    """
    if len(instances) != 1:
        raise RenderError(f"a video or still is one instance, {len(instances)} were given; make one job of each")
    try:
        return _render(instances[0])
    except PixelError as error:
        raise RenderError(str(error)) from error


def _render(instance: InstanceFile) -> ModelInput:
    image = read_image(instance.path)
    if image.samples != 3 or image.bits_stored != 8:
        raise RenderError(
            f"instance {image.sop_instance_uid} is {image.photometric} of {image.bits_stored} bits, not colour of "
            "8 bits; send the picture as the camera made it"
        )
    chosen = evenly(image.frames, FRAMES)
    pictures = tuple(resized(frame) for frame in read_frames(image, chosen))
    sources = tuple(_source(instance, image.frames, index) for index in chosen)
    return ModelInput(images=pictures, image_sources=sources, sources=(_source(instance, image.frames, *chosen),))


def evenly(frames: int, wanted: int) -> list[int]:
    """Return which frames (from 0) stand in the middle of `wanted` equal parts of a run; all of a shorter one."""
    return sorted({(2 * part + 1) * frames // (2 * wanted) for part in range(wanted)})


def resized(frame: Frame) -> RgbImage:
    """Return a frame as the model sees it."""
    picture = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    return np.asarray(picture, dtype=np.uint8)


def _source(instance: InstanceFile, frames: int, *indices: int) -> SourceFrames:
    header = instance.header
    # A single-frame image has no frame numbers to refer to (PS3.3 C.18.3: only for multi-frame).
    numbers = tuple(index + 1 for index in indices) if frames > 1 else ()
    return SourceFrames(header.sop_class_uid, header.sop_instance_uid, header.series_instance_uid, numbers)
