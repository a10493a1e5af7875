"""Where a result stands in its study, and the attributes that every result begins with.

Input: the sanitised header of a source, a `Placement` and what the result is. Output: a data set with the Patient,
Study, Series and Equipment modules, the times and the references that all results write alike. Nothing fails here but a
time without a zone (`EvidenceError`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence

from dicom_node.evidence import CHARACTER_SET, copy_patient_and_study
from dicom_node.marking import mark_equipment, mark_times, series_description
from dicom_node.report import Report, SourceFrames


@dataclass(frozen=True, slots=True)
class Placement:
    """The UIDs and numbers of one result."""

    sop_instance_uid: str
    series_instance_uid: str
    series_number: int
    instance_number: int = 1


def begin_result(
    sop_class_uid: str, header: Dataset, report: Report, place: Placement, *, modality: str, kind: str
) -> Dataset:
    """Return a data set that names patient, study, series, equipment and times.

    Args:
        sop_class_uid: What is being made.
        header: Of `evidence.evidence_header`.
        report: What it tells of.
        place: Its UIDs and numbers.
        modality: Of its series.
        kind: Goes into SeriesDescription: "AI key objects".
    """
    ds = Dataset()
    ds.SpecificCharacterSet = CHARACTER_SET
    ds.SOPClassUID = sop_class_uid
    ds.SOPInstanceUID = place.sop_instance_uid
    copy_patient_and_study(header, ds)
    ds.Modality = modality
    ds.SeriesInstanceUID = place.series_instance_uid
    ds.SeriesNumber = place.series_number
    ds.SeriesDescription = series_description(report, kind)
    ds.InstanceNumber = place.instance_number
    mark_equipment(ds, report.algorithm, report.answered_at)
    mark_times(ds, header, report.answered_at)
    return ds


def reference(frames: SourceFrames) -> Dataset:
    """Return an item of a Referenced SOP or Referenced Image Sequence (PS3.3 10.3, 10.8)."""
    ds = Dataset()
    ds.ReferencedSOPClassUID = frames.sop_class_uid
    ds.ReferencedSOPInstanceUID = frames.sop_instance_uid
    if frames.frame_numbers:
        ds.ReferencedFrameNumber = list(frames.frame_numbers)
    return ds


def merged(frames: Sequence[SourceFrames]) -> tuple[SourceFrames, ...]:
    """Return one entry for each instance, in order, with all of its frames; an instance named as a whole stays so."""
    found: dict[str, SourceFrames] = {}
    for entry in frames:
        known = found.get(entry.sop_instance_uid)
        numbers = set(entry.frame_numbers)
        if known is not None:
            numbers = numbers | set(known.frame_numbers) if numbers and known.frame_numbers else set()
        found[entry.sop_instance_uid] = SourceFrames(
            entry.sop_class_uid, entry.sop_instance_uid, entry.series_instance_uid, tuple(sorted(numbers))
        )
    return tuple(found.values())


def by_series(frames: Sequence[SourceFrames]) -> dict[str, list[SourceFrames]]:
    """Return the entries by their series, in order."""
    found: dict[str, list[SourceFrames]] = {}
    for entry in frames:
        found.setdefault(entry.series_instance_uid, []).append(entry)
    return found


def evidence_of(study_instance_uid: str, frames: Sequence[SourceFrames]) -> DicomSequence:
    """Return a CurrentRequestedProcedureEvidenceSequence (PS3.3 C.17.2.1, table C.17-3a) of one study's instances."""
    study = Dataset()
    study.StudyInstanceUID = study_instance_uid
    series_items = []
    for series_instance_uid, entries in by_series(frames).items():
        series = Dataset()
        whole = [SourceFrames(e.sop_class_uid, e.sop_instance_uid, e.series_instance_uid) for e in entries]
        series.ReferencedSOPSequence = DicomSequence([reference(entry) for entry in whole])
        series.SeriesInstanceUID = series_instance_uid
        series_items.append(series)
    study.ReferencedSeriesSequence = DicomSequence(series_items)
    return DicomSequence([study])
