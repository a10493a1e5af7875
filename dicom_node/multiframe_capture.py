"""Key images + report -> one Multi-frame True Color Secondary Capture: a picture book that a viewer scrolls through.

Input: RGB images with their source frames, and the `Report`. Output: one object (PS3.3 A.8.5) whose frames each carry
the banner, all of one size, the same for the same input. On failure `PictureError` or `EvidenceError` names the input
and the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage

from dicom_node.capture import captured, mark_capture, put_pixels
from dicom_node.evidence import evidence_header
from dicom_node.picture import PictureError, RgbArray
from dicom_node.placement import Placement, begin_result, merged
from dicom_node.report import Person, Report, SourceFrames

#: How long a viewer that plays the frames shows each, in milliseconds.
_FRAME_TIME_MS: Final = 2000


@dataclass(frozen=True, slots=True)
class KeyImage:
    """An RGB image (uint8, rows x columns x 3) and the source frames that it shows."""

    image: RgbArray
    source: SourceFrames


def build_multiframe_capture(
    key_images: Sequence[KeyImage],
    report: Report,
    source: Path | Dataset,
    place: Placement,
    *,
    reviewer: Person | None = None,
    edited: bool = False,
) -> Dataset:
    """Return all key images of an answer as one object.

    `source` is the instance of the first image; its header names patient and study. Raises `PictureError`,
    `EvidenceError`.
    """
    if not key_images:
        raise PictureError("there is no key image to show")
    header = evidence_header(source)
    sources = [entry.source for entry in key_images]
    pictures = [
        captured(entry.image, report, (entry.source,), reviewer=reviewer, edited=edited) for entry in key_images
    ]
    sop_class = MultiFrameTrueColorSecondaryCaptureImageStorage
    ds = begin_result(sop_class, header, report, place, modality="OT", kind="AI key images")  # codespell:ignore ot
    mark_capture(ds, header, report, merged(sources), reviewer=reviewer, edited=edited)
    put_pixels(ds, _of_one_size(pictures))
    ds.NumberOfFrames = len(pictures)
    if len(pictures) > 1:  # a single frame may not have a pointer (type 1C, PS3.3 C.8.6.3)
        ds.FrameIncrementPointer = Tag("FrameTime")
        ds.FrameTime = str(_FRAME_TIME_MS)
    return ds


def _of_one_size(pictures: Sequence[RgbArray]) -> RgbArray:
    """Stack pictures, filled up with black to the right and below (uint8, frames x rows x columns x 3)."""
    rows, columns = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    stack = np.zeros((len(pictures), rows, columns, 3), np.uint8)
    for number, picture in enumerate(pictures):
        stack[number, : picture.shape[0], : picture.shape[1]] = picture
    return stack
