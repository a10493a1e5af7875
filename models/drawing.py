"""A recipe + stored instances -> the very pixels the model sees, the first time and every time after.

Input: pictures that a renderer chose, and the instances they name. Output: `Drawn`: RGB images, the recipe with every
window as a number, and how each instance was decoded. Each instance is read once, front to back; what is held at a time
is the finished pictures and one frame. On failure: `RenderError`, naming the instance, the reason and the remedy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dicom_node.display import (
    Grey,
    VoiLut,
    Window,
    colours,
    grey_to_rgb,
)
from dicom_node.headers import InstanceFile
from dicom_node.overlays import overlays
from dicom_node.picture_areas import black_outside, burned_in_annotation
from dicom_node.pixels import Frame, FrameReader, ImageAttributes, PixelError, read_image
from dicom_node.report import SourceFrames
from dicom_node.slides import read_region
from dicom_node.subtraction import Subtractor
from dicom_node.video import Video, is_video, read_video, read_video_frames
from models.generation import RgbImage
from models.plane_shading import shade_plane
from models.recipe import Filter, FrameOf, Picture, Plane, Recipe, Size
from models.rendering import InputRecord, ModelInput, RenderError, images_digest

_FILTERS = {Filter.BILINEAR: Image.Resampling.BILINEAR, Filter.BICUBIC: Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True)
class Drawn:
    """What came of a recipe."""

    #: RGB, uint8, (rows, columns, 3), in the order of the recipe.
    images: tuple[RgbImage, ...]
    #: The same recipe with the windows that were found: following it again gives the same pixels.
    recipe: Recipe
    #: JSON-ready facts about each instance: its transfer syntax, its size and form, and the decoders.
    instances: Mapping[str, Mapping[str, Any]]


def draw(recipe: Sequence[Picture], instances: Sequence[InstanceFile]) -> Drawn:
    """Make the pixels of a recipe.

    Args:
        recipe: Pictures of these instances' frames.
        instances: All that the recipe names; others are not opened.

    Raises:
        RenderError: An instance is missing, or a frame cannot be decoded or shown as the recipe says.
    """
    where = {instance.header.sop_instance_uid: instance for instance in instances}
    wanted: dict[str, set[FrameOf]] = defaultdict(set)
    for picture in recipe:
        for of in picture.frames:
            # The tiles of a region are decoded when it is put together; here their instance is but opened.
            wanted[of.sop_instance_uid] |= set() if picture.region else {of}
    planes = {plane for picture in recipe for plane in picture.planes}
    in_colour = {picture.colour for picture in recipe if picture.colour is not None}
    shaded: dict[Plane, tuple[Grey, Window | VoiLut]] = {}
    coloured: dict[FrameOf, RgbImage] = {}
    facts: dict[str, Mapping[str, Any]] = {}
    for uid, frames in wanted.items():
        if uid not in where:
            raise RenderError(f"the instance {uid} is not among those given; send it again, or restore it")
        try:
            source = _Opened(where[uid])
            for of, frame in source.frames(frames) if frames else ():
                if of in in_colour:
                    coloured[of] = colours(source.image, frame)
                for plane in planes:
                    if plane.of == of:
                        shaded[plane] = shade_plane(source.image, source.subtractor, frame, plane)
        except PixelError as error:
            raise RenderError(str(error)) from error
        facts[uid] = source.facts()
    files = {uid: where[uid].path for uid in wanted}
    return Drawn(
        images=tuple(_finished(picture, _content(picture, shaded, coloured, files)) for picture in recipe),
        recipe=tuple(_resolved(picture, shaded) for picture in recipe),
        instances=facts,
    )


def drawn_input(
    recipe: Sequence[Picture],
    instances: Sequence[InstanceFile],
    *,
    record: Mapping[str, Any],
    incomplete: Sequence[str] = (),
    key_images: Sequence[int] | None = None,
) -> ModelInput:
    """Make the pixels of a recipe, and the model input around them.

    Args:
        recipe: As chosen; at least one picture.
        instances: All that the recipe names.
        record: How it was chosen; what was found while drawing is added as `instances`.
        incomplete: Sentences that make the input incomplete or doubtful.
        key_images: Indices of the images a person should be shown first; all where they are None.

    Raises:
        RenderError: See `draw`.
    """
    drawn = draw(recipe, instances)
    headers = {instance.header.sop_instance_uid: instance.header for instance in instances}
    several = {uid for uid, facts in drawn.instances.items() if facts["frames"] > 1}

    def source(uid: str, frames: set[int]) -> SourceFrames:
        # A single-frame image has no frame numbers to refer to (PS3.3 C.18.3: only for multi-frame).
        numbers = tuple(sorted(frames)) if uid in several else ()
        return SourceFrames(headers[uid].sop_class_uid, uid, headers[uid].series_instance_uid, numbers)

    used: dict[str, set[int]] = defaultdict(set)
    for picture in recipe:
        for of in picture.frames:
            used[of.sop_instance_uid].add(of.frame)
    return ModelInput(
        images=drawn.images,
        image_sources=tuple(source(one.shown.sop_instance_uid, {one.shown.frame}) for one in recipe),
        sources=tuple(source(uid, frames) for uid, frames in used.items()),
        record={**record, "instances": _grouped(drawn.instances)},
        incomplete=tuple(dict.fromkeys((*incomplete, *_lies(drawn.instances), *_writing(recipe, drawn.instances)))),
        key_images=tuple(range(len(recipe)) if key_images is None else key_images),
        recipe=drawn.recipe,
    )


def replay(record: InputRecord, instances: Sequence[InstanceFile]) -> tuple[RgbImage, ...]:
    """Return the very images that the model saw, made again from the recipe that was kept.

    Raises:
        RenderError: An instance is missing or cannot be read any more, or the pixels are not the same.
    """
    images = draw(record.recipe, instances).images
    check_digest(images, record.digest)
    return images


def check_digest(images: Sequence[RgbImage], seen: str) -> None:
    """Compare images with the digest of those that the model saw. Raises `RenderError` where they differ."""
    if (digest := images_digest(images)) != seen:
        raise RenderError(
            f"the images, drawn again, differ from those the model saw (digest {digest[:12]} instead of {seen[:12]}): "
            "retry the job, and check what was upgraded since it ran"
        )


def _lies(instances: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what shows that a header is wrong about its pixels: then nobody knows what was shown."""
    lying = [uid for uid, facts in instances.items() if "surplus" in facts]
    if lying:
        others = f" ({len(lying) - 1} more are alike)" if len(lying) > 1 else ""
        yield f"the pixel data of instance {lying[0]} {instances[lying[0]]['surplus']}{others}"


