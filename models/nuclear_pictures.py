"""PET and scintigraphy -> which frames are shown, and on what scale.

Input: stored instances, or the slices of a stack. Output: `Spread`, a `Window`, facts and doubts in words. On failure:
`PixelError`, where an instance cannot be read.

A scintigram's frames are no slices, unless the image is reconstructed: they are views by several heads, energies,
times or angles (PS3.3 C.8.4.8), of which the middle ones of equal parts are shown. Activity is shown from nothing to
the highest 99.5th percentile of any slice of the acquisition, after each slice's own rescale (PET has one for each,
C.8.9.1): what is dark in one picture is then dark beside what is bright in another, and one hot voxel hides nothing.
Activity is bright, as in the standard's MONOCHROME2; printing PET black on white is a habit of readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from dicom_node.display import Window, is_colour, modality_values, padding_mask
from dicom_node.frame_attributes import text, texts
from dicom_node.headers import InstanceFile, InstanceHeader
from dicom_node.pixels import ImageAttributes, PixelLimits, read_frames, read_image
from dicom_node.volumes import Slice

#: Values that this share of a slice's pixels are above are shown white, in percent.
_TAIL_PERCENT: Final = 0.5
#: Frames that are looked at for the scale; of more, evenly spread ones.
_MOST_FRAMES: Final = 256


@dataclass(frozen=True, slots=True)
class Spread:
    """Frames that stand for a scintigram."""

    shown: tuple[Slice, ...]
    chosen_by: str
    #: What is not shown, one sentence; empty where all is.
    incomplete: tuple[str, ...]
    #: The frames that share one scale; empty where each has its own.
    acquisition: tuple[Slice, ...]


def is_planar(header: InstanceHeader) -> bool:
    """Tell whether an instance's frames are views, times or angles of a scintigram rather than slices."""
    return header.modality == "NM" and not kind_of_scintigram(header).startswith("RECON")


def kind_of_scintigram(header: InstanceHeader) -> str:
    """Return ImageType value 3 (PS3.3 C.8.4.9.1.1): STATIC, DYNAMIC, WHOLE BODY, TOMO, RECON TOMO, ...; else ""."""
    return header.image_type[2].upper() if len(header.image_type) > 2 else ""


def spread_frames(instances: Sequence[InstanceFile], at_most: int) -> Spread:
    """Return the frames to show of planar instances, given in their order; at most so many."""
    most = PixelLimits().max_frames
    frames = [
        Slice(instance, frame)
        for instance in instances
        for frame in range(min(most, max(1, instance.header.number_of_frames or 1)))
    ]
    count = len(frames)
    kind = kind_of_scintigram(instances[0].header)
    named = f" of a {kind.lower()} scintigram" if kind else " of a scintigram"
    # Heads and energies of a static image count differently: each view has its own scale.
    together = () if kind == "STATIC" else tuple(frames)
    if count <= at_most:
        return Spread(tuple(frames), f"all frames{named}", (), together)
    shown = tuple(frames[(2 * part + 1) * count // (2 * at_most)] for part in range(at_most))
    said = f"only {at_most} of {count} frames{named} {'was' if at_most == 1 else 'were'} shown"
    return Spread(shown, f"the middle ones of equal parts{named}", (said,), together)


def activity_window(slices: Sequence[Slice]) -> Window | None:
    """Return the window from nothing to the most of an acquisition; None where it is in colour."""
    step = -(-len(slices) // _MOST_FRAMES)
    highest = 0.0
    images: dict[str, ImageAttributes] = {}
    for one in slices[::step]:
        uid = one.header.sop_instance_uid
        if uid not in images:
            images[uid] = read_image(one.instance.path)
        image = images[uid]
        (frame,) = read_frames(image, [one.frame])
        if is_colour(image):
            return None
        values = modality_values(image, frame, one.frame)[~padding_mask(image, frame)]
        if values.size:
            highest = max(highest, float(np.percentile(values, 100.0 - _TAIL_PERCENT)))
    # Where nothing is active all is black.
    highest = highest if highest > 0 else 1.0
    return Window(highest / 2, highest, "LINEAR_EXACT", "activity")


def nuclear_facts(image: ImageAttributes) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what a person needs to know of an image of activity, JSON-ready, and what is doubtful about it."""
    dataset = image.dataset
    corrected = texts(dataset, "CorrectedImage")
    facts = {"units": text(dataset, "Units"), "corrected": list(corrected)}
    doubts = []
    if corrected and "ATTN" not in corrected and text(dataset, "Modality") == "PT":
        doubts.append("the PET images are not corrected for attenuation: what lies near the skin looks too active")
    return {name: value for name, value in facts.items() if value}, tuple(doubts)
