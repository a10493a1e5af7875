"""What an XA run's header says about mask subtraction -> a plan for each frame (Mask Module, PS3.3 C.7.6.10).

Input: the run's header, classic or enhanced (C.8.19). Output: a frozen, JSON-able `SubtractionPlan`, or none with the
reason in words where the header asks for a subtraction that cannot be done; the frame is then shown as it is and a
person looks at it. Nothing fails. `dicom_node.subtraction` does what is planned.

A run is subtracted only where its RecommendedViewingMode is SUB; never where MaskOperation is NONE, where there is no
mask, and where it has been subtracted already.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from pydicom.dataset import Dataset

from dicom_node.frame_attributes import (
    frame_value,
    functional_group_items,
    items,
    number,
    numbers,
    text,
    texts,
    whole_numbers,
)
from dicom_node.pixels import ImageAttributes

#: Macro of enhanced images that says what a frame's pixel values mean (X-Ray Frame Pixel Data Properties, C.8.19.6).
_PIXELS_MEAN: Final = "FramePixelDataPropertiesSequence"
#: Derivation code of a subtracted image: "Pixel by pixel subtraction" (PS3.16 CID 7203).
_SUBTRACTED_CODE: Final = ("113062", "DCM")
_SUBTRACTED_WORD: Final = re.compile(r"\bDSA\b|\bSUB\b|subtract", re.IGNORECASE)
_NOT_SUBTRACTED_WORD: Final = re.compile(r"\b(un|non|not|no)[ _-]?(yet )?(sub|dsa)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SubtractionPlan:
    """How one frame is subtracted."""

    #: Contrast frames whose mean is subtracted from, counted from 1; the first is the frame itself.
    contrast_frames: tuple[int, ...]
    #: Frames whose mean is the mask, counted from 1.
    mask_frames: tuple[int, ...]
    #: How many rows the mask is moved down and how many columns to the left (C.7.6.10.1.2), as the header has it.
    mask_shift: tuple[float, float]
    #: Whether logarithms are subtracted: linear intensities need it, because absorption multiplies.
    logarithmic: bool
    #: AVG_SUB, TID or REV_TID.
    operation: str
    #: Whether the header's own table makes the logarithms (LUTFunction TO_LOG of an enhanced image).
    log_table: bool = False

    @property
    def in_words(self) -> str:
        """Say it in a few words, for people."""
        masks = ", ".join(map(str, self.mask_frames))
        words = f"{self.operation} of {'frames' if self.operation == 'AVG_SUB' else 'frame'} {masks}"
        if any(self.mask_shift):
            words += f" shifted by {self.mask_shift[0]:g} rows and {self.mask_shift[1]:g} columns"
        if len(self.contrast_frames) > 1:
            words += f", from the mean of {len(self.contrast_frames)} contrast frames"
        if self.log_table:
            return f"{words}, logarithmic by the header's table"
        return words + (", logarithmic" if self.logarithmic else "")

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-ready dictionary, for the record of what was done."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SubtractionPlan:
        """Rebuild a plan from `to_json`."""
        down, left = stored["mask_shift"]
        return cls(
            contrast_frames=tuple(int(number) for number in stored["contrast_frames"]),
            mask_frames=tuple(int(number) for number in stored["mask_frames"]),
            mask_shift=(float(down), float(left)),
            logarithmic=bool(stored["logarithmic"]),
            operation=str(stored["operation"]),
            log_table=bool(stored["log_table"]),
        )


def plan_subtraction(image: ImageAttributes, index: int) -> tuple[SubtractionPlan | None, str]:
    """Return how a frame (counted from 0) is to be subtracted, or None and why it is not where the header asks for it.

    The reason is "" where nothing is asked for: the frame is then right as it is.
    """
    operations = items(image.dataset, "MaskSubtractionSequence")
    # Without "SUB" the run is to be shown as it is: most are already subtracted, or never shall be.
    if text(image.dataset, "RecommendedViewingMode") != "SUB" or not operations:
        return None, ""
    if known_by := already_subtracted(image.dataset):
        return None, f"the run asks for subtraction but is subtracted already ({known_by}): not subtracted again"
    # Each frame belongs to one item at most (C.7.6.10); of several, the first.
    operation = next((one for one in operations if _covers(one, index + 1, image.frames)), None)
    if operation is None:
        if all(_kind(one) == "NONE" for one in operations):
            return None, ""
        return None, f"the run's mask does not apply to frame {index + 1}: it is not subtracted"
    if _kind(operation) == "NONE":
        return None, ""
    return _plan(image, operation, index)


def plan_subtractions(image: ImageAttributes, shown: Sequence[int]) -> tuple[tuple[SubtractionPlan, ...], str]:
    """Return plans for all frames that are shown together, or none of them and why: they must look alike.

    Args:
        image: The run.
        shown: The frames that will be shown, counted from 0.
    """
    found = [plan_subtraction(image, index) for index in shown]
    plans = tuple(plan for plan, _ in found if plan is not None)
    if len(plans) == len(found):
        return plans, ""
    why = next((reason for _, reason in found if reason), "")
    if plans and not why:
        why = "the run asks for a mask for some of the frames shown and for none for others: they are not subtracted"
    return (), why


def already_subtracted(dataset: Dataset) -> str:
    """Return what shows that a run was subtracted before it was sent; "" where nothing does.

    By the derivation code, else by ImageType, else by the description of its derivation. An original image is none.
    """
    for code in items(dataset, "DerivationCodeSequence"):
        if (text(code, "CodeValue"), text(code, "CodingSchemeDesignator")) == _SUBTRACTED_CODE:
            return f"derivation code {_SUBTRACTED_CODE[0]}"
    types = texts(dataset, "ImageType")
    for value in types[2:]:
        if _says_subtracted(value.replace("_", " ")):
            return f"ImageType {value}"
    described = text(dataset, "DerivationDescription")
    if types[:1] == ["DERIVED"] and _says_subtracted(described):
        return f"derivation: {described}"
    return ""


def pixel_intensity_relationship(image: ImageAttributes, index: int = 0) -> str:
    """Return what a frame's values are of the X-ray intensity: LIN, LOG, DISP; "" where the header does not say."""
    return str(frame_value(image.dataset, _PIXELS_MEAN, "PixelIntensityRelationship", index) or "")


