"""Frames of an XA run less their masks, as planned (Mask Module, PS3.3 C.7.6.10).

Input: the run and a `SubtractionPlan` of one of its frames (`dicom_node.mask_module`). Output: subtracted values
(float32) that rise where the stored values rise, so that they are shaded in the image's own polarity. A frame that
cannot be decoded raises `PixelError`.

Linear intensities are subtracted as logarithms (C.7.6.10.1, PS3.4 N.2.1.2): X-rays are weakened by a factor, so only
the difference of logarithms is the vessel's absorption alone, the same in front of bone and of air. Other values are
taken as they are: LOG is logarithmic already, and DISP was made for the eye by its writer. An enhanced image can bring
a table that makes logarithms of its values; then that one is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.look_up_tables import read_look_up_table
from dicom_node.mask_module import SubtractionPlan, absorbs_when_higher, to_log_table
from dicom_node.modality import Values
from dicom_node.pixels import Frame, ImageAttributes, read_frames

#: Gives the frames (counted from 0) of a run in the order asked for.
FrameReader = Callable[[ImageAttributes, Sequence[int]], Iterable[Frame]]

#: Logarithms are scaled to this many steps per factor of e, so that whole numbers tell them apart.
LOGARITHM_SCALE: Final = 1000.0
#: A run whose frames have a mask each keeps the last few only; runs of one mask never need more.
_MASKS_KEPT: Final = 4


class Subtractor:
    """Subtracts frames of one run; a mask is made once and kept while the frames that share it come."""

    def __init__(self, image: ImageAttributes, read: FrameReader = read_frames) -> None:
        self._image = image
        self._read = read
        self._masks: dict[tuple[object, ...], Values] = {}

    def subtract(self, plan: SubtractionPlan, frame: Frame | None = None) -> Values:
        """Return a frame less its mask: (rows, columns).

        Args:
            plan: The frame's own.
            frame: Its stored values, where they are at hand; else they are read.

        Raises:
            PixelError: A frame or mask cannot be decoded.
        """
        if frame is None or len(plan.contrast_frames) > 1:
            contrast = self._mean(plan.contrast_frames, plan)
        else:
            contrast = self._domain(frame, plan, plan.contrast_frames[0])
        return contrast - self._mask(plan)

    def _mask(self, plan: SubtractionPlan) -> Values:
        key = (plan.mask_frames, plan.mask_shift, plan.logarithmic, plan.log_table)
        if key not in self._masks:
            while len(self._masks) >= _MASKS_KEPT:
                self._masks.pop(next(iter(self._masks)))
            self._masks[key] = shifted(self._mean(plan.mask_frames, plan), plan.mask_shift)
        return self._masks[key]

    def _mean(self, numbers: Sequence[int], plan: SubtractionPlan) -> Values:
        total = np.zeros((self._image.rows, self._image.columns), dtype=np.float32)
        frames = self._read(self._image, [number - 1 for number in numbers])
        for number, frame in zip(numbers, frames, strict=True):
            total += self._domain(frame, plan, number)
        return (total / np.float32(len(numbers))).astype(np.float32, copy=False)

    def _domain(self, frame: NDArray[Any], plan: SubtractionPlan, number: int) -> Values:
        """Return what is subtracted of a frame, counted from 1."""
        if plan.log_table:
            return self._looked_up(frame, number)
        values = frame.astype(np.float32)
        if not plan.logarithmic:
            return values
        if absorbs_when_higher(self._image):
            # Higher values then mean less intensity: its logarithm is of what is left of the largest value.
            return -_logarithm(np.float32(2.0**self._image.bits_stored - 1) - values)
        return _logarithm(values)

    def _looked_up(self, frame: NDArray[Any], number: int) -> Values:
        """Return a frame's logarithms by its own table, turned so that they rise where the stored values rise."""
        image = self._image
        item = to_log_table(image, number - 1)
        if item is None:
            raise image.error(f"frame {number} has no table that makes logarithms", "plan its subtraction again")
        try:
            table = read_look_up_table(
                item, "LUTData", little_endian=image.transfer_syntax.is_little_endian, signed=image.is_signed
            )
        except ValueError as error:
            raise image.error(f"its table of logarithms cannot be applied ({error})", "check the original") from error
        values = table.look_up(frame).astype(np.float32)
        return values if table.entries[-1] >= table.entries[0] else -values


def shifted(mask: Values, shift: tuple[float, float]) -> Values:
    """Return a mask moved so many rows down and so many columns to the left, by cubic splines between pixels.

    PS3.3 C.7.6.10.1.2 gives the row part first; it is positive towards the lower row of the picture, the column part
    towards its left-hand column. Border pixels are repeated into what the mask leaves free.
    """
    down, left = shift
    if not down and not left:
        return mask
    # A fifth of a second to import, and few masks are shifted.
    from scipy import ndimage

    return np.asarray(ndimage.shift(mask, (down, -left), order=3, mode="nearest"), dtype=np.float32)


def _logarithm(intensity: NDArray[np.float32]) -> Values:
    return np.asarray(np.log(np.maximum(intensity, 1.0)) * LOGARITHM_SCALE, dtype=np.float32)
