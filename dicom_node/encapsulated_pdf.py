"""Report on paper -> Encapsulated PDF: pages that a PACS keeps with the study (PS3.3 A.45.1).

Input: a `Report`, the source instance and the bytes of a PDF. Output: an Encapsulated PDF data set, the same for the
same input. On failure `EncapsulationError` (or `EvidenceError`) names the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node import codes
from dicom_node.evidence import evidence_header
from dicom_node.headers import OWN_MANUFACTURER
from dicom_node.marking import RESEARCH_STATEMENT, STANDIN_WARNING, concept
from dicom_node.pdf_report import Subject, render_pdf
from dicom_node.picture import RgbArray
from dicom_node.placement import Placement, begin_result, merged, reference
from dicom_node.report import Person, Report, SourceFrames

#: Longest ST (PS3.5 6.2).
_SHORT_TEXT = 1024


class EncapsulationError(ValueError):
    """The pages cannot be encapsulated; the message names the reason."""


def build_encapsulated_pdf(
    report: Report,
    source: Path | Dataset,
    pictures: Sequence[RgbArray],
    place: Placement,
    *,
    reviewer: Person | None = None,
    edited: bool = False,
) -> Dataset:
    """Return the report as an Encapsulated PDF with `pictures` (uint8, rows x columns x 3), one page each.

    `source` is an instance of the study; its header names patient and study. Raises `PictureError`, `EvidenceError`.
    """
    header = evidence_header(source)
    subject = Subject(
        patient_name=str(header.PatientName or ""),
        patient_id=str(header.PatientID or ""),
        birth_date=str(header.PatientBirthDate or ""),
        study_date=str(header.StudyDate or ""),
        accession_number=str(header.AccessionNumber or ""),
    )
    pages = render_pdf(report, subject, pictures, reviewer=reviewer, edited=edited)
    return encapsulate(pages, report, header, report.sources, place)


def encapsulate(
    pages: bytes, report: Report, header: Dataset, sources: Sequence[SourceFrames], place: Placement
) -> Dataset:
    """Return a PDF as a data set (Encapsulated Document Series and Encapsulated Document modules, PS3.3 C.24)."""
    if not pages.startswith(b"%PDF-"):
        raise EncapsulationError(f"{report.title}: these {len(pages)} bytes are no PDF")
    ds = begin_result(EncapsulatedPDFStorage, header, report, place, modality="DOC", kind="AI report PDF")
    ds.ConversionType = "WSD"
    ds.SecondaryCaptureDeviceManufacturer = OWN_MANUFACTURER
    ds.AcquisitionDateTime = ""
    ds.BurnedInAnnotation = "YES"  # the head names the patient
    warning = STANDIN_WARNING if report.algorithm.is_standin else RESEARCH_STATEMENT
    ds.DocumentTitle = f"{warning}: {report.title}"[:_SHORT_TEXT]
    ds.ConceptNameCodeSequence = DicomSequence([concept(codes.IMAGING_REPORT)])
    ds.SourceInstanceSequence = DicomSequence([reference(entry) for entry in merged(sources)])
    ds.MIMETypeOfEncapsulatedDocument = "application/pdf"
    ds.EncapsulatedDocumentLength = len(pages)
    # An OB value has an even number of bytes; the length above tells how many are the PDF's (PS3.3 C.24.2).
    ds.EncapsulatedDocument = pages + b"\0" * (len(pages) % 2)
    return ds