def _writing(recipe: Sequence[Picture], instances: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield that there is writing in the pixels shown, as their header says; where only an area is shown, without."""
    shown = {of.sop_instance_uid for picture in recipe if picture.only is None for of in picture.frames}
    written = [uid for uid, facts in instances.items() if uid in shown and "burned_in_annotation" in facts]
    if written:
        others = f" ({len(written) - 1} more are alike)" if len(written) > 1 else ""
        yield (
            f"instance {written[0]} has writing in its pixels, as its header says (BurnedInAnnotation){others}: it may "
            "name the patient, and the model may take it for a finding"
        )


def _grouped(instances: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each set of facts once, with the instances that it is true of: the slices of a series are alike."""
    groups: list[dict[str, Any]] = []
    for uid, facts in instances.items():
        for group in groups:
            if group == {**facts, "sop_instance_uids": group["sop_instance_uids"]}:
                group["sop_instance_uids"].append(uid)
                break
        else:
            groups.append({**facts, "sop_instance_uids": [uid]})
    return groups


class _Opened:
    """One instance, opened: an image with frames of its own, or one video stream."""

    def __init__(self, instance: InstanceFile) -> None:
        self._video: Video | None = None
        if is_video(instance.header.transfer_syntax_uid):
            self._video = read_video(instance.path)
            self.image: ImageAttributes = self._video.image
        else:
            self.image = read_image(instance.path)
        self._reader = FrameReader(self.image)
        self.subtractor = Subtractor(self.image, lambda _image, indices: self._reader.frames(indices))

    def frames(self, wanted: Iterable[FrameOf]) -> Iterator[tuple[FrameOf, Frame]]:
        """Yield the stored values of frames, decoded, in ascending order."""
        ordered = sorted(wanted, key=lambda of: of.frame)
        indices = [of.frame - 1 for of in ordered]
        decoded = self._reader.frames(indices) if self._video is None else read_video_frames(self._video, indices)
        yield from zip(ordered, decoded, strict=True)

    def facts(self) -> dict[str, Any]:
        """Return what a person needs to do the same by other means."""
        image = self.image
        facts: dict[str, Any] = {
            "transfer_syntax": str(image.transfer_syntax),
            "photometric_interpretation": image.photometric,
            "rows": image.rows,
            "columns": image.columns,
            "frames": image.frames,
            # An enhanced image has its rescale in the functional groups (PS3.3 C.7.6.16.2.9).
            "rescaled": bool({"RescaleIntercept", "PerFrameFunctionalGroupsSequence"} & set(image.dataset.dir())),
        }
        if (video := self._video) is not None:
            facts |= {"rows": video.rows, "columns": video.columns, "frames": video.frames}
            facts |= {"codec": video.codec, "container": video.container}
        if self._reader.decoders:
            facts["decoders"] = list(self._reader.decoders)
        if surplus := self._reader.surplus:
            facts["surplus"] = surplus
        # Writing and drawings over the picture (PS3.3 C.9.2): viewers show them, the models learned without.
        if drawn_over := len(overlays(image)):
            facts["overlays_not_drawn"] = drawn_over
        if burned_in_annotation(image):
            facts["burned_in_annotation"] = "YES"
        return facts


def _content(
    picture: Picture,
    shaded: Mapping[Plane, tuple[Grey, Window | VoiLut]],
    coloured: Mapping[FrameOf, RgbImage],
    files: Mapping[str, Path],
) -> RgbImage:
    """Return what a picture shows, at its own size."""
    if picture.region is not None:
        try:
            return read_region(files, picture.region)
        except PixelError as error:
            raise RenderError(str(error)) from error
    if picture.colour is not None:
        return coloured[picture.colour]
    greys = [shaded[plane][0] for plane in picture.planes]
    if len(greys) == 1:
        return grey_to_rgb(greys[0])
    if len(sizes := {grey.shape for grey in greys}) > 1:
        raise RenderError(f"the slices have {len(sizes)} different matrix sizes; send one reconstruction")
    return np.stack(greys, axis=-1)


def _finished(picture: Picture, image: RgbImage) -> RgbImage:
    if picture.only is not None:
        image = black_outside(image, picture.only)
    return image if picture.size is None else _resized(image, picture.size)


def _resized(image: RgbImage, size: Size) -> RgbImage:
    resized = Image.fromarray(image).resize((size.columns, size.rows), _FILTERS[size.by])
    return np.asarray(resized, dtype=np.uint8)


def _resolved(picture: Picture, shaded: Mapping[Plane, tuple[Grey, Window | VoiLut]]) -> Picture:
    planes = tuple(replace(plane, shading=shaded[plane][1]) for plane in picture.planes)
    return replace(picture, planes=planes)
