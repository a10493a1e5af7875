"""Finished data set -> bytes for the outbox, read back and checked before they leave.

Input: what the modules that build results return. Output: a DICOM file (PS3.10) in Explicit VR Little
Endian, the same bytes for the same data set. On failure `ResultError` says what the written object lacks; it must not
be sent.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Collection
from io import BytesIO
from typing import Final

import highdicom.sr as hd
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
)

from dicom_node.evidence import PATIENT_AND_STUDY
from dicom_node.headers import OWN_MANUFACTURER
from dicom_node.marking import RESEARCH_STATEMENT, STANDIN_WARNING, clean_text
from dicom_node.report import Report
from dicom_node.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, is_valid_uid

# highdicom logs each attribute it copies, values included: nothing of a patient may reach a log.
logging.getLogger("highdicom").setLevel(logging.ERROR)

#: Of every result.
TRANSFER_SYNTAX: Final = ExplicitVRLittleEndian
_IMAGING_MEASUREMENTS: Final = "126010"
_MEASUREMENT_GROUP: Final = "125007"


class ResultError(ValueError):
    """A written result does not say what it must; the message names the object and what is wrong."""


def write_dicom(ds: Dataset) -> bytes:
    """Return the data set as a DICOM file in Explicit VR Little Endian; equal data sets give equal bytes."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = TRANSFER_SYNTAX
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    plain = FileDataset(BytesIO(), {}, file_meta=meta, preamble=b"\0" * 128)
    plain.update(dict(ds))
    buffer = BytesIO()
    dcmwrite(buffer, plain, enforce_file_format=True)
    return buffer.getvalue()


