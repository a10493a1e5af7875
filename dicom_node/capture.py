"""Key image + report -> Secondary Capture: a picture every PACS can show, with the banner burnt in.

Input: an RGB image, the `Report` and the source instance it was taken from. Output: a Secondary Capture Image data set
(PS3.3 A.8.1), 8-bit RGB, uncompressed, the same for the same input. On failure `PictureError` or `EvidenceError` names
the input and the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import Comprehensive3DSRStorage, SecondaryCaptureImageStorage

from dicom_node import codes
from dicom_node.evidence import evidence_header
from dicom_node.headers import OWN_MANUFACTURER
from dicom_node.marking import OWN_VERSION, clean_text, concept, statements_of
from dicom_node.picture import RgbArray, render_picture, verification_line
from dicom_node.placement import Placement, begin_result, reference
from dicom_node.report import Person, Report, SourceFrames

#: Longest LT (PS3.5 6.2).
_LONG_TEXT: Final = 10240
#: Body parts without a side (PS3.16 annex L), the frequent ones.
_UNPAIRED: Final = frozenset(
    {"ABDOMEN", "AORTA", "BLADDER", "BRAIN", "CHEST", "COLON", "CSPINE", "HEAD", "HEART", "LIVER", "LSPINE", "NECK"}
    | {"PANCREAS", "PELVIS", "SKULL", "SPINE", "SPLEEN", "STOMACH", "TSPINE", "UTERUS"}
)
_DERIVATION: Final = "Image as shown to the AI model, with its answer and warnings burnt in below"


def build_capture(
    image: RgbArray,
    report: Report,
    source: Path | Dataset,
    *,
    sop_instance_uid: str,
    series_instance_uid: str,
    series_number: int,
    instance_number: int,
    shown: Sequence[SourceFrames] = (),
    reviewer: Person | None = None,
    edited: bool = False,
) -> Dataset:
    """Return the Secondary Capture of `image` (uint8, rows x columns x 3, RGB) with the report's banner.

    `source` is the instance the image was taken from; its header names patient and study. `shown` are the frames in the
    image (by default what the report says of `source`, else all its sources). Raises `PictureError`, `EvidenceError`.
    """
    header = evidence_header(source)
    frames = tuple(shown) or _frames_of(report, str(header.SOPInstanceUID))
    place = Placement(sop_instance_uid, series_instance_uid, series_number, instance_number)
    kind = "AI key images"
    ds = begin_result(
        SecondaryCaptureImageStorage,
        header,
        report,
        place,
        modality="OT",  # codespell:ignore ot
        kind=kind,
    )
    mark_capture(ds, header, report, frames, reviewer=reviewer, edited=edited)
    put_pixels(ds, captured(image, report, frames, reviewer=reviewer, edited=edited))
    return ds


def captured(
    image: RgbArray, report: Report, frames: Sequence[SourceFrames], *, reviewer: Person | None, edited: bool
) -> RgbArray:
    """Return `image` with the banner and the outlines of what lies on its frames. Raises `PictureError`."""
    regions = [finding.region for finding in report.findings if finding.region and finding.region.source in frames]
    return render_picture(image, report, caption=_caption(frames), reviewer=reviewer, edited=edited, regions=regions)


def mark_capture(
    ds: Dataset,
    header: Dataset,
    report: Report,
    frames: Sequence[SourceFrames],
    *,
    reviewer: Person | None,
    edited: bool,
) -> None:
    """Write what a capture says of itself, of its side and of its sources."""
    _mark_secondary_capture(ds)
    _mark_laterality(ds, header)
    _mark_derivation(ds, header, report, frames)
    said = (clean_text(report.headline), verification_line(reviewer, edited=edited), *statements_of(report))
    ds.ImageComments = "\n".join(said).replace("\\", "/")[:_LONG_TEXT]


def _frames_of(report: Report, sop_instance_uid: str) -> tuple[SourceFrames, ...]:
    of_source = tuple(frames for frames in report.sources if frames.sop_instance_uid == sop_instance_uid)
    return of_source or report.sources


def _caption(frames: Sequence[SourceFrames]) -> str:
    numbers = [number for entry in frames for number in entry.frame_numbers]
    if not numbers or len(frames) > 1:
        return ""
    return f"{'frame' if len(numbers) == 1 else 'frames'} {', '.join(str(number) for number in numbers)}"


def _mark_secondary_capture(ds: Dataset) -> None:
    """SC Equipment and SC Image modules (PS3.3 C.8.6.1, C.8.6.2)."""
    ds.ConversionType = "WSD"
    ds.SecondaryCaptureDeviceManufacturer = OWN_MANUFACTURER
    ds.SecondaryCaptureDeviceManufacturerModelName = ds.ManufacturerModelName
    ds.SecondaryCaptureDeviceSoftwareVersions = OWN_VERSION
    ds.DateOfSecondaryCapture = ds.ContentDate
    ds.TimeOfSecondaryCapture = ds.ContentTime


def _mark_laterality(ds: Dataset, header: Dataset) -> None:
    """Say the side the source says; where it says none, that it is unknown (Laterality, type 2C, PS3.3 C.7.3.1).

    Laterality must be there for a paired body part and may not be there for another: the body part is copied only where
    it agrees with the side, which matters more.
    """
    ds.PatientOrientation = ""
    sides = [keyword for keyword in ("ImageLaterality", "Laterality") if keyword in header]
    body_part = header.get("BodyPartExamined", "")
    if body_part and bool(sides) != (body_part in _UNPAIRED):
        ds.BodyPartExamined = body_part
    if sides:
        setattr(ds, sides[0], header[sides[0]].value)
    elif body_part not in _UNPAIRED:
        ds.Laterality = ""


def _mark_derivation(ds: Dataset, header: Dataset, report: Report, frames: Sequence[SourceFrames]) -> None:
    """General Image and General Reference modules (PS3.3 C.7.6.1, C.12.4)."""
    ds.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    ds.BurnedInAnnotation = "YES"
    ds.DerivationDescription = f"{_DERIVATION}: {report.title}, version {report.algorithm.version}"[:1024]
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in header:  # once lossy, always lossy (PS3.3 C.7.6.1.1.5)
            ds[keyword] = header[keyword]
    sources = []
    for entry in frames:
        one = reference(entry)
        one.PurposeOfReferenceCodeSequence = DicomSequence([concept(codes.SOURCE_IMAGE)])
        sources.append(one)
    ds.SourceImageSequence = DicomSequence(sources)
    if report.replaces:
        replaced = reference(SourceFrames(Comprehensive3DSRStorage, report.replaces, ""))
        replaced.PurposeOfReferenceCodeSequence = DicomSequence([concept(codes.REPLACED_REPORT)])
        ds.ReferencedInstanceSequence = DicomSequence([replaced])


def put_pixels(ds: Dataset, picture: RgbArray) -> None:
    """Write uint8 [frames x] rows x columns x 3.

    Image Pixel module (PS3.3 C.7.6.3). Uncompressed: every viewer shows it, and noise hardly compresses in RLE."""
    ds.SamplesPerPixel = 3
    ds.PhotometricInterpretation = "RGB"
    ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = picture.shape[-3:-1]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    ds.PixelRepresentation = 0
    pixels = picture.tobytes()
    ds.PixelData = pixels + b"\0" * (len(pixels) % 2)
    ds["PixelData"].VR = "OB"
