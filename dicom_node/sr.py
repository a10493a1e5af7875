"""Report -> SR: a Comprehensive 3D SR with the TID 1500 measurement report, and its successors.

Input: a `Report` and the source instances it rests on. Output: a data set, the same for the same input: UNVERIFIED and
PRELIMINARY for the algorithm's own answer; VERIFIED and FINAL where a person signed; with a predecessor where it takes
the place of an earlier document. The document is in English (TID 1204); an answer's text in another language says so
itself. On failure `SrError` (or `EvidenceError`) names the input and the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import highdicom.sr as hd
from pydicom.dataset import Dataset

from dicom_node.codes import Code
from dicom_node.evidence import CHARACTER_SET, copy_patient_and_study, evidence_header, read_source, uid_of
from dicom_node.headers import OWN_MANUFACTURER
from dicom_node.marking import (
    clean_text,
    mark_equipment,
    mark_private_scheme,
    mark_times,
    series_description,
)
from dicom_node.report import Person, Report, SourceFrames
from dicom_node.sr_content import SrError, measurement_report, person_name

__all__ = ["SrError", "build_sr"]


def build_sr(
    report: Report,
    sources: Sequence[Path | Dataset],
    *,
    sop_instance_uid: str,
    series_instance_uid: str,
    series_number: int,
    instance_number: int = 1,
    predecessor: Dataset | None = None,
    verifying: Person | None = None,
    verified_at: datetime | None = None,
    edited: bool = False,
) -> Dataset:
    """Return the SR document (PS3.3 A.35.13, PS3.16 TID 1500) of a report.

    `sources` are the instances of `report.sources`, all of one study; the first one's header names patient and study.
    `predecessor` is the document this one takes the place of. `verifying` signs it, at `verified_at` (aware; the moment
    of the answer by default). `edited` says that `verifying` changed the findings. Raises `SrError`, `EvidenceError`.
    """
    headers = [read_source(source) for source in sources]
    _check(report, headers, verifying, edited=edited)
    header = evidence_header(sources[0])
    content = measurement_report(report, verifying if edited else None)
    document = _Document(
        evidence=_evidence(report, header),
        content=content,
        series_instance_uid=series_instance_uid,
        series_number=series_number,
        sop_instance_uid=sop_instance_uid,
        instance_number=instance_number,
        manufacturer=OWN_MANUFACTURER,
        is_complete=True,
        is_final=verifying is not None,
        is_verified=verifying is not None,
        verifying_observer_name=person_name(verifying) if verifying else None,
        verifying_organization=verifying.organization if verifying else None,
        previous_versions=[predecessor] if predecessor is not None else None,
        specific_character_set=CHARACTER_SET,
        series_description=series_description(report, "AI results SR"),
    )
    copy_patient_and_study(header, document)
    mark_equipment(document, report.algorithm, report.answered_at)
    mark_times(document, header, report.answered_at)
    mark_private_scheme(document, _codes_of(report))
    if verifying is not None:
        signed = (verified_at or report.answered_at).astimezone(UTC)
        document.VerifyingObserverSequence[0].VerificationDateTime = signed.strftime("%Y%m%d%H%M%S.%f+0000")
    return document


class _Document(hd.Comprehensive3DSR):  # type: ignore[misc]
    """highdicom's document, without its copying of patient and study, which knows only some SOP classes."""

    def copy_patient_and_study_information(self, dataset: Dataset) -> None:
        """Do nothing: `build_sr` copies from the sanitised header."""


def _check(report: Report, headers: Sequence[Dataset], verifying: Person | None, *, edited: bool) -> None:
    if not headers or not report.sources:
        raise SrError(f"{report.title}: no source instance is given; a report must rest on at least one")
    if not clean_text(report.headline):
        raise SrError(f"{report.title}: the report has no headline; say the answer in one line")
    if not report.findings:
        raise SrError(f"{report.title}: the report has no finding; TID 1500 needs at least one measurement group")
    studies = {uid_of(header, "StudyInstanceUID") for header in headers}
    if len(studies) != 1:
        raise SrError(f"{report.title}: the sources belong to {len(studies)} studies; write one report for each study")
    given = {uid_of(header, "SOPInstanceUID") for header in headers}
    named = _named(report)
    if missing := sorted({frames.sop_instance_uid for frames in named} - given):
        names = ", ".join(missing[:3])
        raise SrError(f"{report.title}: {len(missing)} instances it rests on are not among the sources, first {names}")
    if edited and verifying is None:
        raise SrError(f"{report.title}: an edited report needs the person who edited it")
    if verifying is not None and not (verifying.name.strip() and verifying.organization.strip()):
        raise SrError(f"{report.title}: the verifying person needs a name and an organisation (PS3.3 C.17.2)")


def _evidence(report: Report, header: Dataset) -> list[Dataset]:
    """Every instance the report names, once, in order, as highdicom wants it: all in the study of the header."""
    evidence = []
    for frames in {frames.sop_instance_uid: frames for frames in _named(report)}.values():
        entry = Dataset()
        entry.SOPClassUID = frames.sop_class_uid
        entry.SOPInstanceUID = frames.sop_instance_uid
        entry.StudyInstanceUID = header.StudyInstanceUID
        entry.SeriesInstanceUID = frames.series_instance_uid
        evidence.append(entry)
    first = evidence[0]
    # The base class insists on these; `build_sr` then writes the header's.
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
        setattr(first, keyword, "")
    first.StudyDate = first.StudyTime = None
    return evidence


def _named(report: Report) -> list[SourceFrames]:
    """Return every reference to a source that the report makes."""
    regions = [finding.region.source for finding in report.findings if finding.region is not None]
    return [*report.sources, *(frames for finding in report.findings for frames in finding.sources), *regions]


def _codes_of(report: Report) -> list[Code]:
    used = [narrative.heading for narrative in report.narratives]
    for finding in report.findings:
        used += [finding.finding_type, *finding.sites]
        used += [code for evaluation in finding.evaluations for code in (evaluation.name, evaluation.value)]
        used += [code for measurement in finding.measurements for code in (measurement.name, measurement.unit)]
    return used