def check_result(data: bytes, report: Report, *, verified: bool = False) -> None:
    """Read a written result back and compare it with its report. Raises `ResultError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # identifiers of the source may be longer than their VR allows
            ds = dcmread(BytesIO(data))
            _check_common(ds)
            check = _CHECKS.get(ds.SOPClassUID)
            _demand(check is not None, ds, f"SOP class {ds.SOPClassUID} is none that this software writes")
            if check is not None:
                check(ds, report)
            if ds.SOPClassUID == Comprehensive3DSRStorage:
                _check_signature(ds, verified=verified)
    except ResultError:
        raise
    except (InvalidDicomError, AttributeError, KeyError, IndexError, TypeError, ValueError, EOFError) as error:
        raise ResultError(f"{report.title}: the written object cannot be read back: {error}") from error


def _demand(condition: bool, ds: Dataset, lack: str) -> None:
    if not condition:
        raise ResultError(f"{ds.SOPInstanceUID}: {lack}; the object is not sent")


def _check_common(ds: FileDataset) -> None:
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        _demand(is_valid_uid(str(ds[keyword].value)), ds, f"{keyword} {ds[keyword].value!r} is not a valid UID")
    _demand(bool(ds.StudyInstanceUID), ds, "StudyInstanceUID is empty")
    meta = ds.file_meta
    _demand(meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID, ds, "file meta names another instance")
    _demand(meta.MediaStorageSOPClassUID == ds.SOPClassUID, ds, "file meta names another SOP class")
    _demand(ds.Manufacturer == OWN_MANUFACTURER, ds, "Manufacturer is not this software: it would be processed again")
    for keyword in PATIENT_AND_STUDY[:10]:
        _demand(keyword in ds, ds, f"{keyword} is missing")


def check_rejection_note(data: bytes, rejected: Collection[str]) -> None:
    """Read a rejection note back: it must name exactly these SOP Instance UIDs. Raises `ResultError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = dcmread(BytesIO(data))
            _check_common(ds)
            _demand(
                _selected(ds) == _evidence(ds) == set(rejected), ds, "it names other objects than the rejected ones"
            )
    except (InvalidDicomError, AttributeError, KeyError, IndexError, TypeError, ValueError, EOFError) as error:
        if isinstance(error, ResultError):
            raise
        raise ResultError(f"the written rejection note cannot be read back: {error}") from error


def _check_signature(ds: FileDataset, *, verified: bool) -> None:
    wanted = ("VERIFIED", "FINAL") if verified else ("UNVERIFIED", "PRELIMINARY")
    found = (ds.VerificationFlag, ds.PreliminaryFlag)
    _demand(found == wanted, ds, f"verification and preliminary flag are {found}, not {wanted}")
    _demand(("VerifyingObserverSequence" in ds) == verified, ds, "verifying observer and verification flag disagree")


def _check_sr(ds: FileDataset, report: Report) -> None:
    hd.Comprehensive3DSR.from_dataset(ds, copy=False)  # raises where the content tree breaks the standard
    groups = [
        group
        for container in _children(ds, _IMAGING_MEASUREMENTS)
        for group in _children(container, _MEASUREMENT_GROUP)
    ]
    _demand(len(groups) == len(report.findings), ds, f"{len(groups)} findings instead of {len(report.findings)}")
    named = {source.sop_instance_uid for source in report.sources}
    _demand(named <= _evidence(ds), ds, "a source instance is not referenced")
    texts = _texts(ds)
    _demand(clean_text(report.headline) in texts, ds, "the headline is missing")
    _demand(RESEARCH_STATEMENT in texts, ds, f"it does not say {RESEARCH_STATEMENT!r}")
    if report.algorithm.is_standin:
        said = STANDIN_WARNING in texts and STANDIN_WARNING in ds.SeriesDescription
        _demand(said, ds, f"it does not say {STANDIN_WARNING!r}")


def _check_capture(ds: FileDataset, report: Report) -> None:
    _demand(ds.BurnedInAnnotation == "YES", ds, "BurnedInAnnotation is not YES")
    frames = int(ds.get("NumberOfFrames", 1))
    _demand(len(ds.PixelData) >= frames * ds.Rows * ds.Columns * 3, ds, "pixel data are shorter than its frames")
    referenced = {entry.ReferencedSOPInstanceUID for entry in ds.SourceImageSequence}
    _demand_sources(ds, report, referenced)
    _demand_warnings(ds, report, ds.ImageComments)


def _check_key_objects(ds: FileDataset, report: Report) -> None:
    _demand_sources(ds, report, _selected(ds))
    _demand(_selected(ds) == _evidence(ds), ds, "content and evidence name different instances")
    _demand_warnings(ds, report, "\n".join(_texts(ds)))


def _check_presentation(ds: FileDataset, report: Report) -> None:
    shown = {image.ReferencedSOPInstanceUID for s in ds.ReferencedSeriesSequence for image in s.ReferencedImageSequence}
    _demand_sources(ds, report, shown)
    texts = [t.UnformattedTextValue for a in ds.GraphicAnnotationSequence for t in a.get("TextObjectSequence", ())]
    _demand_warnings(ds, report, "\n".join(texts))


def _check_pdf(ds: FileDataset, report: Report) -> None:
    pages = ds.EncapsulatedDocument[: ds.EncapsulatedDocumentLength]
    _demand(pages.startswith(b"%PDF-") and b"%%EOF" in pages[-32:], ds, "its document is no whole PDF")
    _demand_sources(ds, report, {entry.ReferencedSOPInstanceUID for entry in ds.SourceInstanceSequence})
    warning = STANDIN_WARNING if report.algorithm.is_standin else RESEARCH_STATEMENT
    _demand(warning in ds.DocumentTitle, ds, f"its title does not say {warning!r}")


def _demand_sources(ds: FileDataset, report: Report, referenced: set[str]) -> None:
    known = {frames.sop_instance_uid for frames in report.sources}
    _demand(bool(referenced) and referenced <= known, ds, "it references other instances than the report's sources")


def _demand_warnings(ds: FileDataset, report: Report, text: str) -> None:
    _demand(RESEARCH_STATEMENT in text, ds, f"it does not say {RESEARCH_STATEMENT!r}")
    if report.algorithm.is_standin:
        said = STANDIN_WARNING in text and STANDIN_WARNING in ds.SeriesDescription
        _demand(said, ds, f"it does not say {STANDIN_WARNING!r}")


def _evidence(ds: Dataset) -> set[str]:
    return {
        instance.ReferencedSOPInstanceUID
        for study in ds.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }


def _selected(ds: Dataset) -> set[str]:
    """Return the objects that a Key Object Selection names in its content."""
    named = (child.ReferencedSOPSequence for child in ds.ContentSequence if "ReferencedSOPSequence" in child)
    return {sequence[0].ReferencedSOPInstanceUID for sequence in named}


def _children(node: Dataset, code_value: str) -> list[Dataset]:
    return [child for child in node.ContentSequence if child.ConceptNameCodeSequence[0].CodeValue == code_value]


def _texts(node: Dataset) -> set[str]:
    found = {str(node.TextValue)} if "TextValue" in node else set()
    for child in node.get("ContentSequence", ()):
        found |= _texts(child)
    return found


_CHECKS: Final[dict[str, Callable[[FileDataset, Report], None]]] = {
    Comprehensive3DSRStorage: _check_sr,
    SecondaryCaptureImageStorage: _check_capture,
    MultiFrameTrueColorSecondaryCaptureImageStorage: _check_capture,
    KeyObjectSelectionDocumentStorage: _check_key_objects,
    GrayscaleSoftcopyPresentationStateStorage: _check_presentation,
    EncapsulatedPDFStorage: _check_pdf,
}
#: SOP classes of the results that this software writes.
RESULT_CLASSES: Final = tuple(str(sop_class_uid) for sop_class_uid in _CHECKS)