def to_log_table(image: ImageAttributes, index: int = 0) -> Dataset | None:
    """Return a frame's Pixel Intensity Relationship LUT that makes logarithms (C.7.6.16.2), or None."""
    tables = functional_group_items(image.dataset, "PixelIntensityRelationshipLUTSequence", index)
    return next((table for table in tables if text(table, "LUTFunction") == "TO_LOG"), None)


def absorbs_when_higher(image: ImageAttributes, index: int = 0) -> bool:
    """Tell the sign of absorption: PixelIntensityRelationshipSign (PS3.3 C.8.11.3.1.2), else the polarity."""
    sign = frame_value(image.dataset, _PIXELS_MEAN, "PixelIntensityRelationshipSign", index)
    return sign == -1 if sign in (1, -1) else image.photometric == "MONOCHROME1"


def _plan(image: ImageAttributes, operation: Dataset, index: int) -> tuple[SubtractionPlan | None, str]:
    kind, own = _kind(operation), index + 1
    if kind not in ("AVG_SUB", "TID", "REV_TID"):
        return None, f"the run asks for mask operation {kind or '(none named)'}, which is not known: not subtracted"
    averages = kind == "AVG_SUB"
    masks = whole_numbers(operation, "MaskFrameNumbers") if averages else [own - _interval(operation, own)]
    if not masks or not all(1 <= mask <= image.frames for mask in masks):
        return None, "the run names no usable mask frames: not subtracted"
    # Only AVG_SUB averages (C.7.6.10.1.1): with the others a later frame has another mask.
    averaged = max(1, int(number(operation, "ContrastFrameAveraging", 1))) if averages else 1
    last = own + averaged - 1
    if last > image.frames:
        return None, f"the run ends before the {averaged} contrast frames to average from frame {own}: not subtracted"
    shift, why = _shift(image, operation, index)
    if why:
        return None, why
    relationship = pixel_intensity_relationship(image, index)
    log_table = relationship != "LOG" and to_log_table(image, index) is not None
    logarithmic = log_table or relationship == "LIN"
    return SubtractionPlan(tuple(range(own, last + 1)), tuple(masks), shift, logarithmic, kind, log_table), ""


def _interval(operation: Dataset, own: int) -> int:
    """Return how many frames before the contrast frame its mask lies (C.7.6.10.1.1); negative is after it."""
    offset = int(number(operation, "TIDOffset", 1))
    if _kind(operation) == "TID":
        return offset
    # REV_TID pairs a run with one of the opposite order: each further frame's mask lies two frames further back.
    first = next(iter(whole_numbers(operation, "ApplicableFrameRange")), 1)
    return offset + 2 * (own - first)


def _shift(image: ImageAttributes, operation: Dataset, index: int) -> tuple[tuple[float, float], str]:
    """Return the mask's shift: its own in the Frame Pixel Shift macro (C.7.6.16.2), else the item's."""
    shifted = operation
    per_frame = functional_group_items(image.dataset, "FramePixelShiftSequence", index)
    wanted = whole_numbers(operation, "SubtractionItemID")
    if wanted:
        shifted = next((one for one in per_frame if whole_numbers(one, "SubtractionItemID") == wanted), operation)
    found = numbers(shifted, "MaskSubPixelShift")
    if not found:
        return (0.0, 0.0), ""
    if len(found) != 2 or max(abs(found[0]) / image.rows, abs(found[1]) / image.columns) >= 1:
        return (0.0, 0.0), f"the run asks to shift its mask by {found}, which cannot be: not subtracted"
    return (found[0], found[1]), ""


def _covers(operation: Dataset, frame_number: int, frames: int) -> bool:
    """Tell whether an item applies to a frame: ApplicableFrameRange holds pairs of first and last, counted from 1.

    Without a range it applies to all frames whose mask and contrast frames are there (C.7.6.10.1.1).
    """
    bounds = whole_numbers(operation, "ApplicableFrameRange")
    if bounds:
        return any(first <= frame_number <= last for first, last in zip(bounds[::2], bounds[1::2], strict=False))
    if _kind(operation) == "TID":
        return 1 <= frame_number - _interval(operation, frame_number) <= frames
    return True


def _kind(operation: Dataset) -> str:
    return text(operation, "MaskOperation").upper()


def _says_subtracted(text: str) -> bool:
    return bool(_SUBTRACTED_WORD.search(text)) and not _NOT_SUBTRACTED_WORD.search(text)
