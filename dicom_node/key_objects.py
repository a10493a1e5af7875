"""Frames or results -> Key Object Selection: what to look at, or what to reject (PS3.3 A.35.4, PS3.16 TID 2010).

Input: a `Report` with the frames that its answer rests on; or the results of an answer that a person rejected. Output:
a Key Object Selection Document, the same for the same input. A rejection note is one whose title says why its objects
are rejected (IHE Imaging Object Change Management, RAD-66): archives that know the profile hide them,
others keep the note beside them. On failure `KeyObjectError` (or `EvidenceError`) names the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import KeyObjectSelectionDocumentStorage

from dicom_node import codes
from dicom_node.codes import Code
from dicom_node.evidence import CHARACTER_SET, copy_patient_and_study, evidence_header
from dicom_node.headers import OWN_MANUFACTURER
from dicom_node.marking import OWN_VERSION, clean_text, concept, mark_times, statements_of
from dicom_node.picture import verification_line
from dicom_node.placement import Placement, begin_result, evidence_of, merged, reference
from dicom_node.report import Algorithm, Person, Report, SourceFrames

#: SOP classes whose instances are images: the results of others are COMPOSITE items (PS3.3 C.18.3, C.18.4).
_NOT_IMAGES: Final = ("1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.11.", "1.2.840.10008.5.1.4.1.1.104.")
#: What a rejection note takes over from a rejected result: who made it.
_EQUIPMENT: Final = (
    *("ManufacturerModelName", "DeviceSerialNumber", "ContributingEquipmentSequence", "TimezoneOffsetFromUTC"),
)


class KeyObjectError(ValueError):
    """The selection cannot be written; the message names the reason."""


def build_key_objects(
    report: Report,
    source: Path | Dataset,
    frames: Sequence[SourceFrames],
    place: Placement,
    *,
    reviewer: Person | None = None,
    edited: bool = False,
) -> Dataset:
    """Return the selection of `frames`, titled "Of Interest", with the answer and its warnings as the description.

    `source` is an instance of the study; its header names patient and study. Raises `KeyObjectError`, `EvidenceError`.
    """
    if not frames:
        raise KeyObjectError(f"{report.title}: there is no frame to select; the answer rests on none")
    header = evidence_header(source)
    kind = "AI key objects"
    ds = begin_result(KeyObjectSelectionDocumentStorage, header, report, place, modality="KO", kind=kind)
    said = (report.headline, verification_line(reviewer, edited=edited), *statements_of(report))
    items = [*_device(report.algorithm), _text("CONTAINS", codes.KEY_OBJECT_DESCRIPTION, "\n".join(said))]
    _put_document(ds, codes.OF_INTEREST, items, merged(frames))
    return ds


def build_rejection_note(
    rejected: Sequence[Dataset], title: Code, reviewer: Person, reason: str, place: Placement, rejected_at: datetime
) -> Dataset:
    """Return the rejection note of results of this software, all of one study.

    Args:
        rejected: The results as they were sent, pixels not needed.
        title: Why, of CID 7010: `codes.REJECTED_FOR_QUALITY` or `codes.REJECTED_FOR_SAFETY`.
        reviewer: Who rejects.
        reason: In the reviewer's words.
        place: UIDs and numbers of the note.
        rejected_at: When (aware).

    Raises:
        KeyObjectError: There is nothing to reject, or the results are of several studies.
        EvidenceError: A result lacks a UID.
    """
    studies = {str(result.StudyInstanceUID) for result in rejected}
    if len(studies) != 1:
        raise KeyObjectError(f"a rejection note is about results of one study, not of {len(studies)}")
    first = rejected[0]
    header = evidence_header(first)
    ds = Dataset()
    ds.SpecificCharacterSet = CHARACTER_SET
    ds.SOPClassUID, ds.SOPInstanceUID = KeyObjectSelectionDocumentStorage, place.sop_instance_uid
    copy_patient_and_study(header, ds)
    ds.Modality = "KO"
    ds.SeriesInstanceUID, ds.SeriesNumber = place.series_instance_uid, place.series_number
    ds.SeriesDescription, ds.InstanceNumber = "AI results rejected", place.instance_number
    ds.Manufacturer, ds.SoftwareVersions = OWN_MANUFACTURER, OWN_VERSION
    for keyword in _EQUIPMENT:
        if keyword in first:
            ds[keyword] = first[keyword]
    mark_times(ds, header, rejected_at)
    said = f"AI results rejected by a reviewer: {reason}"
    items = [*_person(reviewer), _text("CONTAINS", codes.KEY_OBJECT_DESCRIPTION, said)]
    _put_document(ds, title, items, [_as_reference(result) for result in rejected])
    return ds


def _as_reference(result: Dataset) -> SourceFrames:
    return SourceFrames(str(result.SOPClassUID), str(result.SOPInstanceUID), str(result.SeriesInstanceUID))


def _put_document(ds: Dataset, title: Code, items: Sequence[Dataset], chosen: Sequence[SourceFrames]) -> None:
    """Write the Key Object Document and SR Document Content modules (PS3.3 C.17.6.2, C.17.3)."""
    ds.ReferencedPerformedProcedureStepSequence = DicomSequence([])
    ds.CurrentRequestedProcedureEvidenceSequence = evidence_of(ds.StudyInstanceUID, chosen)
    ds.ValueType = "CONTAINER"
    ds.ConceptNameCodeSequence = DicomSequence([concept(title)])
    ds.ContinuityOfContent = "SEPARATE"
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "2010"
    ds.ContentTemplateSequence = DicomSequence([template])
    ds.ContentSequence = DicomSequence([*items, *(_object(entry) for entry in chosen)])


def _device(algorithm: Algorithm) -> list[Dataset]:
    """TID 1002 and 1004."""
    return [
        _code("HAS OBS CONTEXT", codes.OBSERVER_TYPE, codes.DEVICE),
        _uid("HAS OBS CONTEXT", codes.DEVICE_OBSERVER_UID, algorithm.device_uid),
        _text("HAS OBS CONTEXT", codes.DEVICE_OBSERVER_NAME, algorithm.name),
        _text("HAS OBS CONTEXT", codes.DEVICE_OBSERVER_MANUFACTURER, algorithm.manufacturer),
        _text("HAS OBS CONTEXT", codes.DEVICE_OBSERVER_MODEL_NAME, algorithm.name),
    ]


def _person(person: Person) -> list[Dataset]:
    """TID 1002 and 1003."""
    name = _content("HAS OBS CONTEXT", "PNAME", codes.PERSON_OBSERVER_NAME)
    name.PersonName = person.name if "^" in person.name else f"{person.name}^"
    said = [_code("HAS OBS CONTEXT", codes.OBSERVER_TYPE, codes.PERSON), name]
    if person.organization:
        said.append(_text("HAS OBS CONTEXT", codes.PERSON_OBSERVER_ORGANIZATION, person.organization))
    return said


def _object(frames: SourceFrames) -> Dataset:
    """TID 2010 rows 7 and 9; without a concept name, which would be a purpose of reference."""
    is_image = not frames.sop_class_uid.startswith(_NOT_IMAGES)
    entry = Dataset()
    entry.RelationshipType = "CONTAINS"
    entry.ValueType = "IMAGE" if is_image else "COMPOSITE"
    entry.ReferencedSOPSequence = DicomSequence([reference(frames)])
    return entry


def _content(relationship: str, value_type: str, name: Code) -> Dataset:
    entry = Dataset()
    entry.RelationshipType = relationship
    entry.ValueType = value_type
    entry.ConceptNameCodeSequence = DicomSequence([concept(name)])
    return entry


def _code(relationship: str, name: Code, value: Code) -> Dataset:
    entry = _content(relationship, "CODE", name)
    entry.ConceptCodeSequence = DicomSequence([concept(value)])
    return entry


def _text(relationship: str, name: Code, text: str) -> Dataset:
    entry = _content(relationship, "TEXT", name)
    entry.TextValue = clean_text(text)
    return entry


def _uid(relationship: str, name: Code, uid: str) -> Dataset:
    entry = _content(relationship, "UIDREF", name)
    entry.UID = uid
    return entry
