"""One video or still -> the frames that the cataract adapter looks at.

Input: one instance. Output: up to `FRAMES` frames in order of time, RGB, 896 x 896, with the time of each in the
record. On failure: `RenderError`, where there is not exactly one colour instance of 8 bits that can be decoded.

Which frames: a run is cut into `FRAMES` equal parts, and of each the middle of its longest scene is taken, so that the
opening and closing pictures (draped patient, fade-out) count least. The adapter was trained on single frames; a few
together let it tell what goes on, and each costs 256 tokens of a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from dicom_node.headers import InstanceFile
from dicom_node.pixels import ImageAttributes, PixelError, read_image
from dicom_node.scenes import representative_frames, scenes
from dicom_node.video import frame_times, is_video
from models.drawing import drawn_input
from models.frame_choice import choose_video_frames
from models.recipe import Filter, FrameOf, Picture, Size
from models.rendering import ModelInput, RenderError

#: Frames of a video that the model sees.
FRAMES = 4
#: The author's size. The aspect ratio is not kept, neither by the author nor by the base model's processor.
SIZE = Size(896, 896, Filter.BILINEAR)


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
            return _render_video(instance)
        return _render_image(instance, read_image(instance.path))
    except PixelError as error:
        raise RenderError(str(error)) from error


def _render_video(instance: InstanceFile) -> ModelInput:
    found = choose_video_frames(instance, FRAMES)
    return _model_input(instance, found.frames, found.chosen, found.times_s, found.doubts, scene_count=found.scenes)


def _render_image(instance: InstanceFile, image: ImageAttributes) -> ModelInput:
    if image.samples != 3 or image.bits_stored != 8:
        raise RenderError(
            f"instance {image.sop_instance_uid} is {image.photometric or 'of no stated colour'} of {image.bits_stored} "
            "bits, not RGB or YBR colour of 8 bits; send the picture as the camera made it"
        )
    chosen = representative_frames(scenes({}, image.frames), image.frames, FRAMES)
    times = frame_times(image.dataset, chosen) if image.frames > 1 else ()
    return _model_input(instance, image.frames, chosen, times, [])


def _model_input(
    instance: InstanceFile,
    frames: int,
    chosen: Sequence[int],
    times: Sequence[float | None],
    doubts: Sequence[str],
    scene_count: int = 1,
) -> ModelInput:
    uid = instance.header.sop_instance_uid
    return drawn_input(
        [Picture(colour=FrameOf(uid, index + 1), size=SIZE) for index in chosen],
        [instance],
        record={
            "frames_in_run": frames,
            "frames_shown": [index + 1 for index in chosen],
            "frames_chosen_by": f"of each of {FRAMES} equal parts, the middle of its longest scene",
            "scenes": scene_count,
            "times_s": [None if time is None else round(time, 3) for time in times],
        },
        incomplete=doubts,
    )
