"""Mask subtraction of an XA run, where its header recommends it (Mask Module, PS3.3 C.7.6.10).

Input: the run's header and the frames to be shown. Output: a `Subtraction`, or none with the reason in words where the
header asks for something that is not done here; the frames are then shown unsubtracted and a person looks at them. Only
AVG_SUB is done, the mean of the mask frames; a mask that cannot be decoded raises `PixelError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.display import Values
from dicom_node.pixels import ImageAttributes, read_frames


@dataclass(frozen=True, slots=True)
class Subtraction:
    """The mean mask, ready to be subtracted."""

    #: Mean of the mask frames: logarithms where `logarithmic`, else stored values.
    mask: NDArray[np.float32]
    #: Linear detectors are subtracted as logarithms, because absorption multiplies (C.7.6.10.1).
    logarithmic: bool
    in_words: str

    def apply(self, frame: NDArray[Any]) -> Values:
        """Return the frame less the mask."""
        return _domain(frame, self.logarithmic) - self.mask


def find_subtraction(image: ImageAttributes, shown: Sequence[int]) -> tuple[Subtraction | None, str]:
    """Return the subtraction the header recommends, and why it is not done where it is asked for but cannot be.

    Args:
        image: The run.
        shown: The frames that will be shown, counted from 0.
    """
    operations = list(image.dataset.get("MaskSubtractionSequence") or [])
    # Without "SUB" the run is to be shown as it is: most are already subtracted, or never shall be.
    if image.dataset.get("RecommendedViewingMode") != "SUB" or not operations:
        return None, ""
    applicable = [operation for operation in operations if all(_covers(operation, index) for index in shown)]
    operation = applicable[0] if applicable else operations[0]
    kind = str(operation.get("MaskOperation", ""))
    if kind == "NONE":
        return None, ""
    if not applicable:
        return None, "the run's mask does not apply to the frames shown: they are not subtracted"
    if kind != "AVG_SUB":
        return None, f"the run asks for mask operation {kind or '(none named)'}, which is not done: not subtracted"
    masks = _frame_numbers(operation.get("MaskFrameNumbers"))
    if not masks or not all(1 <= number <= image.frames for number in masks):
        return None, "the run names no usable mask frames: not subtracted"
    shift = operation.get("MaskSubPixelShift")
    if shift is not None and any(float(part) != 0 for part in shift):
        return None, "the run asks for a shifted mask, which is not done: not subtracted"
    logarithmic = image.dataset.get("PixelIntensityRelationship") == "LIN"
    total = np.zeros((image.rows, image.columns), dtype=np.float32)
    for frame in read_frames(image, [number - 1 for number in masks]):
        total += _domain(frame, logarithmic)
    words = f"AVG_SUB of frames {', '.join(map(str, masks))}{', logarithmic' if logarithmic else ''}"
    return Subtraction((total / len(masks)).astype(np.float32), logarithmic, words), ""


def _domain(frame: NDArray[Any], logarithmic: bool) -> Values:
    values = frame.astype(np.float32)
    return np.asarray(np.log(np.maximum(values, 1.0)) * 1000.0, dtype=np.float32) if logarithmic else values


def _covers(operation: Dataset, index: int) -> bool:
    """Tell whether ApplicableFrameRange (pairs of first and last, counted from 1) covers a frame; absent covers all."""
    bounds = _frame_numbers(operation.get("ApplicableFrameRange"))
    if not bounds:
        return True
    return any(first <= index + 1 <= last for first, last in zip(bounds[::2], bounds[1::2], strict=False))


def _frame_numbers(value: Any) -> list[int]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, int) else [int(number) for number in value]
