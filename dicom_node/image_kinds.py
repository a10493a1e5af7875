"""What a picture of a CT, MR or PET series is, beside an acquired slice: header facts in, a kind out.

Input: SOP class and ImageType (PS3.3 C.7.6.1.1.2, C.8.2.1.1.1, C.8.16.1), of an enhanced image's frame FrameType and
VolumeBasedCalculationTechnique (C.8.16.2). Output: `ImageKind`. It cannot fail: what
names itself nothing else is a slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

#: Secondary Capture, single-frame and multi-frame: pages of text or pictures of the screen, also as modality CT.
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "SCANOGRAM"})
_PAGES = frozenset(
    {"SCREEN SAVE", "SCREENSAVE", "SCREEN_SAVE", "SCREEN", "DOSE_INFO", "DOSE INFO", "DOSE REPORT", "DOSE", "PROTOCOL"}
)
_REFORMATTED = frozenset({"MPR", "REFORMATTED", "CPR", "MPR THIN", "RESAMPLED", "CURVED", "CURVED_MPR"})
_PROJECTIONS = frozenset(
    {"PROJECTION IMAGE", "MIP", "MINIP", "MNIP", "VRT", "VR", "SSD", "VOLUME RENDERING", "MAXIMUM", "MINIMUM", "MAX_IP"}
    | {"MIN_IP", "VOLUME_RENDER", "SURFACE_RENDER"}
)


class ImageKind(StrEnum):
    """What a picture is; the value is how it is said of one."""

    #: A slice as acquired, or derived without moving it.
    SLICE = "slice"
    #: Shows where the slices lie.
    LOCALIZER = "localizer"
    #: A dose report, protocol page or picture of the screen.
    PAGE = "dose or screen page"
    #: Cut out of a volume in another plane.
    REFORMATTED = "reformatted image (MPR)"
    #: Projected or rendered from a volume.
    PROJECTION = "projection (MIP or rendering)"


def kind_of(sop_class_uid: str, image_type: Sequence[str]) -> ImageKind:
    """Return what a picture is."""
    words = {word.upper() for word in image_type}
    if words & _LOCALIZERS:
        return ImageKind.LOCALIZER
    # Siemens names its protocol pages CT_SOM5 PROT, CT_SOM7 PROT, ...
    if _is_secondary_capture(sop_class_uid) or words & _PAGES or any(word.endswith(" PROT") for word in words):
        return ImageKind.PAGE
    if "DERIVED" in words and words & _PROJECTIONS:
        return ImageKind.PROJECTION
    if "DERIVED" in words and words & _REFORMATTED:
        return ImageKind.REFORMATTED
    return ImageKind.SLICE


def _is_secondary_capture(sop_class_uid: str) -> bool:
    return sop_class_uid == _SECONDARY_CAPTURE or sop_class_uid.startswith(f"{_SECONDARY_CAPTURE}.")
