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
from typing import Any, Final

import highdicom.sr as hd
import numpy as np
from highdicom.sr.value_types import ContentSequence
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as published

from dicom_node import codes
from dicom_node.codes import Code
from dicom_node.evidence import CHARACTER_SET, copy_patient_and_study, evidence_header, read_source, uid_of
from dicom_node.headers import OWN_MANUFACTURER
from dicom_node.marking import (
    clean_text,
    mark_equipment,
    mark_private_scheme,
    mark_times,
    series_description,
    statements_of,
)
from dicom_node.report import Algorithm, Person, Region, Report, ReportedFinding, SourceFrames
from dicom_node.uids import derive_uid

_CONTAINS: Final = hd.RelationshipTypeValues.CONTAINS
#: Languages a text may be in beside English, the document's: RFC 5646 tag (CID 5000) -> code meaning.
_LANGUAGES: Final = {"de": "German", "es": "Spanish", "fr": "French"}


class SrError(ValueError):
    """A report cannot be written as SR; the message names the reason."""


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
    content = _content(report, verifying if edited else None)
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
        verifying_observer_name=_person_name(verifying) if verifying else None,
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


def _content(report: Report, editor: Person | None) -> Any:
    measurement_report = hd.MeasurementReport(
        observation_context=_observers(report.algorithm, editor),
        procedure_reported=_concept(codes.IMAGING_PROCEDURE),
        imaging_measurements=[_group(report, finding, edited=editor is not None) for finding in report.findings],
    )
    root = measurement_report[0]
    measurements = root.ContentSequence[-1]
    items = list(root.ContentSequence[:-1])
    items += [_image_library(report.sources), measurements, _texts(report)]
    root.ContentSequence = ContentSequence(items)
    return measurement_report


def _concept(code: Code) -> Any:
    return hd.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning)


def _person_name(person: Person) -> str:
    """Return the name with at least one caret, which tells a family name from a whole name (PS3.5 6.2.1)."""
    return person.name if "^" in person.name else f"{person.name}^"


def _observers(algorithm: Algorithm, editor: Person | None) -> Any:
    """TID 1001: the device always observed; where a person edited, the person comes first (TID 1003, 1004)."""
    device = hd.ObserverContext(
        observer_type=published.DCM.Device,
        observer_identifying_attributes=hd.DeviceObserverIdentifyingAttributes(
            uid=algorithm.device_uid,
            name=algorithm.name,
            manufacturer_name=algorithm.manufacturer,
            model_name=algorithm.name,
            serial_number=algorithm.device_uid,
        ),
    )
    person = None
    if editor is not None:
        person = hd.ObserverContext(
            observer_type=published.DCM.Person,
            observer_identifying_attributes=hd.PersonObserverIdentifyingAttributes(
                name=_person_name(editor), organization_name=editor.organization
            ),
        )
    return hd.ObservationContext(observer_person_context=person, observer_device_context=device)


def _algorithm(algorithm: Algorithm) -> Any:
    """TID 4019."""
    return hd.AlgorithmIdentification(
        name=algorithm.name,
        version=algorithm.version,
        manufacturer=algorithm.manufacturer,
        parameters=list(algorithm.parameters) or None,
        family=_concept(codes.ARTIFICIAL_INTELLIGENCE),
    )


def _group(report: Report, finding: ReportedFinding, *, edited: bool) -> Any:
    """TID 1501, or TID 1410 where the finding has a region.

    An edited finding is a person's, so no group of an edited report names the algorithm as its author.
    """
    first = report.sources[0]
    tracking_uid = derive_uid("tracking", report.algorithm.name, first.sop_instance_uid, finding.tracking_id)
    content: dict[str, Any] = {
        "tracking_identifier": hd.TrackingIdentifier(uid=tracking_uid, identifier=finding.tracking_id),
        "finding_type": _concept(finding.finding_type),
        "algorithm_id": None if edited else _algorithm(report.algorithm),
        "finding_sites": [hd.FindingSite(anatomic_location=_concept(site)) for site in finding.sites],
        "measurements": [
            hd.Measurement(name=_concept(m.name), value=m.value, unit=_concept(m.unit)) for m in finding.measurements
        ],
        "qualitative_evaluations": [
            hd.QualitativeEvaluation(name=_concept(e.name), value=_concept(e.value)) for e in finding.evaluations
        ],
    }
    if finding.region is not None:
        return hd.PlanarROIMeasurementsAndQualitativeEvaluations(**content, referenced_region=_outline(finding.region))
    group = hd.MeasurementsAndQualitativeEvaluations(
        **content,
        source_images=[
            hd.SourceImageForMeasurementGroup(f.sop_class_uid, f.sop_instance_uid, list(f.frame_numbers) or None)
            for f in finding.sources
        ],
    )
    if finding.times_s:
        group[0].ContentSequence.append(_moments(finding))
    return group


