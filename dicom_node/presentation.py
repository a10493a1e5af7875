"""Report + grey-scale sources -> Grayscale Softcopy Presentation States: outlines and warnings over the source itself.

Input: a `Report`, the frames to show and their instances. Output: one presentation state (PS3.3 A.33.1) for each group
of frames that one state can describe: of one series, of one size, with one modality LUT. Colour images, videos and
enhanced multi-frame images get none: their presentation states are others, and few viewers show those. On failure
`EvidenceError` names the input and the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage
from pydicom.valuerep import DSfloat

from dicom_node.evidence import evidence_header, read_source, uid_of
from dicom_node.frame_attributes import items, numbers, text
from dicom_node.headers import OWN_MANUFACTURER
from dicom_node.marking import clean_text, shorten, statements_of
from dicom_node.picture import verification_line
from dicom_node.placement import Placement, begin_result, by_series, merged, reference
from dicom_node.report import Person, Region, Report, SourceFrames

_OUTLINES, _WARNINGS = "OUTLINES", "WARNINGS"
#: Longest ST (PS3.5 6.2).
_SHORT_TEXT: Final = 1024
#: CIELab of cyan and amber as PCS values (PS3.3 C.10.7.1.1), as near as a grey-scale viewer's palette comes to them.
_CYAN: Final = (59769, 20566, 29298)
_AMBER: Final = (54615, 36194, 49344)


@dataclass(frozen=True, slots=True)
class _Shown:
    """Frames of one instance, with its header."""

    frames: SourceFrames
    header: Dataset


def build_presentations(
    report: Report,
    sources: Sequence[Path | Dataset],
    frames: Sequence[SourceFrames],
    place: Callable[[int], Placement],
    *,
    reviewer: Person | None = None,
    edited: bool = False,
) -> list[Dataset]:
    """Return the presentation states of `frames`; none where no source can have one.

    Args:
        report: What it says is written over the frames, and the regions among them are outlined.
        sources: The instances of the frames.
        frames: What to show.
        place: Gives the UIDs and numbers of the first, second ... state (counted from 0).
        reviewer: Who reviewed.
        edited: The reviewer changed the findings.

    Raises:
        EvidenceError: A source lacks a UID.
    """
    said = "\n".join((report.headline, verification_line(reviewer, edited=edited), *statements_of(report)))
    groups = _groups(sources, frames)
    return [_state(report, group, place(number), said) for number, group in enumerate(groups)]


def _groups(sources: Sequence[Path | Dataset], frames: Sequence[SourceFrames]) -> list[list[_Shown]]:
    headers = {uid_of(ds, "SOPInstanceUID"): ds for ds in map(read_source, sources)}
    found: dict[tuple[object, ...], list[_Shown]] = {}
    for entry in merged(frames):
        header = headers.get(entry.sop_instance_uid)
        if header is not None and _is_grey(header):
            key = (entry.series_instance_uid, header.Rows, header.Columns, *_shape(header), *_rescale(header))
            found.setdefault((*key, header.PhotometricInterpretation), []).append(_Shown(entry, header))
    return list(found.values())


def _is_grey(header: Dataset) -> bool:
    """Tell whether a grey-scale state can refer to this image (PS3.4 N.2): one sample, no functional groups."""
    grey = header.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
    enhanced = "SharedFunctionalGroupsSequence" in header or "PerFrameFunctionalGroupsSequence" in header
    # A state without the table would show other values than the image does, and few viewers read one from a state.
    by_table = bool(items(header, "ModalityLUTSequence")) and not _is_logarithmic(header)
    return grey and not enhanced and not by_table and bool(header.get("Rows")) and bool(header.get("Columns"))


def _is_logarithmic(header: Dataset) -> bool:
    """Tell whether a modality LUT would lead away from what is displayed (XA, PS3.4 N.2.1.2)."""
    return text(header, "PixelIntensityRelationship") == "LOG"


def _state(report: Report, group: Sequence[_Shown], place: Placement, said: str) -> Dataset:
    first = group[0].header
    header = evidence_header(first)
    kind = "AI annotations"
    ds = begin_result(GrayscaleSoftcopyPresentationStateStorage, header, report, place, modality="PR", kind=kind)
    ds.PresentationCreationDate, ds.PresentationCreationTime = ds.ContentDate, ds.ContentTime
    del ds.ContentDate, ds.ContentTime
    # Unknown is said, not left out: nobody knows that the body part has no side (type 2C, PS3.3 C.7.3.1).
    sides = (str(header.get(keyword, "")) for keyword in ("ImageLaterality", "Laterality"))
    ds.Laterality = next((side for side in sides if side in ("R", "L")), "")
    ds.ContentLabel, ds.ContentDescription = "AI ANNOTATIONS", shorten(report.title)
    ds.ContentCreatorName = OWN_MANUFACTURER
    shown = [entry.frames for entry in group]
    series_items = []
    for series_instance_uid, entries in by_series(shown).items():
        series = Dataset()
        series.ReferencedImageSequence = DicomSequence([reference(entry) for entry in entries])
        series.SeriesInstanceUID = series_instance_uid
        series_items.append(series)
    ds.ReferencedSeriesSequence = DicomSequence(series_items)
    _put_displayed_area(ds, first)
    _put_annotations(ds, report, shown, said)
    _put_mask(ds, first)
    _put_shading(ds, group)
    return ds


def _put_displayed_area(ds: Dataset, header: Dataset) -> None:
    """Displayed Area module (PS3.3 C.10.4): the whole image, fitted to the screen."""
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [header.Columns, header.Rows]
    area.PresentationSizeMode = "SCALE TO FIT"
    keyword, values = _shape(header)
    setattr(area, keyword, list(values))
    ds.DisplayedAreaSelectionSequence = DicomSequence([area])


def _shape(header: Dataset) -> tuple[str, tuple[float, ...]]:
    """Return the attribute that says how long and how wide a pixel is."""
    spacing = numbers(header, "PixelSpacing")
    if len(spacing) == 2 and min(spacing) > 0:
        return "PresentationPixelSpacing", tuple(spacing)
    ratio = [round(value) for value in numbers(header, "PixelAspectRatio")]
    return "PresentationPixelAspectRatio", tuple(ratio) if len(ratio) == 2 and min(ratio) > 0 else (1, 1)


def _put_annotations(ds: Dataset, report: Report, shown: Sequence[SourceFrames], said: str) -> None:
    """Graphic Annotation and Graphic Layer modules (PS3.3 C.10.5, C.10.7)."""
    annotations = [_warnings(said)]
    for entry in shown:
        regions = [f.region for f in report.findings if f.region is not None and _lies_on(f.region, entry)]
        annotations += [_outline(region) for region in regions]
    ds.GraphicAnnotationSequence = DicomSequence(annotations)
    layers = []
    for number, (name, color) in enumerate(((_WARNINGS, _AMBER), (_OUTLINES, _CYAN)), start=1):
        layer = Dataset()
        layer.GraphicLayer, layer.GraphicLayerOrder = name, number
        layer.GraphicLayerRecommendedDisplayCIELabValue = list(color)
        if name == _WARNINGS or len(annotations) > 1:
            layers.append(layer)
    ds.GraphicLayerSequence = DicomSequence(layers)


def _lies_on(region: Region, entry: SourceFrames) -> bool:
    source = region.source
    same = source.sop_instance_uid == entry.sop_instance_uid
    return same and set(source.frame_numbers) <= (set(entry.frame_numbers) or set(source.frame_numbers))


def _warnings(said: str) -> Dataset:
    """Return the answer and its warnings along the lower edge of the screen, for every image."""
    text = Dataset()
    text.BoundingBoxAnnotationUnits = "DISPLAY"
    text.UnformattedTextValue = clean_text(said).replace("\n", "\r\n")[:_SHORT_TEXT]
    text.BoundingBoxTopLeftHandCorner = [0.02, 0.78]
    text.BoundingBoxBottomRightHandCorner = [0.98, 0.98]
    text.BoundingBoxTextHorizontalJustification = "LEFT"
    annotation = Dataset()
    annotation.GraphicLayer = _WARNINGS
    annotation.TextObjectSequence = DicomSequence([text])
    return annotation


def _outline(region: Region) -> Dataset:
    """Return a closed outline with its label; coordinates are the region's own (PS3.3 C.10.5.1.2, C.18.6.1.1)."""
    points = [*region.outline, region.outline[0]]
    graphic = Dataset()
    graphic.GraphicAnnotationUnits, graphic.GraphicDimensions = "PIXEL", 2
    graphic.NumberOfGraphicPoints = len(points)
    graphic.GraphicData = [float(value) for point in points for value in point]
    graphic.GraphicType, graphic.GraphicFilled = "POLYLINE", "N"
    label = Dataset()
    label.AnchorPointAnnotationUnits = "PIXEL"
    label.UnformattedTextValue = shorten(region.label) or "region"
    label.AnchorPoint = [float(value) for value in min(region.outline, key=lambda point: (point[1], point[0]))]
    label.AnchorPointVisibility = "N"
    annotation = Dataset()
    annotation.ReferencedImageSequence = DicomSequence([reference(region.source)])
    annotation.GraphicLayer = _OUTLINES
    annotation.TextObjectSequence = DicomSequence([label])
    annotation.GraphicObjectSequence = DicomSequence([graphic])
    return annotation


