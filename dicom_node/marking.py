"""What every object this software writes says about itself: maker, algorithm, warnings and time.

Input: a report and the evidence header. Output: the attributes that SR documents and captures share (General and
Enhanced General Equipment PS3.3 C.7.5, Contributing Equipment C.12.1.1.5, dates), and the sentences that go with the
answer wherever it is shown. Nothing fails here but a time without a zone (`EvidenceError`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from dicom_node import codes
from dicom_node.codes import Code
from dicom_node.evidence import local_time
from dicom_node.headers import OWN_MANUFACTURER
from dicom_node.report import Algorithm, Report

#: Said by every object that rests on the built-in stand-in model.
STANDIN_WARNING: Final = "STAND-IN MODEL: MEANS NOTHING"
#: Said by every result.
RESEARCH_STATEMENT: Final = "Research use, not for diagnosis"
#: Said wherever a probability is shown that was never compared with reviewed cases.
UNCALIBRATED_STATEMENT: Final = (
    "Probabilities are the model's own figures, uncalibrated: never compared with reviewed cases"
)
#: Said by what stands in the place of an earlier result; the structured report names it.
REPLACING_STATEMENT: Final = "Takes the place of an earlier result"
#: Release of this software, for SoftwareVersions.
OWN_VERSION: Final = version("dicom-worker")
_LONG_STRING: Final = 64
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


def shorten(text: str, length: int = _LONG_STRING) -> str:
    """Return `text` on one line and within `length` characters, as SH and LO demand (PS3.5 6.2)."""
    flat = " ".join(text.replace("\\", "/").split())
    return flat if len(flat) <= length else flat[: length - 3].rstrip() + "..."


def clean_text(text: str) -> str:
    """Return `text` without the control characters that DICOM text forbids (PS3.5 6.1.3); lines stay lines."""
    return _CONTROL.sub("", text.replace("\r\n", "\n")).strip()


def statements_of(report: Report) -> tuple[str, ...]:
    """Return the sentences that go with the answer, the loudest first, each once."""
    sentences = [STANDIN_WARNING] if report.algorithm.is_standin else []
    sentences.append(RESEARCH_STATEMENT)
    if not report.calibrated and _has_probability(report):
        sentences.append(UNCALIBRATED_STATEMENT)
    if report.replaces:
        sentences.append(REPLACING_STATEMENT)
    sentences.extend(clean_text(sentence) for sentence in report.statements)
    return tuple(dict.fromkeys(sentence for sentence in sentences if sentence))


def probability_of(report: Report) -> float | None:
    """Return the first probability among the findings, if any, in [0, 1]."""
    return next((m.value for f in report.findings for m in f.measurements if m.name == codes.PROBABILITY), None)


def _has_probability(report: Report) -> bool:
    return probability_of(report) is not None


def series_description(report: Report, kind: str) -> str:
    """Return SeriesDescription: what a PACS shows in its list, so a stand-in says there what it is."""
    return shorten(f"{STANDIN_WARNING} - {report.title}" if report.algorithm.is_standin else f"{report.title} {kind}")


def mark_equipment(ds: Dataset, algorithm: Algorithm, answered_at: datetime) -> None:
    """Write who made the object (PS3.3 C.7.5.1, C.7.5.2) and which algorithm spoke, and when (C.12.1.1.5)."""
    ds.Manufacturer = OWN_MANUFACTURER
    ds.ManufacturerModelName = shorten(algorithm.name)
    # The weights are the device: another set of weights is another serial number.
    ds.DeviceSerialNumber = algorithm.device_uid
    ds.SoftwareVersions = [OWN_VERSION, shorten(algorithm.version)]
    contributor = Dataset()
    contributor.PurposeOfReferenceCodeSequence = DicomSequence([concept(codes.PROCESSING_EQUIPMENT)])
    contributor.Manufacturer = shorten(algorithm.manufacturer)
    contributor.ManufacturerModelName = shorten(algorithm.name)
    contributor.DeviceSerialNumber = algorithm.device_uid
    contributor.SoftwareVersions = shorten(algorithm.version)
    contributor.DeviceUID = algorithm.device_uid
    contributor.ContributionDateTime = answered_at.astimezone(UTC).strftime("%Y%m%d%H%M%S.%f+0000")
    contributor.ContributionDescription = STANDIN_WARNING if algorithm.is_standin else "Algorithm that gave the answer"
    ds.ContributingEquipmentSequence = DicomSequence([contributor])


def mark_times(ds: Dataset, header: Dataset, answered_at: datetime) -> None:
    """Write creation, series and content date and time from the moment of the answer, never from the clock."""
    moment = local_time(answered_at, header)
    if "TimezoneOffsetFromUTC" in header:
        ds.TimezoneOffsetFromUTC = header.TimezoneOffsetFromUTC
    for prefix in ("InstanceCreation", "Series", "Content"):
        setattr(ds, f"{prefix}Date", moment.strftime("%Y%m%d"))
        setattr(ds, f"{prefix}Time", moment.strftime("%H%M%S.%f"))


def mark_private_scheme(ds: Dataset, used: Iterable[Code]) -> None:
    """Declare the private coding scheme where one of its concepts is used (PS3.3 C.12.1.1.1)."""
    if any(code.scheme == codes.PRIVATE_SCHEME for code in used):
        scheme = Dataset()
        scheme.CodingSchemeDesignator = codes.PRIVATE_SCHEME
        scheme.CodingSchemeName = codes.PRIVATE_SCHEME_NAME
        scheme.CodingSchemeResponsibleOrganization = OWN_MANUFACTURER
        ds.CodingSchemeIdentificationSequence = DicomSequence([scheme])


def concept(code: Code) -> Dataset:
    """Return a code as an item of a code sequence (PS3.3 8.8)."""
    ds = Dataset()
    ds.CodeValue = code.value
    ds.CodingSchemeDesignator = code.scheme
    ds.CodeMeaning = code.meaning
    return ds
