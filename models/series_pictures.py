"""Any series -> the few two-dimensional pictures that a general adapter looks at, as a viewer would first show them.

Input: the stored instances of one series. Output: `SeriesPictures`: RGB pictures at their own size (not resized), where
each comes from, what was done, and in words what was not shown. On failure: `RenderError`, where nothing is there to
show or a picture that was chosen cannot be decoded.

Which pictures:
- A stack of slices (MR, CT, PET; one slice an instance) gives its middle slice, by geometry (`dicom_node.volumes`).
- Other instances give a picture each, in order of InstanceNumber; of more than `at_most`, evenly spread ones.
- A multi-frame instance gives its middle frame, by frame number.
Whatever is left out is said in `incomplete`, so that the answer is held: a finding may lie where nobody looked.

How they are shown (PS3.3 C.11.2, C.7.6.3.1.2): the file's first VOI window, else its VOI LUT, else the 0.5th to the
99.5th percentile; MONOCHROME1 inverted; padding black; colour as it is, palettes applied.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.pixels.processing import apply_color_lut, apply_voi

from dicom_node.display import Grey, display_picture, grey_to_rgb, header_windows, modality_values, padding_mask
from dicom_node.headers import InstanceFile
from dicom_node.pixels import Frame, ImageAttributes, PixelError, read_frame, read_image
from dicom_node.report import SourceFrames
from dicom_node.volumes import SliceStack, slice_stack
from models.generation import RgbImage
from models.rendering import RenderError

#: Modalities whose instances are slices of one volume.
_STACKED = frozenset({"MR", "CT", "PT"})


@dataclass(frozen=True, slots=True)
class SeriesPictures:
    """The pictures of a series, with all that `models.rendering.ModelInput` needs."""

    #: RGB, uint8, (rows, columns, 3), each at its own size; at least one.
    images: tuple[RgbImage, ...]
    #: One entry per image: the source frame behind it.
    image_sources: tuple[SourceFrames, ...]
    #: Everything that was looked at, for evidence.
    sources: tuple[SourceFrames, ...]
    #: JSON-ready: what was chosen, and how each picture was made.
    record: dict[str, Any]
    #: What was not shown, or is doubtful; one sentence each, without a full stop.
    incomplete: tuple[str, ...]
    #: Indices of the images a person should be shown first: all of them, they are few.
    key_images: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    """The instances to show, in order, and what is said about the choice."""

    instances: tuple[InstanceFile, ...]
    chosen_by: str
    incomplete: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def series_pictures(instances: Sequence[InstanceFile], *, at_most: int = 4) -> SeriesPictures:
    """Return the pictures of one series; see the module for which they are and how they are made.

    Args:
        instances: The stored instances of one series, in any order.
        at_most: How many pictures at most, where the series is no stack of slices; at least 1.

    Raises:
        RenderError: There is no instance, or a chosen one cannot be decoded.
    """
    if not instances:
        raise RenderError("the series has no instance to show; send it again")
    choice = _choose(instances, at_most)
    incomplete = list(choice.incomplete)
    images, sources, pictures = [], [], []
    for instance in choice.instances:
        try:
            image = read_image(instance.path)
            index = image.frames // 2
            picture, how = _picture(image, read_frame(image, index), index)
        except PixelError as error:
            raise RenderError(str(error)) from error
        if image.frames > 1:
            incomplete.append(f"only frame {index + 1} of {image.frames} of a multi-frame image was shown")
        images.append(picture)
        sources.append(_source(instance, image, index))
        pictures.append(_how_made(image, index, how))
    return SeriesPictures(
        images=tuple(images),
        image_sources=tuple(sources),
        sources=tuple(sources),
        record={
            "instances_given": len(instances),
            "chosen_by": choice.chosen_by,
            "left_out": list(choice.left_out),
            "pictures": pictures,
            "resize": "none here",
        },
        incomplete=tuple(dict.fromkeys(incomplete)),
        key_images=tuple(range(len(images))),
    )


def _choose(instances: Sequence[InstanceFile], at_most: int) -> _Choice:
    if all(instance.header.modality in _STACKED for instance in instances) and len(instances) > 1:
        stack = slice_stack(instances)
        if stack.slices:
            return _middle_slice(stack)
    ordered = sorted(instances, key=_place)
    if len(ordered) <= at_most:
        return _Choice(tuple(ordered), "all images of the series", ())
    shown = tuple(ordered[number * len(ordered) // at_most] for number in range(at_most))
    said = f"only {len(shown)} of {len(ordered)} images of the series {'was' if at_most == 1 else 'were'} shown"
    return _Choice(shown, "evenly spread by InstanceNumber", (said,))


def _middle_slice(stack: SliceStack) -> _Choice:
    count = len(stack.slices)
    middle = count // 2
    said = [f"only slice {middle + 1} of {count}, the middle one, was shown"] if count > 1 else []
    by = "position" if stack.positions_mm else "InstanceNumber"
    return _Choice((stack.slices[middle].instance,), f"middle slice by {by}", (*said, *stack.problems), stack.left_out)


def _picture(image: ImageAttributes, frame: Frame, index: int) -> tuple[RgbImage, dict[str, Any]]:
    """Return a frame as RGB, and how its values became shades."""
    if image.photometric == "PALETTE COLOR":
        return _eight_bits(image, _looked_up(image, frame)), {"colour": "palette applied"}
    if frame.ndim == 3:
        return _eight_bits(image, frame), {"colour": f"as stored, {image.photometric}"}
    if not header_windows(image, index) and image.dataset.get("VOILUTSequence"):
        return grey_to_rgb(_through_voi_lut(image, frame, index)), {"voi_lut": "VOILUTSequence, first item"}
    grey, window = display_picture(image, frame, index)
    return grey_to_rgb(grey), {"window": window.to_json()}


def _looked_up(image: ImageAttributes, frame: Frame) -> Frame:
    try:
        return apply_color_lut(frame, image.dataset)
    except Exception as error:
        raise image.error(f"its palette cannot be applied ({error})", "check the original") from error


def _eight_bits(image: ImageAttributes, frame: NDArray[Any]) -> RgbImage:
    """Return colours as uint8; deeper ones lose their lower bits."""
    if frame.ndim != 3 or frame.shape[2] != 3:
        raise image.error(f"its colours have the shape {frame.shape}, not three planes", "send it as RGB or grey scale")
    if frame.dtype == np.uint8:
        return np.ascontiguousarray(frame)
    bits = 16 if image.photometric == "PALETTE COLOR" else image.bits_stored
    shift = max(0, bits - 8)
    return np.asarray(np.clip(frame.astype(np.int64) >> shift, 0, 255), dtype=np.uint8)


def _through_voi_lut(image: ImageAttributes, frame: Frame, index: int) -> Grey:
    """Return a frame through the file's first VOI LUT (PS3.3 C.11.2.1.1): DX images often have nothing else."""
    values = np.round(modality_values(image, frame, index)).astype(np.int64)
    try:
        bits = int(image.dataset.VOILUTSequence[0].LUTDescriptor[2])
        shades = np.asarray(apply_voi(values, image.dataset), dtype=np.float32)
    except Exception as error:
        raise image.error(f"its VOI LUT cannot be applied ({error})", "check the original") from error
    grey = np.asarray(np.round(np.clip(shades / (2**bits - 1), 0, 1) * 255), dtype=np.uint8)
    if image.photometric == "MONOCHROME1":
        grey = 255 - grey
    grey[padding_mask(image, frame)] = 0
    return grey


def _place(instance: InstanceFile) -> tuple[float, str]:
    number = instance.header.instance_number
    return (math.inf if number is None else number), instance.header.sop_instance_uid


def _source(instance: InstanceFile, image: ImageAttributes, index: int) -> SourceFrames:
    header = instance.header
    # A single-frame image has no frame numbers to refer to (PS3.3 C.18.3: only for multi-frame).
    numbers = (index + 1,) if image.frames > 1 else ()
    return SourceFrames(header.sop_class_uid, header.sop_instance_uid, header.series_instance_uid, numbers)


def _how_made(image: ImageAttributes, index: int, how: dict[str, Any]) -> dict[str, Any]:
    return {
        "frame": index + 1,
        "frames": image.frames,
        "transfer_syntax": str(image.transfer_syntax),
        "photometric_interpretation": image.photometric,
        "rows": image.rows,
        "columns": image.columns,
        **how,
    }