def _moments(finding: ReportedFinding) -> Any:
    """Return the moments of a video as a TCOORD: seconds after its start (PS3.3 C.18.7; TID 1501 is extensible)."""
    moments = hd.TcoordContentItem(
        name=_concept(codes.SOURCE),
        temporal_range_type=hd.TemporalRangeTypeValues.MULTIPOINT,
        referenced_time_offsets=[round(time, 3) for time in finding.times_s],
        relationship_type=_CONTAINS,
    )
    video = finding.sources[0]
    selected = hd.ImageContentItem(
        name=_concept(codes.SOURCE),
        referenced_sop_class_uid=video.sop_class_uid,
        referenced_sop_instance_uid=video.sop_instance_uid,
        referenced_frame_numbers=list(video.frame_numbers) or None,
        relationship_type=hd.RelationshipTypeValues.SELECTED_FROM,
    )
    moments.ContentSequence = ContentSequence([selected])
    return moments


def _outline(region: Region) -> Any:
    """Return the outline as an SCOORD on its image: a polyline whose last point is its first is closed (C.18.6.1.2)."""
    source = region.source
    return hd.ImageRegion(
        graphic_type=hd.GraphicTypeValues.POLYLINE,
        graphic_data=np.array([*region.outline, region.outline[0]], dtype=np.float32),
        source_image=hd.SourceImageForRegion(
            source.sop_class_uid, source.sop_instance_uid, list(source.frame_numbers) or None
        ),
    )


def _image_library(sources: Sequence[SourceFrames]) -> Any:
    """TID 1600 by hand: highdicom's own needs attributes that XA, CR and enhanced CT lack."""
    library = hd.ContainerContentItem(name=_concept(codes.IMAGE_LIBRARY), relationship_type=_CONTAINS)
    group = hd.ContainerContentItem(name=_concept(codes.IMAGE_LIBRARY_GROUP), relationship_type=_CONTAINS)
    images = {frames.sop_instance_uid: frames for frames in sources}
    group.ContentSequence = ContentSequence(
        [
            hd.ImageContentItem(
                name=_concept(codes.SOURCE),
                referenced_sop_class_uid=frames.sop_class_uid,
                referenced_sop_instance_uid=frames.sop_instance_uid,
                relationship_type=_CONTAINS,
            )
            for frames in images.values()
        ]
    )
    library.ContentSequence = ContentSequence([group])
    return library


def _texts(report: Report) -> Any:
    """TID 1500 row 12: free text below "Qualitative Evaluations"; what must be known comes before what was found."""
    texts = [(codes.COMMENT, statement) for statement in statements_of(report)]
    texts.append((codes.SUMMARY, clean_text(report.headline)))
    items = [_text(heading, text) for heading, text in texts]
    items += [_text(n.heading, text, n.language) for n in report.narratives if (text := clean_text(n.text))]
    container = hd.ContainerContentItem(name=_concept(codes.QUALITATIVE_EVALUATIONS), relationship_type=_CONTAINS)
    container.ContentSequence = ContentSequence(items)
    return container


def _text(heading: Code, text: str, language: str = "en") -> Any:
    """Return a text; one that is not English, the document's language, carries its own (TID 1204)."""
    text_item = hd.TextContentItem(name=_concept(heading), value=text, relationship_type=_CONTAINS)
    if language != "en":
        if language not in _LANGUAGES:
            raise SrError(f"a text is in {language!r}; there are codes for en, {', '.join(_LANGUAGES)}")
        own = hd.CodeContentItem(
            name=published.DCM.LanguageOfContentItemAndDescendants,
            value=hd.CodedConcept(value=language, scheme_designator="RFC5646", meaning=_LANGUAGES[language]),
            relationship_type=hd.RelationshipTypeValues.HAS_CONCEPT_MOD,
        )
        text_item.ContentSequence = ContentSequence([own])
    return text_item