def _put_mask(ds: Dataset, header: Dataset) -> None:
    """Presentation State Mask module (PS3.3 C.11.13): subtract as the source recommends, or the vessel would be lost.

    A state holds one subtraction; a source with several, for ranges of frames, is shown as it is stored.
    """
    masks = items(header, "MaskSubtractionSequence")
    recommended = text(header, "RecommendedViewingMode") == "SUB"
    if not recommended or len(masks) != 1 or text(masks[0], "MaskOperation") not in ("AVG_SUB", "TID"):
        return
    mask = Dataset()
    mask.ContrastFrameAveraging = 1  # type 1 here; what a source that does not say it means
    for keyword in ("MaskOperation", "ContrastFrameAveraging", "MaskFrameNumbers", "MaskSubPixelShift", "TIDOffset"):
        if keyword in masks[0]:
            mask[keyword] = masks[0][keyword]
    ds.MaskSubtractionSequence = DicomSequence([mask])
    ds.RecommendedViewingMode = "SUB"


def _put_shading(ds: Dataset, group: Sequence[_Shown]) -> None:
    """Modality LUT, Softcopy VOI LUT and Softcopy Presentation LUT modules (PS3.3 C.11.1, C.11.8, C.11.6): as stored.

    What a source does not say is left out: the viewer then shows the full range, as it would without a state.
    """
    first = group[0].header
    intercept, slope, rescale_type = _rescale(first)
    if intercept is not None and slope is not None:
        ds.RescaleIntercept, ds.RescaleSlope = _decimal(intercept), _decimal(slope)
        ds.RescaleType = rescale_type
    shadings = []
    for entry in group:
        window = _window(entry.header)
        if window is not None:
            window.ReferencedImageSequence = DicomSequence([reference(entry.frames)])
            shadings.append(window)
    if shadings:
        ds.SoftcopyVOILUTSequence = DicomSequence(shadings)
    ds.PresentationLUTShape = "INVERSE" if first.PhotometricInterpretation == "MONOCHROME1" else "IDENTITY"


def _rescale(header: Dataset) -> tuple[float | None, float | None, str]:
    """Return intercept, slope and type of the rescale; (None, None, "") where there is none to apply."""
    intercept, slope = numbers(header, "RescaleIntercept"), numbers(header, "RescaleSlope")
    if not intercept or not slope or slope[0] == 0 or _is_logarithmic(header):
        return None, None, ""
    return intercept[0], slope[0], text(header, "RescaleType") or ("HU" if text(header, "Modality") == "CT" else "US")


def _window(header: Dataset) -> Dataset | None:
    """Return the first usable window of an image (PS3.3 C.11.2.1.2)."""
    centers, widths = numbers(header, "WindowCenter"), numbers(header, "WindowWidth")
    for center, width in zip(centers, widths, strict=False):
        if width >= 1:
            shading = Dataset()
            shading.WindowCenter, shading.WindowWidth = _decimal(center), _decimal(width)
            if (function := text(header, "VOILUTFunction")) in ("LINEAR_EXACT", "SIGMOID"):
                shading.VOILUTFunction = function
            return shading
    return None


def _decimal(value: float) -> DSfloat:
    """Return a number as a DS of at most 16 characters."""
    return DSfloat(value, auto_format=True)
